"""Grad-CAM: which places of a picture raise the logit of a finding, by a saved model's last convolution.

Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", https://arxiv.org/abs/1610.02391. Shapes: B = pictures, S = stored side, C = stored channels,
P = maps asked for, h and w = cells of the feature map, K = its channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from engine.heatmaps import placement
from engine.model.cbam import ChannelAttention, SpatialAttention
from records.errors import RunError

# A power of two, so that it changes no digit; half floats end at 6e-8, where some gradients lie.
_GRADIENT_SCALE = 1024.0


class GradCam:
    """Maps of one model; the backbone runs once for a batch, the head forward and back once for all maps.

    Attributes:
        layer: name of the layer whose features are weighed.
        placement: of the cells in the stored picture.
    """

    def __init__(self, model: keras.Model, *, attention: bool = False) -> None:
        """Cut the model in two at its features.

        Args:
            model: from pictures to logits, a layer after the other, as `engine.model` builds them.
            attention: take the features after CBAM has weighed them, not the last convolution's.

        Raises:
            RunError: no convolution, no attention where it is asked for, or another back end than TensorFlow.
        """
        if keras.backend.backend() != "tensorflow":
            raise RunError(
                f"Grad-CAM runs on TensorFlow, Keras on {keras.backend.backend()}: unset KERAS_BACKEND"
            )
        layers = model.layers
        position = _last(layers, (SpatialAttention,)) if attention else _last_convolution(layers)
        if position is None:
            raise RunError(
                f"{model.name}: no {'attention' if attention else 'convolution'} in this model; "
                + ("make heat maps without --attention" if attention else "Grad-CAM needs one")
            )
        self.layer = layers[position].name
        self.placement = placement.of_layers(layers[: position + 1])
        self._body, self._head = _cut(model, position)
        self._function = tf.function(
            self._maps,
            input_signature=[
                tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8),
                tf.TensorSpec((None,), tf.int32),
                tf.TensorSpec((None,), tf.int32),
            ],
        )

    def maps(
        self, images: np.ndarray, pictures: Sequence[int] | np.ndarray, findings: Sequence[int] | np.ndarray
    ) -> np.ndarray:
        """Compute one map for each pair of a picture and a finding.

        Args:
            images: (B, S, S, C) uint8, 0 is black.
            pictures: (P,) rows of `images`.
            findings: (P,) columns of the logits.

        Returns:
            (P, h, w) float32 of at least 0; all 0 where no place raises the logit.
        """
        pairs = (np.asarray(numbers, np.int32) for numbers in (pictures, findings))
        return self._function(images, *pairs).numpy()

    def stored(self, images: np.ndarray, pictures: Any, findings: Any) -> np.ndarray:
        """Compute `maps` at the stored side, bilinearly: (P, S, S) float32."""
        return placement.upsample(self.maps(images, pictures, findings), self.placement, images.shape[1])

    def _maps(self, images: tf.Tensor, pictures: tf.Tensor, findings: tf.Tensor) -> tf.Tensor:
        features = tf.gather(self._body(images, training=False), pictures)
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = tf.cast(self._head(features, training=False), tf.float32)
            # Without training no picture touches another, so that the sum has each map's own gradient.
            chosen = tf.reduce_sum(tf.gather(logits, findings, batch_dims=1)) * _GRADIENT_SCALE
        gradient = tape.gradient(chosen, features, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        weights = tf.reduce_mean(tf.cast(gradient, tf.float32), axis=(1, 2)) / _GRADIENT_SCALE
        return tf.nn.relu(tf.einsum("phwk,pk->phw", tf.cast(features, tf.float32), weights))


class CbamMaps:
    """What a model's two attentions weigh, whatever the finding.

    Attributes:
        placement: of the spatial attention's cells in the stored picture.
    """

    def __init__(self, model: keras.Model) -> None:
        """Find both attentions.

        Raises:
            RunError: the model has none.
        """
        position = _last(model.layers, (SpatialAttention,))
        if position is None or not isinstance(model.layers[position - 1], ChannelAttention):
            raise RunError(f"{model.name}: no CBAM in this model; make heat maps without --cbam")
        self.placement = placement.of_layers(model.layers[:position])
        self._channel, self._spatial = model.layers[position - 1 : position + 1]
        self._body = keras.Model(model.input, self._channel.input)

    def of(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute both attentions of (B, S, S, C) uint8 pictures.

        Returns:
            spatial: (B, h, w) float32 from 0 to 1.
            channel: (B, K) float32 from 0 to 1.
        """
        features = self._body(tf.convert_to_tensor(images), training=False)
        perceptron = self._channel.squeeze, self._channel.excite
        pooled = tf.reduce_mean(features, axis=(1, 2)), tf.reduce_max(features, axis=(1, 2))
        channel = tf.sigmoid(sum(perceptron[1](perceptron[0](values)) for values in pooled))
        weighed = self._channel(features)
        pools = [pool(weighed, axis=-1, keepdims=True) for pool in (tf.reduce_mean, tf.reduce_max)]
        spatial = self._spatial.conv(tf.concat(pools, axis=-1))[..., 0]
        return tf.cast(spatial, tf.float32).numpy(), tf.cast(channel, tf.float32).numpy()


def _cut(model: keras.Model, position: int) -> tuple[keras.Model, keras.Model]:
    """Return the model up to a layer, and from there on; both share its weights."""
    # A nested model's own `output` lies inside it; what comes next takes the one of this call.
    try:
        features = model.layers[position + 1].input
        if isinstance(features, list | tuple):
            raise ValueError("several tensors")
        return keras.Model(model.input, features), keras.Model(features, model.output)
    except (IndexError, ValueError, TypeError) as error:
        raise RunError(
            f"{model.name}: can't be cut behind `{model.layers[position].name}`; expected layers one after "
            "the other, as this project builds them"
        ) from error


def _last_convolution(layers: Sequence[keras.layers.Layer]) -> int | None:
    """Return the place of the last convolution, or of the nested model, such as a backbone, that holds it."""
    for position in reversed(range(len(layers))):
        layer = layers[position]
        nested = isinstance(layer, keras.Model) and _last_convolution(layer.layers) is not None
        if nested or isinstance(layer, keras.layers.Conv2D):
            return position
    return None


def _last(layers: Sequence[keras.layers.Layer], kinds: tuple[type, ...]) -> int | None:
    found = [position for position, layer in enumerate(layers) if isinstance(layer, kinds)]
    return found[-1] if found else None
