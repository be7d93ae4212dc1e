"""Validation gives each record its own logits and labels, and the same numbers whatever the batch."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from engine.input.reader import ShardReader
from engine.losses import BCE, WeightedBCE
from engine.training.validation import Validation, predict_logits
from records.labels import FINDINGS
from records.manifest import Manifest

# One record at a time, a last batch that is smaller, and all records in one.
BATCHES = [1, 3, 100]


@pytest.fixture
def reader(data_set: Manifest) -> Iterator[ShardReader]:
    """The 20 records of the training split: enough for most findings to have both classes."""
    with ShardReader(data_set, "train") as opened:
        yield opened


@pytest.fixture
def model(reader: ShardReader) -> keras.Model:
    """Linear in the pixels, so that NumPy can say what its logits are."""
    built = keras.Sequential(
        [
            keras.Input(reader.image_shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(len(FINDINGS)),
        ]
    )
    rng = np.random.default_rng(3)
    built.set_weights([rng.normal(0, 0.05, weight.shape) for weight in built.get_weights()])
    return built


def _expected(model: keras.Model, reader: ShardReader) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 14) float64 and labels (N, 14) of the records, one by one, without the model's own code."""
    kernel, bias = (weight.astype(np.float64) for weight in model.get_weights())
    logits, labels = [], []
    for row in range(len(reader)):
        (record,) = reader.records(np.array([row]))
        logits.append(np.frombuffer(record.image, np.uint8) / 255 @ kernel + bias)
        labels.append(record.labels)
    return np.array(logits), np.array(labels)


@pytest.mark.parametrize("batch", BATCHES)
def test_each_record_has_its_own_logits_and_labels_in_the_order_of_the_index(model, reader, batch):
    logits, labels = predict_logits(model, reader, batch)
    expected_logits, expected_labels = _expected(model, reader)
    assert logits.shape == labels.shape == (20, len(FINDINGS))
    # Records in another order would be noticed.
    assert not np.allclose(expected_logits, expected_logits[::-1], atol=0.1)
    np.testing.assert_allclose(logits, expected_logits, atol=1e-4)
    np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize("batch", BATCHES)
def test_loss_and_macro_auroc_are_those_of_scikit_learn_whatever_the_batch(model, reader, batch):
    logits, labels = _expected(model, reader)
    scores = 1 / (1 + np.exp(-logits))
    defined = [column for column in range(len(FINDINGS)) if 0 < labels[:, column].mean() < 1]
    assert len(defined) > 1
    loss = np.mean([log_loss(labels[:, f], scores[:, f], labels=[0, 1]) for f in range(len(FINDINGS))])
    auroc = np.mean([roc_auc_score(labels[:, f], scores[:, f]) for f in defined])

    validation = Validation(model, reader, BCE(), batch=batch, threshold=0.5, check=lambda: None)
    logs = {"loss": 0.5}
    validation.on_epoch_end(0, logs)
    assert logs["loss"] == 0.5
    assert logs["val_loss"] == pytest.approx(loss, rel=1e-5)
    assert logs["val_macro_auroc"] == pytest.approx(auroc, abs=1e-9)


def test_a_weighted_loss_weighs_each_record_the_same_whatever_the_batch(model, reader):
    logits, labels = _expected(model, reader)
    scores = 1 / (1 + np.exp(-logits))
    weights = np.arange(1.0, len(FINDINGS) + 1)
    expected = -np.mean(weights * labels * np.log(scores) + (1 - labels) * np.log(1 - scores))
    for batch in BATCHES:
        loss = WeightedBCE(weights.tolist())
        validation = Validation(model, reader, loss, batch=batch, threshold=0.5, check=lambda: None)
        logs: dict[str, float] = {}
        validation.on_epoch_end(0, logs)
        assert logs["val_loss"] == pytest.approx(expected, rel=1e-5)
