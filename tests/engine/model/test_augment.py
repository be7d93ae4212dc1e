"""The augmenting layer against SciPy's interpolation, under XLA, under other policies and in training."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from engine.config import AugmentConfig
from engine.input import transforms
from engine.model.augment import Augment, with_augmentation

ALL = AugmentConfig(
    rotation_degrees=36, zoom=0.2, shift=0.1, brightness=0.2, contrast=0.3, flip=True, originals=True
)
IDENTITY = np.array(transforms.IDENTITY, np.float32)


def _pictures(count: int, side: int, channels: int = 1) -> np.ndarray:
    """Smooth and with sharp edges, in all grey levels, like a chest with a marker."""
    rng = np.random.default_rng(side)
    pictures = np.empty((count, side, side, channels), np.uint8)
    for picture in pictures:
        noise = cv2.GaussianBlur(rng.normal(0, 60 * side / 8, (side, side)), (0, 0), side / 20)
        grey = np.clip(110 + noise + rng.normal(0, 4, (side, side)), 0, 255)
        grey[side // 8 : side // 6, side // 8 : side // 4] = 255
        picture[:] = grey[..., None]
    return pictures


def _drawn(count: int, config: AugmentConfig = ALL) -> np.ndarray:
    return transforms.draw(config, 1, 2, np.arange(count), np.zeros(count, np.int64))


def _transform(**numbers: float) -> np.ndarray:
    """One transform, the identity but for the numbers given by position, such as n2=0.5."""
    transform = IDENTITY.copy()
    for name, value in numbers.items():
        transform[int(name[1:])] = value
    return transform[None]


def _expected(picture: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """(S, S) uint8 -> (S, S) float64 by SciPy, black outside."""
    side = len(picture)
    xx, xy, x0, yx, yy, y0, contrast, brightness = transform.astype(np.float64)
    mean = picture.mean(dtype=np.float64)
    toned = np.clip((picture - mean) * contrast + mean + 255 * brightness, 0, 255)
    # SciPy counts rows first, and from the corner.
    matrix, centre = np.array([[yy, yx], [xy, xx]]), np.full(2, (side - 1) / 2)
    offset = centre + side * np.array([y0, x0]) - matrix @ centre
    return ndimage.affine_transform(toned, matrix, offset, order=1, mode="grid-constant", cval=0)


@pytest.mark.parametrize("side", [31, 32, 320])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_identity_gives_every_picture_back(side: int, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, channels), np.uint8)
    out = Augment()(images, np.tile(IDENTITY, (3, 1)))
    assert keras.backend.standardize_dtype(out.dtype) == "uint8"
    np.testing.assert_array_equal(out, images)


@pytest.mark.parametrize("side", [47, 64, 320])
def test_pictures_are_within_a_grey_level_of_scipys(side: int) -> None:
    images, drawn = _pictures(12, side), _drawn(12)
    out = np.asarray(Augment()(images, drawn))[..., 0]
    for picture, transform, found in zip(images[..., 0], drawn, out, strict=True):
        difference = np.abs(found - _expected(picture, transform))
        # Rounded twice, before and after the interpolation.
        assert difference.max() < 1.01
        assert difference.mean() < 0.4


def test_a_quarter_turn_a_flip_and_a_shift_move_whole_pixels() -> None:
    image = _pictures(1, 32)

    def out(**numbers: float) -> np.ndarray:
        return np.asarray(Augment()(image, _transform(**numbers)))[0]

    np.testing.assert_array_equal(out(n0=-1), image[0][:, ::-1])
    np.testing.assert_array_equal(out(n0=0, n1=1, n3=-1, n4=0), np.rot90(image[0], -1))
    shifted = np.zeros_like(image[0])
    shifted[4:, :-2] = image[0][:-4, 2:]
    np.testing.assert_array_equal(out(n2=2 / 32, n5=-4 / 32), shifted)


def test_positive_angles_turn_clockwise_and_positive_shifts_go_right_and_down() -> None:
    dot = np.zeros((1, 65, 65, 1), np.uint8)
    dot[0, 12, 32] = 255
    centred = 2 * transforms._uniforms(1, 2, np.arange(200), np.zeros(200, np.int64)) - 1

    def place(key: str, reach: float, draw: int) -> tuple[int, int]:
        """Return row and column of the dot under the largest of the draws."""
        off = dict.fromkeys(("rotation_degrees", "zoom", "shift", "brightness", "contrast"), 0.0)
        config = AugmentConfig(**{**off, key: reach}, flip=False, originals=True)
        largest = np.argmax(centred[draw])
        drawn = transforms.draw(config, 1, 2, np.array([largest]), np.array([0]))
        found = np.asarray(Augment()(dot, drawn))[0, ..., 0]
        return tuple(np.unravel_index(found.argmax(), found.shape))

    row, column = place("rotation_degrees", 90, 0)
    assert abs(row - 32) <= 1
    assert abs(column - 52) <= 1
    row, column = place("zoom", 0.5, 1)
    assert (abs(row - 2) <= 1, column) == (True, 32)
    assert place("shift", 0.2, 2)[1] == pytest.approx(32 + 13, abs=1)
    assert place("shift", 0.2, 3)[0] == pytest.approx(12 + 13, abs=1)


def test_contrast_turns_about_the_pictures_own_mean_and_brightness_is_added() -> None:
    images = _pictures(2, 40)
    for transform in (_transform(n6=0.5), _transform(n6=1.4), _transform(n7=0.2), _transform(n6=0, n7=-0.1)):
        out = np.asarray(Augment()(images, np.tile(transform, (2, 1))), np.float64)
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        expected = np.clip((images - mean) * transform[0, 6] + mean + 255 * transform[0, 7], 0, 255)
        np.testing.assert_allclose(out, expected, atol=0.501)


def test_what_lies_outside_of_a_picture_is_black_however_bright_it_becomes() -> None:
    white = np.full((1, 32, 32, 1), 255, np.uint8)
    out = np.asarray(Augment()(white, _transform(n0=2, n4=2, n6=0.5, n7=0.3)))[0, ..., 0]
    assert (out[8:24, 8:24] == 255).all()
    assert out[:7].max() == out[-7:].max() == out[:, :7].max() == out[:, -7:].max() == 0
    assert not np.asarray(Augment()(white, _transform(n2=3))).any()
    assert not np.asarray(Augment()(white, _transform(n5=-1e6))).any()


def test_three_equal_channels_stay_equal_and_are_varied_like_one() -> None:
    drawn = _drawn(4)
    three = np.asarray(Augment()(_pictures(4, 48, channels=3), drawn))
    one = np.asarray(Augment()(np.ascontiguousarray(_pictures(4, 48, channels=3)[..., :1]), drawn))
    assert (three == one).all()


def test_a_picture_is_varied_alike_in_any_batch() -> None:
    images, drawn = _pictures(5, 48), _drawn(5)
    whole = np.asarray(Augment()(images, drawn))
    alone = [np.asarray(Augment()(images[i : i + 1], drawn[i : i + 1]))[0] for i in range(5)]
    np.testing.assert_array_equal(alone, whole)


def test_the_layer_compiles_under_xla_to_the_same_pictures() -> None:
    images, drawn, layer = tf.constant(_pictures(8, 96)), tf.constant(_drawn(8)), Augment()
    eager = np.asarray(layer(images, drawn), np.int64)
    graph = tf.function(lambda i, t: layer(i, t))(images, drawn)
    compiled = tf.function(lambda i, t: layer(i, t), jit_compile=True)(images, drawn)
    for other in (graph, compiled):
        # Compilers fuse multiplications and additions, so that a half may be rounded the other way.
        difference = np.abs(np.asarray(other, np.int64) - eager)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.005


def test_the_identity_is_exact_under_xla_too() -> None:
    images, layer = tf.constant(_pictures(2, 97)), Augment()
    compiled = tf.function(lambda i, t: layer(i, t), jit_compile=True)
    np.testing.assert_array_equal(compiled(images, tf.constant(np.tile(IDENTITY, (2, 1)))), images)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_the_arithmetic_is_float32_under_any_policy(policy: str) -> None:
    images, drawn = _pictures(4, 64), tf.constant(_drawn(4))
    np.testing.assert_array_equal(Augment(dtype=policy)(images, drawn), Augment()(images, drawn))


def test_the_layer_is_saved_and_gives_the_shape_of_its_pictures() -> None:
    layer = Augment(name="augment")
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (type(loaded), loaded.name) == (Augment, "augment")
    out = loaded(keras.Input((64, 64, 1), dtype="uint8"), keras.Input((8,)))
    assert (out.shape, out.dtype) == ((None, 64, 64, 1), "uint8")


@pytest.mark.parametrize("shape", [(2, 64, 32, 1), (2, 64, 64), (2, None, None, 1)])
def test_other_shapes_are_refused(shape: tuple) -> None:
    with pytest.raises(ValueError, match=r"expected pictures of shape \(B, S, S, C\)"):
        Augment().build(shape, (2, 8))
    with pytest.raises(ValueError, match=r"expected transforms of shape \(B, 8\)"):
        Augment().build((2, 64, 64, 1), (2, 6))


@pytest.fixture
def policy():
    """A function that sets Keras's policy for the test."""
    kept = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(kept)


def _classifier() -> keras.Model:
    images = keras.Input((32, 32, 1), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(x)
    logits = keras.layers.Dense(14, dtype="float32")(keras.layers.Flatten()(x))
    return keras.Model(images, logits, name="inner")


@pytest.mark.parametrize("name", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_model_within_sees_just_the_pictures_that_the_layer_makes(name: str, policy) -> None:
    policy(name)
    inner = _classifier()
    images, drawn = _pictures(6, 32), _drawn(6)
    inputs = {"images": tf.constant(images), "transforms": tf.constant(drawn)}
    np.testing.assert_array_equal(with_augmentation(inner)(inputs), inner(Augment()(images, drawn)))
    inputs["transforms"] = tf.constant(np.tile(IDENTITY, (6, 1)))
    np.testing.assert_array_equal(with_augmentation(inner)(inputs), inner(images))


@pytest.mark.parametrize("name", ["float32", "mixed_float16"])
def test_the_model_within_is_trained_and_saved_without_the_layer(name: str, policy, tmp_path: Path) -> None:
    policy(name)
    keras.utils.set_random_seed(1)
    inner = _classifier()
    before = [weight.copy() for weight in inner.get_weights()]
    augmented = with_augmentation(inner)
    augmented.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    labels = np.random.default_rng(2).integers(0, 2, (16, 14)).astype(np.float32)
    inputs = {"images": _pictures(16, 32), "transforms": _drawn(16)}
    batches = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(8, drop_remainder=True).repeat()
    history = augmented.fit(batches, epochs=2, steps_per_epoch=4, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"]).all()
    assert [w.path for w in augmented.trainable_variables] == [w.path for w in inner.trainable_variables]
    assert all((now != then).any() for now, then in zip(inner.get_weights(), before, strict=True))
    inner.save(tmp_path / "inner.keras")
    loaded = keras.saving.load_model(tmp_path / "inner.keras", compile=False)
    assert [tuple(tensor.shape) for tensor in loaded.inputs] == [(None, 32, 32, 1)]
    np.testing.assert_array_equal(loaded(inputs["images"]), inner(inputs["images"]))


def test_the_jax_back_end_makes_the_same_pictures(tmp_path: Path) -> None:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX isn't installed")
    images, drawn = _pictures(4, 64), _drawn(4)
    np.savez(tmp_path / "in.npz", images=images, drawn=drawn)
    program = (
        "import sys, jax, numpy as np\n"
        "from engine.model.augment import Augment\n"
        "given = np.load(sys.argv[1])\n"
        "np.save(sys.argv[2], jax.jit(Augment())(given['images'], given['drawn']))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "in.npz"), str(tmp_path / "out.npy")]
    subprocess.run(command, check=True, env={**os.environ, "KERAS_BACKEND": "jax"})
    difference = np.abs(np.load(tmp_path / "out.npy") - np.asarray(Augment()(images, drawn), np.int64))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005
