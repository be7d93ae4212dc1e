"""The two attention layers against NumPy, and what they keep when saved."""

import keras
import numpy as np
import pytest

from engine.model.cbam import ChannelAttention, SpatialAttention

RNG = np.random.default_rng(2)
FEATURES = RNG.normal(size=(2, 9, 8, 6)).astype(np.float32)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_channel_attention_is_one_mlp_over_mean_and_max():
    layer = ChannelAttention(reduction=3)
    out = layer(FEATURES)
    assert [tuple(weight.shape) for weight in layer.weights] == [(6, 2), (2,), (2, 6), (6,)]
    w1, b1, w2, b2 = layer.get_weights()

    def mlp(x):
        return np.maximum(x @ w1 + b1, 0) @ w2 + b2

    attention = _sigmoid(mlp(FEATURES.mean(axis=(1, 2))) + mlp(FEATURES.max(axis=(1, 2))))
    np.testing.assert_allclose(out, FEATURES * attention[:, None, None], atol=1e-5)


def test_spatial_attention_is_one_convolution_over_mean_and_max():
    layer = SpatialAttention(kernel_size=3)
    out = layer(FEATURES)
    kernel, bias = layer.get_weights()
    pooled = np.stack([FEATURES.mean(axis=-1), FEATURES.max(axis=-1)], axis=-1)
    padded = np.pad(pooled, ((0, 0), (1, 1), (1, 1), (0, 0)))
    logits = bias + sum(
        (padded[:, dy : dy + 9, dx : dx + 8] * kernel[dy, dx, :, 0]).sum(axis=-1)
        for dy in range(3)
        for dx in range(3)
    )
    np.testing.assert_allclose(out, FEATURES * _sigmoid(logits)[..., None], atol=1e-5)


def test_the_sizes_of_the_article_have_its_parameters():
    channel, spatial = ChannelAttention(), SpatialAttention()
    channel.build((None, 10, 10, 1024))
    spatial.build((None, 10, 10, 1024))
    assert channel.count_params() == 1024 * 512 + 512 + 512 * 1024 + 1024
    assert spatial.count_params() == 7 * 7 * 2 + 1


@pytest.mark.parametrize("layer", [ChannelAttention(reduction=3, name="a"), SpatialAttention(5, name="b")])
def test_attention_is_saved_with_its_settings_and_keeps_the_shape(layer):
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert loaded.get_config() == layer.get_config()
    assert loaded.compute_output_shape((None, 9, 8, 6)) == (None, 9, 8, 6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("make", [ChannelAttention, SpatialAttention])
def test_attention_computes_in_the_policys_dtype(make, policy):
    layer = make(dtype=policy)
    out = layer(FEATURES)
    assert keras.backend.standardize_dtype(out.dtype) == policy.removeprefix("mixed_")
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in layer.weights} == {"float32"}
    precise = make()
    precise.build(FEATURES.shape)
    precise.set_weights(layer.get_weights())
    np.testing.assert_allclose(keras.ops.cast(out, "float32"), precise(FEATURES), atol=0.05)


def test_settings_that_fit_no_layer_are_refused():
    with pytest.raises(ValueError, match="doesn't divide the 6 channels"):
        ChannelAttention(reduction=4).build((None, 9, 8, 6))
    with pytest.raises(ValueError, match="at least 1"):
        ChannelAttention(reduction=0)
    with pytest.raises(ValueError, match="at least 1"):
        SpatialAttention(kernel_size=0)
