"""From stored uint8 pictures to the numbers that a network expects, inside the model.

The pictures travel to the device as uint8 with one channel, a twelfth of the bytes of float32 RGB; size,
channels and scale are changed here. Augmentation comes before this layer and is `augment`'s.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

# The 'torch' mode of keras.applications.imagenet_utils.preprocess_input: RGB, of pixels in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


# The name that models saved so far know it by.
@keras.saving.register_keras_serializable(package="cxr_engine", name="DenseNetPreprocess")
class Preprocess(keras.layers.Layer):
    """Reduces, changes the channels and normalises, as for ImageNet unless mean and deviation are given.

    B = pictures, S = stored side, T = `image_side_px`, C = 1 or 3 stored channels, D = `channels`.

    Input: (B, S, S, C) uint8 or floating point, 0 is black and 255 white. Output: (B, T, T, D) in the
    compute dtype. The arithmetic is float32 under any policy: bfloat16 keeps 8 bits, so neighbouring greys
    would merge before the mean is taken off.

    Args:
        image_side_px: T, at most S. Where S is a multiple of T, each output pixel is the exact mean of
            the (S / T) x (S / T) stored ones; otherwise the picture is resized bilinearly with antialias.
        mean: grey level, 0 to 255, that becomes 0 in each channel, such as the manifest's of the training
            pictures; None, and then also for `std`: ImageNet's, as `keras.applications.densenet` has them.
        std: grey levels that become 1; more than 0.
        channels: D, 3 or 1. One channel is the mean of three stored ones, and ImageNet's numbers for it are
            the means of those for three.
    """

    def __init__(
        self,
        image_side_px: int,
        mean: float | None = None,
        std: float | None = None,
        channels: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if image_side_px < 1:
            raise ValueError(f"image_side_px is {image_side_px}; expected at least 1")
        if (mean is None) != (std is None):
            raise ValueError(f"mean is {mean} and std is {std}; expected both or neither")
        if mean is not None and std is not None and not (0 <= mean <= 255 and 0 < std < math.inf):
            raise ValueError(f"mean is {mean} and std is {std}; expected 0 to 255, and more than 0")
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}; expected 1 or 3")
        self.image_side_px = image_side_px
        self.mean, self.std = mean, std
        self.channels = channels
        # Keras would otherwise cast a floating-point picture of 0 to 255 to half before `call` sees it.
        self.autocast = False

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Check a (B, S, S, C) shape; raises ValueError when it can't be turned into (B, T, T, D)."""
        if len(input_shape) != 4 or input_shape[1] != input_shape[2] or input_shape[3] not in (1, 3):
            raise ValueError(f"expected pictures of shape (B, S, S, 1 or 3), got {tuple(input_shape)}")
        if input_shape[1] is None or input_shape[1] < self.image_side_px:
            raise ValueError(
                f"pictures of {input_shape[1]} px can't be reduced to image_side_px={self.image_side_px}"
            )
        super().build(input_shape)

    def call(self, images: Any) -> Any:
        """Turn (B, S, S, C) into (B, T, T, D) in the compute dtype."""
        pixels = self._reduce(ops.cast(images, "float32")) / 255.0
        if self.channels < pixels.shape[-1]:
            pixels = ops.mean(pixels, axis=-1, keepdims=True)
        mean, std = self._mean_and_std()
        # One grey channel spreads to D here, by broadcasting against the (D,) mean.
        pixels = pixels - ops.convert_to_tensor(mean, dtype="float32")
        pixels = pixels / ops.convert_to_tensor(std, dtype="float32")
        return ops.cast(pixels, self.compute_dtype)

    def _mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of each of the D channels, of pixels in [0, 1]."""
        if self.mean is not None and self.std is not None:
            return (self.mean / 255,) * self.channels, (self.std / 255,) * self.channels
        if self.channels == 3:
            return IMAGENET_MEAN, IMAGENET_STD
        return (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)

    def _reduce(self, pixels: Any) -> Any:
        side = pixels.shape[1]
        if side == self.image_side_px:
            return pixels
        if side % self.image_side_px == 0:
            window = side // self.image_side_px
            return ops.average_pool(pixels, window, strides=window, data_format="channels_last")
        size = (self.image_side_px, self.image_side_px)
        return ops.image.resize(
            pixels, size, interpolation="bilinear", antialias=True, data_format="channels_last"
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(B, T, T, D)."""
        return (input_shape[0], self.image_side_px, self.image_side_px, self.channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "image_side_px": self.image_side_px,
            "mean": self.mean,
            "std": self.std,
            "channels": self.channels,
        }
