"""Half precision trains as float32 does: losses of 50 steps within a stated tolerance of it."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from engine.config.optimizer import AdamConfig
from engine.input.reader import ShardReader
from engine.losses import BCE
from engine.training import fit, inputs
from engine.training.optimizers import build_optimizer, loss_scale
from engine.training.step import TrainingStep
from records.manifest import Manifest

MIXED = ("mixed_float16", "mixed_bfloat16")
# Relative, of the loss of any step: half precision has 11 significant bits, bfloat16 8.
TOLERANCES = {"mixed_float16": 0.005, "mixed_bfloat16": 0.02}
BATCH = 8


@pytest.fixture(autouse=True)
def _policy() -> Iterator[None]:
    """Put back what a test sets for the whole process."""
    yield
    keras.config.set_dtype_policy("float32")


def _losses(config, data_set: Manifest, precision: str, steps: int, *, eagerly: bool = False) -> list[float]:
    """Losses of the first steps under a policy, always from the same weights and records."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(5)
    keras.config.set_dtype_policy(precision)
    model = fit.build(config, data_set)
    optimizer = build_optimizer(AdamConfig("adam", 1e-3, 1.0, 0.0), precision)
    step = TrainingStep(model, BCE(), optimizer, records=BATCH)
    with ShardReader(data_set, "train") as reader:
        order = inputs.epoch_order(config, data_set, reader)
        batches = iter(inputs.training_batches(config, data_set, reader, order))
        taken = [next(batches) for _ in range(steps)]
    tf.config.run_functions_eagerly(eagerly)
    outcomes = [step(*batch) for batch in taken]
    tf.config.run_functions_eagerly(False)
    assert not any(bool(outcome.skipped) for outcome in outcomes)
    assert all(outcome.loss.dtype == tf.float32 for outcome in outcomes)
    assert (loss_scale(optimizer) is None) == (precision != "mixed_float16")
    return [float(outcome.loss) for outcome in outcomes]


@pytest.mark.parametrize("precision", MIXED)
def test_fifty_steps_of_the_guides_network_stay_near_float32(data_set, tiny, precision):
    config = tiny("model.filters=[4, 8]", "model.dropout=0", "train.epochs=99", f"train.global_batch={BATCH}")
    expected = _losses(config, data_set, "float32", 50)
    found = _losses(config, data_set, precision, 50)
    assert found != expected
    np.testing.assert_allclose(found, expected, rtol=TOLERANCES[precision])
    assert found[-1] < found[0]


@pytest.mark.slow
def test_some_steps_of_the_densenet_stay_near_float32(data_set, tiny):
    config = tiny(
        "model={name: densenet121_cbam, weights: none, image_side_px: 32, normalisation: imagenet, "
        "head_units: [128, 64], dropout: 0, l2: 0.0001, cbam_reduction: 2, batch_norm_momentum: 0.9, "
        "frozen: []}",
        f"train.global_batch={BATCH}",
    )
    # To trace the network three times would take a minute.
    expected = _losses(config, data_set, "float32", 2, eagerly=True)
    for precision in MIXED:
        found = _losses(config, data_set, precision, 2, eagerly=True)
        np.testing.assert_allclose(found, expected, rtol=0.05)
