from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from engine.ensemble import soup
from engine.evaluation.predictor import load_model
from engine.input.reader import ShardReader
from engine.model.weights import weighted_layers
from records.errors import RunError
from records.manifest import Manifest


def _models(*runs: Path) -> list[Path]:
    return [run / "best.keras" for run in runs]


def _pictures(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 1), np.uint8)


def _logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False))


def _batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in weighted_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]


def test_a_soup_of_two_equal_models_is_that_model(make_run: Callable[..., Path]) -> None:
    one, same = _models(make_run("one", 1), make_run("same", 1))
    expected = _logits(load_model(one), _pictures(6))
    np.testing.assert_array_equal(_logits(soup.average([one, same]), _pictures(6)), expected)


def test_each_weight_is_the_mean_of_the_members(make_run: Callable[..., Path]) -> None:
    paths = _models(*(make_run(f"run{seed}", seed) for seed in (1, 2, 3)))
    expected = [
        np.mean(weights, axis=0)
        for weights in zip(*(load_model(p).get_weights() for p in paths), strict=True)
    ]
    for found, mean in zip(soup.average(paths).get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, mean, atol=1e-7)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"filters": "[8]"}, r"layer `\w+` has weights of .*8.*, not of .*4"),
        ({"filters": "[4, 4]"}, "layer"),
        ({"side_px": 16}, "preprocessing has image_side_px 16, not 32"),
    ],
)
def test_another_architecture_is_refused_by_its_first_difference(
    make_run: Callable[..., Path], other: dict, said: str
) -> None:
    one, strange = _models(make_run("one", 1), make_run("other", 2, **other))
    with pytest.raises(RunError, match=f"other/best.keras: not of the architecture of .*{said}"):
        soup.average([one, strange])


def test_batch_norm_takes_the_statistics_of_the_training_pictures(
    make_run: Callable[..., Path], data_set: Manifest
) -> None:
    model = load_model(_models(make_run("one", 1))[0])
    (layer,) = _batch_norms(model)
    momentum = layer.momentum
    with ShardReader(data_set, "train") as reader:
        assert soup.renew_batch_norm(model, reader) == 12
        images, _ = reader.gather(np.arange(12))
    inputs = np.asarray(keras.Model(model.inputs[0], layer.input)(images), np.float64)
    np.testing.assert_allclose(layer.moving_mean, inputs.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, inputs.var(axis=(0, 1, 2)), rtol=1e-3)
    assert layer.momentum == momentum


def test_variances_of_several_batches_are_pooled(
    make_run: Callable[..., Path], data_set: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soup, "BATCH", 4)
    model = load_model(_models(make_run("one", 1))[0])
    (layer,) = _batch_norms(model)
    with ShardReader(data_set, "train") as reader:
        soup.renew_batch_norm(model, reader)
        images, _ = reader.gather(np.arange(12))
    inputs = np.asarray(keras.Model(model.inputs[0], layer.input)(images), np.float64)
    np.testing.assert_allclose(layer.moving_variance, inputs.var(axis=(0, 1, 2)), rtol=1e-3)


def test_the_pictures_of_the_pass_are_spread_over_the_split() -> None:
    batches = soup._spread_rows(10_000)
    rows = np.concatenate(batches)
    assert len(rows) == soup.MAX_PICTURES
    assert len(set(rows.tolist())) == len(rows)
    assert (rows[0], rows[-1] > 9_900) == (0, True)
    assert soup._spread_rows(1) == []
