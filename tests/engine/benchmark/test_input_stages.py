"""The stages one by one: which there are, and what they work on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from engine.benchmark import input_stages
from engine.benchmark.diagnosis import AUGMENT, COPY, DECODE, GATHER, WHOLE
from engine.benchmark.input_stages import Source
from engine.benchmark.stored_pictures import StoredPictures
from engine.config import AugmentConfig
from engine.input.reader import ShardReader

VARIED = AugmentConfig(
    rotation_degrees=10, zoom=0.1, shift=0.05, brightness=0.1, contrast=0.1, flip=False, originals=True
)


def first_sizes(start: Callable, batches: int = 5) -> list[float]:
    with contextlib.closing(start(0)) as stream:
        return [next(stream) for _ in range(batches)]


def test_raw_pictures_are_not_decoded(source: Source) -> None:
    starts, missing = input_stages.stages(source)
    assert set(starts) == {GATHER, WHOLE}
    assert missing.keys() == {DECODE, AUGMENT, COPY}
    assert missing[DECODE] == "the pictures are stored raw"


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png"])
def test_every_stage_gives_the_batches_of_the_order_without_end(
    tmp_path: Path, write_data_set, make_source, encoding: str
) -> None:
    source = make_source(write_data_set(tmp_path, encoding=encoding), augment=VARIED)
    starts, _ = input_stages.stages(source)
    # An epoch is three batches of 6.
    for start in starts.values():
        assert first_sizes(start) == [6.0] * 5


def test_with_a_device_of_its_own_batches_are_copied_there(data_set, make_source) -> None:
    # Any device but the default one takes the way of a GPU.
    source = make_source(data_set, gpu="/cpu:0", augment=VARIED)
    starts, missing = input_stages.stages(source)
    assert missing.keys() == {DECODE}
    assert set(starts) == {GATHER, AUGMENT, COPY, WHOLE}
    for start in starts.values():
        assert first_sizes(start) == [6.0] * 5


def test_a_split_smaller_than_a_batch_is_one_partial_batch(data_set, make_source) -> None:
    starts, _ = input_stages.stages(make_source(data_set, batch=64, augment=VARIED))
    for start in starts.values():
        assert first_sizes(start, 3) == [20.0] * 3


def test_stages_gather_the_same_records_as_the_whole_pipeline(source: Source, monkeypatch) -> None:
    whole = [labels.numpy() for _, labels in input_stages.whole(source, epoch=1).take(4)]
    gathered = {}
    gather = ShardReader.gather

    def noted(reader: ShardReader, rows: np.ndarray, out: np.ndarray | None = None):
        images, labels = gather(reader, rows, out)
        gathered[tuple(rows.tolist())] = labels
        return images, labels

    monkeypatch.setattr(ShardReader, "gather", noted)
    starts, _ = input_stages.stages(source)
    with contextlib.closing(starts[GATHER](1)) as stream:
        for _ in range(4):
            next(stream)
    for number, labels in enumerate(whole):
        rows = source.rows(source.first_number(1) + number)
        np.testing.assert_array_equal(gathered[tuple(rows.tolist())], labels)


def test_the_stored_bytes_of_a_batch_are_those_of_its_records(
    tmp_path: Path, write_data_set, make_source
) -> None:
    data_set = write_data_set(tmp_path, encoding="png")
    reader, stored = make_source(data_set).reader, StoredPictures(data_set, "train")
    rows = np.array([11, 0, 19])
    assert stored.copy(rows).tobytes() == b"".join(record.image for record in reader.records(rows))
    everything = reader.records(np.arange(20))
    assert stored.mean_bytes == pytest.approx(np.mean([len(record.image) for record in everything]))


def test_the_whole_pipeline_gives_what_training_gets(source: Source, data_set, make_source) -> None:
    images, labels = next(iter(input_stages.whole(source)))
    assert (images.dtype, images.shape, labels.shape) == (tf.uint8, (6, 32, 32, 1), (6, 14))
    inputs, _ = next(iter(input_stages.whole(make_source(data_set, augment=VARIED))))
    assert inputs.keys() == {"images", "transforms"}
