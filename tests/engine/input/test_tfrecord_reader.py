"""TensorFlow's own reader as a training input: each record once an epoch, in another order each time."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from engine.config import AugmentConfig
from engine.input import transforms
from engine.input.reader import ShardReader
from engine.input.tfrecord_reader import training_batches
from records.errors import ShardError

VARIED = AugmentConfig(10.0, 0.1, 0.05, 0.1, 0.1, flip=False, originals=True)


@pytest.fixture
def images(data_set) -> list[bytes]:
    with ShardReader(data_set, "train") as reader:
        return [image.tobytes() for image in reader.gather(np.arange(20))[0]]


def epochs(batches: tf.data.Dataset, count: int) -> list[list[bytes]]:
    found = [image.tobytes() for pictures, _ in take(batches, 4 * count) for image in pictures.numpy()]
    return [found[20 * epoch : 20 * epoch + 20] for epoch in range(count)]


def take(batches: tf.data.Dataset, count: int) -> list:
    return list(itertools.islice(batches, count))


def test_each_epoch_holds_each_record_once_in_an_order_of_its_own(data_set, images) -> None:
    first, second = epochs(training_batches(data_set, 5, seed=3, shuffle_buffer=20), 2)
    assert sorted(first) == sorted(second) == sorted(images)
    assert first != second
    assert first != images


def test_the_same_seed_gives_the_same_order_and_another_one_another(data_set) -> None:
    one, same, other = (
        epochs(training_batches(data_set, 5, seed=seed, shuffle_buffer=20), 1) for seed in (3, 3, 4)
    )
    assert one == same != other


@pytest.mark.parametrize("seed", [0, 5])
def test_the_processs_own_seed_changes_nothing(data_set, seed: int) -> None:
    before = epochs(training_batches(data_set, 5, seed=0, shuffle_buffer=20), 2)
    tf.random.set_seed(seed)
    try:
        assert epochs(training_batches(data_set, 5, seed=0, shuffle_buffer=20), 2) == before
    finally:
        tf.random.set_seed(None)


def test_a_record_is_varied_as_the_indexed_reader_would(data_set, images) -> None:
    for number, (inputs, _) in enumerate(
        take(training_batches(data_set, 5, seed=3, shuffle_buffer=5, augment=VARIED), 8)
    ):
        rows = np.array([images.index(image.tobytes()) for image in inputs["images"].numpy()])
        wanted = transforms.draw(VARIED, 3, number // 4, rows, np.zeros_like(rows))
        assert np.array_equal(inputs["transforms"], wanted)


def test_shards_without_an_index_are_served_and_the_other_reader_says_so(data_set, images) -> None:
    Path(data_set.locate(data_set.splits["train"].index)).unlink()
    (first,) = epochs(training_batches(data_set, 5, seed=3, shuffle_buffer=20), 1)
    assert sorted(first) == sorted(images)
    with pytest.raises(ShardError, match=r"train\.index\.npy: can't be read: .*run the conversion again"):
        ShardReader(data_set, "train")


def test_what_does_not_fill_an_epochs_last_batch_is_left_out(data_set) -> None:
    batches = take(training_batches(data_set, 8, seed=3, shuffle_buffer=20), 4)
    assert [len(images) for images, _ in batches] == [8] * 4
    (whole, _), *_ = take(training_batches(data_set, 64, seed=3, shuffle_buffer=20), 2)
    assert len(whole) == 20
