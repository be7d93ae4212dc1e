"""The two halves of CBAM, the Convolutional Block Attention Module, as layers that save and load safely.

Source: Woo et al. 2018, "CBAM: Convolutional Block Attention Module", https://arxiv.org/abs/1807.06521;
sizes as Fisher (2025) uses them. B, H, W, C = batch, height, width, channels of a feature map.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="cxr_engine")
class ChannelAttention(keras.layers.Layer):
    """Weighs each channel: x * sigmoid(mlp(mean over H, W) + mlp(max over H, W)), with one shared MLP.

    The MLP is C -> C / reduction with ReLU -> C. Input and output: (B, H, W, C), floating point.

    Args:
        reduction: how many times narrower than C the MLP's hidden layer is; 2 in Fisher (2025), 16 in
            the paper. It must divide C.
    """

    def __init__(self, reduction: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reduction < 1:
            raise ValueError(f"reduction is {reduction}; expected at least 1")
        self.reduction = reduction

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the MLP for C channels; raises ValueError when `reduction` doesn't divide C."""
        channels = input_shape[-1]
        if channels is None or channels % self.reduction:
            raise ValueError(f"reduction={self.reduction} doesn't divide the {channels} channels")
        hidden = channels // self.reduction
        self.squeeze = keras.layers.Dense(hidden, "relu", dtype=self.dtype_policy, name="squeeze")
        self.excite = keras.layers.Dense(channels, dtype=self.dtype_policy, name="excite")
        self.squeeze.build((None, channels))
        self.excite.build((None, hidden))
        super().build(input_shape)

    def call(self, features: Any) -> Any:
        """(B, H, W, C) -> (B, H, W, C)."""
        mean = self.excite(self.squeeze(ops.mean(features, axis=(1, 2))))
        peak = self.excite(self.squeeze(ops.max(features, axis=(1, 2))))
        attention = ops.sigmoid(mean + peak)
        return features * attention[:, None, None, :]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable(package="cxr_engine")
class SpatialAttention(keras.layers.Layer):
    """Weighs each position: x * sigmoid(conv([mean over C, max over C])).

    Input and output: (B, H, W, C), floating point.

    Args:
        kernel_size: side of the convolution's square kernel, padded so that H and W stay.
    """

    def __init__(self, kernel_size: int = 7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kernel_size < 1:
            raise ValueError(f"kernel_size is {kernel_size}; expected at least 1")
        self.kernel_size = kernel_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolution over the two pooled maps."""
        self.conv = keras.layers.Conv2D(
            1,
            self.kernel_size,
            padding="same",
            data_format="channels_last",
            activation="sigmoid",
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build((None, *input_shape[1:-1], 2))
        super().build(input_shape)

    def call(self, features: Any) -> Any:
        """(B, H, W, C) -> (B, H, W, C)."""
        mean = ops.mean(features, axis=-1, keepdims=True)
        peak = ops.max(features, axis=-1, keepdims=True)
        return features * self.conv(ops.concatenate([mean, peak], axis=-1))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "kernel_size": self.kernel_size}
