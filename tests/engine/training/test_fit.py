"""What the config's words become: the model, the order and the batches of a run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from engine import config as configs
from engine.input import oversampling
from engine.input.reader import ShardReader
from engine.training import fit, train
from records.errors import ConfigError
from records.manifest import Manifest


def demo(*overrides: str) -> configs.Config:
    small = ("model.image_side_px=32", "train.global_batch=4")
    return configs.load("configs/demo.yaml", [*small, *overrides])


def test_pictures_are_normalised_by_the_data_sets_own_mean_and_deviation_if_asked(data_set) -> None:
    own = fit.build(demo("model.normalisation=data_set"), data_set).get_layer("preprocess")
    assert (own.mean, own.std) == (128.0, 40.0)
    assert fit.build(demo(), data_set).get_layer("preprocess").mean is None


def test_training_pictures_of_one_grey_can_not_normalise(data_set) -> None:
    flat = dataclasses.replace(data_set, statistics={**data_set.statistics, "deviation": 0.0})
    with pytest.raises(ConfigError, match=r"model\.normalisation is data_set, but the training pictures of"):
        train._check_model(flat, demo("model.normalisation=data_set"))


def test_oversampled_findings_repeat_their_records_in_the_order(data_set: Manifest) -> None:
    findings = f"input.oversampled_findings=[{', '.join(oversampling.GUIDE_FINDINGS[:2])}]"
    with ShardReader(data_set, "train") as reader:
        labels = reader.labels()
    order = fit.epoch_order(demo(findings), data_set, labels)
    repeated = np.flatnonzero(oversampling.repeats(labels, oversampling.GUIDE_FINDINGS[:2]))
    assert order.positions_per_epoch == 20 + len(repeated)
    rows, repeats = order.positions(0)
    assert sorted(rows[repeats > 0]) == repeated.tolist()


@pytest.mark.parametrize("reader_name", ["index", "tfrecord"])
def test_batches_carry_transforms_only_where_pictures_are_varied(data_set, reader_name: str) -> None:
    for varied in (False, True):
        config = demo(f"input.reader={reader_name}", f"augment.zoom={0.1 if varied else 0}")
        with ShardReader(data_set, "train") as reader:
            order = fit.epoch_order(config, data_set, reader.labels())
            inputs, _ = next(iter(fit.training_batches(config, data_set, reader, order)))
        assert isinstance(inputs, dict) == varied
        images = inputs["images"] if varied else inputs
        assert (images.shape, images.dtype) == ((4, 32, 32, 1), tf.uint8)
