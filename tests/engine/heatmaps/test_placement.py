"""Where cells of feature maps lie: a spot at a cell's centre looks the same to both sides of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from engine.config.model import DenseNetCbamConfig, GuideCnnConfig
from engine.heatmaps import placement
from engine.heatmaps.grad_cam import GradCam
from engine.heatmaps.placement import Placement
from engine.model import build_model

SIDE = 160
DENSENET = DenseNetCbamConfig(
    name="densenet121_cbam",
    weights="none",
    image_side_px=SIDE,
    normalisation="imagenet",
    dropout=0.3,
    head_units=(16,),
    l2=0.0,
    cbam_reduction=2,
    batch_norm_momentum=0.99,
    frozen=(),
)
GUIDE = GuideCnnConfig(
    name="guide_cnn",
    weights="none",
    image_side_px=SIDE,
    normalisation="imagenet",
    dropout=0.2,
    filters=(2, 3, 4),
    kernel_px=7,
)


def even(config, stored_side_px: int) -> keras.Model:
    """A network whose convolutions weigh all that they see alike."""
    built = build_model(
        config,
        stored_side_px=stored_side_px,
        stored_channels=1,
        mean_and_deviation=(0.0, 255.0),
        findings=14,
    )
    layers = [layer for part in built.layers for layer in getattr(part, "layers", [part])]
    for layer in layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, *bias = layer.get_weights()
            layer.set_weights([np.full_like(kernel, 1 / kernel[..., 0].size), *bias])
    return built


@pytest.mark.parametrize(
    ("config", "stored", "expected"),
    [
        (GUIDE, SIDE, Placement(22.5, 4.0)),
        (GUIDE, 2 * SIDE, Placement(45.5, 8.0)),
        (DENSENET, SIDE, Placement(14.0, 32.0)),
        (DENSENET, 2 * SIDE, Placement(28.5, 64.0)),
    ],
)
def test_a_cell_sees_both_sides_of_its_centre_alike(config, stored, expected):
    model = even(config, stored)
    cam = GradCam(model)
    assert cam.placement == expected
    cells = cam._body.output_shape[1]
    middle = cells // 2
    spot = expected.first_px + middle * expected.step_px
    along = np.arange(stored) - spot
    picture = 200 * np.exp(-(along**2) / (2 * (stored / 24) ** 2))
    image = np.minimum.outer(picture, picture)[None, ..., None].round().astype(np.uint8)
    seen = np.asarray(cam._body(image, training=False))[0].mean(axis=-1)
    assert np.unravel_index(seen.argmax(), seen.shape) == (middle, middle)
    tolerance = 1e-4 * float(np.ptp(seen))
    for away in range(1, min(middle, cells - 1 - middle)):
        before, after = middle - away, middle + away
        np.testing.assert_allclose(seen[middle, before], seen[middle, after], atol=tolerance)
        np.testing.assert_allclose(seen[before, middle], seen[after, middle], atol=tolerance)


def test_maps_of_evenly_spread_cells_are_resized_bilinearly():
    cells = np.random.default_rng(0).random((3, 5, 5)).astype(np.float32)
    resized = keras.ops.image.resize(cells[..., None], (40, 40), interpolation="bilinear")
    ours = placement.upsample(cells, Placement(3.5, 8.0), 40)
    expected = np.asarray(resized)[..., 0]
    np.testing.assert_allclose(ours[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-6)
    np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_a_cells_centre_has_its_value_and_the_rim_without_cells_has_none():
    cells = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3)
    drawn = placement.upsample(cells, Placement(20, 10), 60)[0]
    np.testing.assert_array_equal(drawn[20:41:10, 20:41:10], cells[0])
    assert drawn[15, 20] == pytest.approx(drawn[20, 20], rel=1e-3)  # half a step beyond
    assert 0 < drawn[10, 20] < drawn[15, 20]
    assert not drawn[:6].any()
    assert not drawn[:, 55:].any()


def test_strided_and_padded_layers_are_followed():
    images = keras.Input((30, 30, 1))
    x = keras.layers.Conv2D(2, 3, strides=2, padding="same")(images)  # pads 0 before, 1 behind
    x = keras.layers.Conv2D(2, 3, dilation_rate=2)(x)
    x = keras.layers.AveragePooling2D(3, strides=1, padding="same")(x)
    model = keras.Model(images, x)
    assert placement.of_layers(model.layers) == Placement(1 + 2 * 2, 2)


def test_a_map_is_highest_at_a_cells_centre_also_at_the_edge():
    for place in np.ndindex(3, 3):
        cells = np.zeros((1, 3, 3))
        cells[0][place] = 1
        drawn = placement.upsample(cells, Placement(5, 10), 31)[0]
        assert np.unravel_index(drawn.argmax(), drawn.shape) == (5 + 10 * place[0], 5 + 10 * place[1])
