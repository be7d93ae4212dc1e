"""Grad-CAM against closed forms, finite differences, and a model that finds bright places by design."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from bright_places import FLOOR, FOUND, IGNORED, brightest, model
from test_placement import DENSENET as LARGE_DENSENET
from test_placement import GUIDE, SIDE

from engine.evaluation.predictor import load_model
from engine.heatmaps import boxes
from engine.heatmaps.grad_cam import CbamMaps, GradCam
from engine.model import build_model, save_model
from records.errors import RunError
from records.labels import FINDINGS

COLUMN = FINDINGS.index(FOUND)
DENSENET = replace(LARGE_DENSENET, image_side_px=64)


def built(config, seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return build_model(
        config, stored_side_px=SIDE, stored_channels=1, mean_and_deviation=(100.0, 60.0), findings=14
    )


def noise(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 1), np.uint8)


def test_with_a_linear_head_it_is_cam():
    # Selvaraju et al. 2017, section 3.1: the weights of CAM, over the number of places.
    made = model()
    head = made.get_layer("logits")
    weights = np.random.default_rng(0).normal(size=(2, 14))
    head.set_weights([weights, np.zeros(14)])
    images = noise(4, 32)
    pictures, findings = np.repeat(np.arange(4), 14), np.tile(np.arange(14), 4)
    maps = GradCam(made).maps(images, pictures, findings)
    features = np.asarray(keras.Model(made.input, made.get_layer("bright").output)(images))
    expected = np.maximum(np.einsum("bhwk,kf->bfhw", features, weights), 0) / 32**2
    np.testing.assert_allclose(maps, expected.reshape(-1, 32, 32), atol=1e-7)
    assert maps.dtype == np.float32


def test_a_bright_place_is_pointed_at():
    images = np.full((3, 32, 32, 1), 60, np.uint8)
    corners = [(3, 20), (14, 5), (24, 25)]
    for image, (row, column) in zip(images, corners, strict=True):
        image[row : row + 5, column : column + 5] = 220
    maps = GradCam(model()).stored(images, [0, 1, 2], [COLUMN] * 3)
    for heat, image, (row, column) in zip(maps, images, corners, strict=True):
        found = boxes.find(heat, np.array([[column, row, 5.0, 5.0]]))
        assert found.hit
        assert found.iou == 1
        assert abs(np.subtract(found.peak, brightest(image[..., 0]))).max() <= 2
        assert heat.min() == 0  # the ground is below FLOOR
    assert FLOOR > 60


def test_a_finding_that_the_model_ignores_has_no_map():
    assert not GradCam(model()).maps(noise(2, 32), [0, 1], [FINDINGS.index(IGNORED)] * 2).any()


@pytest.fixture(scope="module")
def densenet() -> keras.Model:
    return built(DENSENET)


def test_the_weights_of_channels_are_the_logits_slopes(densenet):
    for cam in (GradCam(built(GUIDE)), GradCam(densenet), GradCam(densenet, attention=True)):
        images = noise(2)
        pictures, findings = np.array([0, 1, 1]), np.array([3, 3, 9])
        maps = cam.maps(images, pictures, findings)
        features = np.asarray(cam._body(images, training=False)).astype(np.float64)
        expected = np.stack(
            [_by_differences(cam, features[p], f) for p, f in zip(pictures, findings, strict=True)]
        )
        np.testing.assert_allclose(maps, expected, atol=0.03 * expected.max())
        assert maps.max() > 0


def test_a_saved_model_gives_the_same_maps(densenet, tmp_path):
    for made in (built(GUIDE), densenet):
        save_model(made, tmp_path / "model.keras")
        loaded = load_model(tmp_path / "model.keras")
        maps, again = (GradCam(one).maps(noise(2), [0, 1], [3, 9]) for one in (made, loaded))
        np.testing.assert_allclose(again, maps, atol=1e-6 * maps.max())


def _by_differences(cam: GradCam, features: np.ndarray, finding: int) -> np.ndarray:
    """Raise each channel everywhere by a little: the logit's slope is the places' gradients, added up."""
    small = 1e-2 * features.std()
    channels = features.shape[-1]
    slopes = np.zeros(channels)
    for first in range(0, channels, 256):
        shifts = np.eye(channels)[first : first + 256, None, None, :] * small
        up, down = (
            np.asarray(cam._head((features + sign * shifts).astype(np.float32)))[:, finding]
            for sign in (1, -1)
        )
        slopes[first : first + 256] = (up.astype(np.float64) - down) / (2 * small)
    places = features.shape[0] * features.shape[1]
    return np.maximum(features @ (slopes / places), 0)


def test_maps_of_many_findings_are_those_of_each_alone():
    cam = GradCam(built(GUIDE))
    images = noise(3)
    pictures, findings = np.repeat(np.arange(3), 14), np.tile(np.arange(14), 3)
    together = cam.maps(images, pictures, findings)
    for place in (0, 17, 41):
        alone = cam.maps(images[[pictures[place]]], [0], [findings[place]])
        np.testing.assert_allclose(together[place], alone[0], atol=1e-5 * together.max())


def test_half_floats_give_nearly_the_same_map():
    whole = built(GUIDE)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = built(GUIDE)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(whole.get_weights())
    images = noise(2)
    full, coarse = (GradCam(one).maps(images, [0, 1], [2, 5]) for one in (whole, half))
    assert coarse.dtype == np.float32
    np.testing.assert_allclose(coarse, full, atol=0.02 * full.max())


def test_the_layers_are_those_that_are_named(densenet):
    assert GradCam(built(GUIDE)).layer == "conv_3"
    assert GradCam(densenet).layer == "densenet121"
    assert GradCam(densenet, attention=True).layer == "spatial_attention"


def test_cbams_own_maps_are_what_it_multiplies_by(densenet):
    images = noise(2)
    spatial, channel = CbamMaps(densenet).of(images)
    inputs = [
        densenet.get_layer(name).input for name in ("channel_attention", "spatial_attention", "head_pool")
    ]
    before, between, after = (np.asarray(keras.Model(densenet.input, tensor)(images)) for tensor in inputs)
    np.testing.assert_allclose(before * channel[:, None, None], between, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(between * spatial[..., None], after, rtol=1e-4, atol=1e-6)


def test_a_model_without_what_is_asked_for_is_refused_in_one_line():
    images = keras.Input((8, 8, 1), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    plain = keras.Model(images, keras.layers.Dense(14)(flat), name="plain")
    with pytest.raises(RunError, match="plain: no convolution in this model"):
        GradCam(plain)
    with pytest.raises(RunError, match="no attention in this model; make heat maps without --attention"):
        GradCam(built(GUIDE), attention=True)
    with pytest.raises(RunError, match="no CBAM in this model; make heat maps without --cbam"):
        CbamMaps(built(GUIDE))


def test_a_model_with_a_way_around_its_convolution_is_refused():
    images = keras.Input((8, 8, 1), dtype="uint8")
    pixels = keras.layers.Rescaling(1 / 255)(images)
    convolved = keras.layers.Conv2D(1, 3, padding="same")(pixels)
    x = keras.layers.Flatten()(keras.layers.Add()([convolved, pixels]))
    around = keras.Model(images, keras.layers.Dense(14)(x), name="around")
    with pytest.raises(RunError, match="around: can't be cut behind"):
        GradCam(around)
