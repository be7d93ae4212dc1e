"""Varies training pictures inside the compiled step: turned, zoomed, shifted, mirrored, brighter or flatter.

All geometry is one affine map and one interpolation. How each picture is varied comes with it, as the numbers
that `engine.input.transforms` draws; nothing here is random. Normalisation is `preprocess`'s. The layer is of
`keras.ops` alone and compiles under XLA.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from engine.input.transforms import NUMBERS


@keras.saving.register_keras_serializable(package="cxr_engine")
class Augment(keras.layers.Layer):
    """Applies to each picture the transform that comes with it.

    B = pictures, S = side, C = channels.

    Input: images (B, S, S, C) uint8 and transforms (B, 8) floating point, as `transforms.draw` gives them.
    Output: (B, S, S, C) uint8. Contrast and brightness come first, so what lies outside of the picture is
    black whatever they are; then one bilinear interpolation. Grey levels are rounded, because a model whose
    input is uint8 would cut fractions off. The identity gives the picture back, level by level. The
    arithmetic is float32 under any policy.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Keras would otherwise cast the transforms to half: a tenth of a pixel.
        self.autocast = False

    def build(self, images_shape: tuple[int | None, ...], transforms_shape: tuple[int | None, ...]) -> None:
        """Check the shapes; raises ValueError unless they are (B, S, S, C) and (B, 8)."""
        if len(images_shape) != 4 or None in images_shape[1:] or images_shape[1] != images_shape[2]:
            raise ValueError(f"expected pictures of shape (B, S, S, C), got {tuple(images_shape)}")
        if len(transforms_shape) != 2 or transforms_shape[1] != NUMBERS:
            raise ValueError(f"expected transforms of shape (B, {NUMBERS}), got {tuple(transforms_shape)}")
        super().build(images_shape)

    def call(self, images: Any, transforms: Any) -> Any:
        """(B, S, S, C) uint8 and (B, 8) -> (B, S, S, C) uint8."""
        numbers = ops.cast(transforms, "float32")[:, :, None, None, None]
        toned = _tone(ops.cast(images, "float32"), contrast=numbers[:, 6], brightness=numbers[:, 7])
        return _interpolate(toned, *_places(images.shape[1], numbers))

    def compute_output_spec(self, images: Any, transforms: Any) -> keras.KerasTensor:  # noqa: ARG002
        """The images' shape and dtype."""
        return keras.KerasTensor(images.shape, "uint8")


def with_augmentation(model: keras.Model) -> keras.Model:
    """Put `Augment` before a model, for training alone; the model within is the one to save.

    Args:
        model: of one input, (B, S, S, C) uint8.

    Returns:
        A model with the same weights, from {"images": (B, S, S, C) uint8, "transforms": (B, 8) float32} to
        the outputs of `model`.
    """
    (stored,) = model.inputs
    images = keras.Input(stored.shape[1:], dtype="uint8", name="images")
    transforms = keras.Input((NUMBERS,), dtype="float32", name="transforms")
    outputs = model(Augment(name="augment")(images, transforms))
    inputs = {"images": images, "transforms": transforms}
    return keras.Model(inputs, outputs, name=f"augmented_{model.name}")


def _tone(pixels: Any, *, contrast: Any, brightness: Any) -> Any:
    """(B, S, S, C) float32 and two of (B, 1, 1, 1) -> (B, S, S, C) int32 from 0 to 255."""
    mean = ops.mean(pixels, axis=(1, 2, 3), keepdims=True)
    # The half rounds: the cast cuts fractions off.
    offset = mean * (1.0 - contrast) + (255.0 * brightness + 0.5)
    return ops.cast(ops.clip(pixels * contrast + offset, 0.0, 255.0), "int32")


def _places(side: int, numbers: Any) -> tuple[Any, Any]:
    """Return x and y, (B, S, S, 1) each, where output pixels lie in a picture with a pixel's margin."""
    centre = (side - 1) / 2
    # In pixels, not in sides: halves are exact in float32, so the identity gives whole numbers.
    along = ops.arange(side, dtype="float32") - centre

    def place(first: int) -> Any:
        offset = numbers[:, first + 2] * side + (centre + 1.0)
        column = numbers[:, first + 1] * along[:, None, None] + offset
        # What lies farther out is as black as the margin.
        return ops.clip(numbers[:, first] * along[:, None] + column, 0.0, side + 1.0)

    return place(0), place(3)


def _interpolate(pixels: Any, x: Any, y: Any) -> Any:
    """Sample (B, S, S, C) int32 bilinearly at places of `_places`; gives uint8."""
    left, top = ops.floor(x), ops.floor(y)
    squares, stride = _squares(pixels)
    # Exact in float32 up to a side of 4,000 pixels; int32 counts 20,000 pictures of 320, 2,000 of 1,024.
    within = ops.cast(top * stride + left, "int32")
    picture = ops.arange(ops.shape(pixels)[0], dtype="int32") * stride**2
    squares = ops.take(squares, (within + picture[:, None, None, None])[..., 0], axis=0)

    def corner(number: int) -> Any:
        return ops.cast(ops.bitwise_and(ops.right_shift(squares, 8 * number), 255), "float32")

    right, down = x - left, y - top
    upper = corner(0) + right * (corner(1) - corner(0))
    lower = corner(2) + right * (corner(3) - corner(2))
    return ops.cast(upper + down * (lower - upper) + 0.5, "uint8")


def _squares(pixels: Any) -> tuple[Any, int]:
    """Pack each pixel of (B, S, S, C) int32 with its neighbours right and below into an int32 of four bytes.

    One look-up then gives all that an output pixel needs; it is what costs, and TensorFlow has none of uint8
    on a GPU.

    Returns:
        (B x N x N, C) int32 of pictures with a black margin, and N.
    """
    margin = ops.pad(pixels, ((0, 0), (1, 2), (1, 2), (0, 0)))
    pairs = ops.bitwise_or(margin[:, :, :-1], ops.left_shift(margin[:, :, 1:], 8))
    squares = ops.bitwise_or(pairs[:, :-1], ops.left_shift(pairs[:, 1:], 16))
    return ops.reshape(squares, (-1, squares.shape[3])), squares.shape[1]
