"""The preprocessing layer against Keras's own arithmetic and NumPy's means."""

import keras
import numpy as np
import pytest

from engine.model.preprocess import Preprocess

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (2, 64, 64, 3), np.uint8)
GREY = RNG.integers(0, 256, (2, 64, 64, 1), np.uint8)


def _keras_arithmetic(pixels):
    return keras.applications.densenet.preprocess_input(np.array(pixels, np.float32))


def test_rgb_pictures_come_out_as_keras_preprocesses_them():
    np.testing.assert_allclose(Preprocess(64)(RGB), _keras_arithmetic(RGB), atol=1e-6)


def test_a_grey_picture_equals_the_same_picture_stored_three_times():
    layer = Preprocess(64)
    np.testing.assert_array_equal(layer(GREY), Preprocess(64)(GREY.repeat(3, axis=-1)))


@pytest.mark.parametrize("images", [GREY, RGB])
def test_a_side_that_divides_is_reduced_by_the_exact_mean_of_areas(images):
    blocks = images.reshape(2, 16, 4, 16, 4, -1).astype(np.float64).mean(axis=(2, 4))
    expected = _keras_arithmetic(np.broadcast_to(blocks, (2, 16, 16, 3)))
    np.testing.assert_allclose(Preprocess(16)(images), expected, atol=2e-6)


def test_a_side_that_does_not_divide_is_resized_without_aliasing():
    stripes = np.zeros((1, 60, 60, 1), np.uint8)
    stripes[:, :, ::2] = 200
    out = np.asarray(Preprocess(33)(stripes))
    assert out.shape == (1, 33, 33, 3)
    expected = _keras_arithmetic(np.full((1, 1, 1, 3), 100.0))
    # Plain bilinear sampling would give anything from 0 to 200, that is about -2 to 1.4.
    assert np.abs(out[:, 3:-3, 3:-3] - expected).max() < 0.5


@pytest.mark.parametrize("side", [64, 16, 33])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_under_mixed_precision_the_arithmetic_is_float32_and_rounded_once(policy, side, dtype):
    precise = Preprocess(side)(GREY)
    half = Preprocess(side, dtype=policy)(keras.ops.convert_to_tensor(GREY, dtype))
    name = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(half.dtype) == name
    expected = keras.ops.cast(keras.ops.cast(precise, name), "float32")
    np.testing.assert_array_equal(keras.ops.cast(half, "float32"), expected)


@pytest.mark.parametrize("side", [64, 16, 33])
@pytest.mark.parametrize("statistics", [{}, {"mean": 124.25, "std": 63.5}])
def test_a_floating_point_picture_is_treated_like_its_uint8_one(side, statistics):
    layer = Preprocess(side, **statistics)
    np.testing.assert_array_equal(layer(GREY.astype(np.float32)), layer(GREY))


@pytest.mark.parametrize("images", [GREY, RGB])
def test_a_data_sets_own_mean_becomes_zero_and_its_deviation_one_in_each_channel(images):
    out = Preprocess(64, mean=124.25, std=63.5)(images)
    expected = np.broadcast_to((images.astype(np.float64) - 124.25) / 63.5, (2, 64, 64, 3))
    np.testing.assert_allclose(out, expected, atol=2e-6)
    own = Preprocess(64, mean=float(images.mean()), std=float(images.std()))(images)
    np.testing.assert_allclose([np.mean(own), np.std(own)], [0, 1], atol=1e-5)


@pytest.mark.parametrize(
    "statistics",
    [
        {"mean": 128.0},
        {"std": 60.0},
        {"mean": -1.0, "std": 60.0},
        {"mean": 256.0, "std": 60.0},
        {"mean": 128.0, "std": 0.0},
        {"mean": float("nan"), "std": 60.0},
        {"mean": 128.0, "std": float("inf")},
    ],
)
def test_half_of_the_statistics_or_impossible_ones_are_refused(statistics):
    with pytest.raises(ValueError, match=r"mean is .* and std is .*; expected"):
        Preprocess(64, **statistics)


@pytest.mark.parametrize("images", [GREY, GREY.repeat(3, axis=-1)])
def test_one_channel_is_the_grey_that_was_stored_however_often(images):
    out = Preprocess(16, mean=124.25, std=63.5, channels=1)(images)
    blocks = GREY.reshape(2, 16, 4, 16, 4, 1).astype(np.float64).mean(axis=(2, 4))
    np.testing.assert_allclose(out, (blocks - 124.25) / 63.5, atol=2e-6)


def test_one_channel_normalised_as_for_imagenet_takes_the_mean_of_its_channels_numbers():
    out = Preprocess(64, channels=1)(GREY)
    np.testing.assert_allclose(out, (GREY / 255 - 0.449) / 0.226, atol=1e-5)


@pytest.mark.parametrize("statistics", [(None, None), (124.25, 63.5)])
def test_the_layer_keeps_its_settings_when_saved(statistics):
    layer = Preprocess(32, *statistics, channels=1, name="preprocess")
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (loaded.image_side_px, loaded.mean, loaded.std, loaded.channels) == (32, *statistics, 1)
    assert loaded.compute_output_shape((None, 64, 64, 1)) == (None, 32, 32, 1)
    np.testing.assert_array_equal(loaded(GREY), layer(GREY))


def test_a_layer_saved_before_it_had_statistics_and_channels_is_what_it_was():
    layer = Preprocess(64, name="preprocess")
    assert keras.saving.get_registered_name(Preprocess) == "cxr_engine>DenseNetPreprocess"
    config = layer.get_config()
    del config["mean"], config["std"], config["channels"]
    np.testing.assert_array_equal(Preprocess.from_config(config)(RGB), Preprocess(64)(RGB))


@pytest.mark.parametrize("shape", [(2, 64, 64, 2), (2, 64, 32, 1), (2, 64, 64), (2, None, None, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected pictures|can't be reduced"):
        Preprocess(32).build(shape)


def test_a_picture_is_never_enlarged():
    with pytest.raises(ValueError, match="64 px can't be reduced to image_side_px=128"):
        Preprocess(128).build((None, 64, 64, 1))
    with pytest.raises(ValueError, match="at least 1"):
        Preprocess(0)


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(ValueError, match="channels is 2; expected 1 or 3"):
        Preprocess(64, channels=2)
