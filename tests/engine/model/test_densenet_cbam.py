"""DenseNet with CBAM: its size, its shapes, and the stages that training leaves alone."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from settings import DENSENET, build

from engine.model import densenet_cbam

IMAGES = np.random.default_rng(4).integers(0, 256, (3, 32, 32, 1), np.uint8)


@pytest.fixture(scope="module")
def article():
    return build(replace(DENSENET, image_side_px=320), side_px=320)


def test_the_model_has_the_articles_parameters(article):
    assert article.count_params() == 8_228_081
    assert article.get_layer("densenet121").count_params() == 7_037_504
    assert all(layer.trainable for layer in article.get_layer("densenet121").layers)


def test_every_stage_has_its_shape_at_320_px(article):
    backbone = article.get_layer("densenet121")
    stages = {
        "conv1_relu": (160, 160, 64),
        "conv2_block6_concat": (80, 80, 256),
        "conv3_block12_concat": (40, 40, 512),
        "conv4_block24_concat": (20, 20, 1024),
        "conv5_block16_concat": (10, 10, 1024),
    }
    assert {name: backbone.get_layer(name).output.shape[1:] for name in stages} == stages
    whole = {
        "preprocess": (320, 320, 3),
        "densenet121": (10, 10, 1024),
        "channel_attention": (10, 10, 1024),
        "spatial_attention": (10, 10, 1024),
        "head_pool": (1024,),
        "head_dense_1": (128,),
        "head_dense_2": (64,),
        "logits": (14,),
    }
    assert {name: article.get_layer(name).output.shape[1:] for name in whole} == whole
    assert article.input.dtype == "uint8"


def test_hidden_layers_are_penalised_and_the_output_is_not(article):
    penalties = [layer.name for layer in article.layers if getattr(layer, "kernel_regularizer", None)]
    assert penalties == ["head_dense_1", "head_dense_2"]
    assert article.get_layer("head_dense_1").kernel_regularizer.l2 == pytest.approx(0.001)
    assert article.get_layer("head_dropout_2").rate == 0.3


def test_frozen_stages_are_not_trained_and_their_statistics_do_not_move(tmp_path):
    model = build(replace(DENSENET, batch_norm_momentum=0.5), side_px=32)
    densenet_cbam.freeze(model.get_layer("densenet121"), ["stem", "conv2"])
    model.save(tmp_path / "model.keras")
    for kept in (model, keras.saving.load_model(tmp_path / "model.keras")):
        backbone = kept.get_layer("densenet121")
        trained = {layer.name for layer in backbone.layers if layer.trainable_weights}
        frozen = {layer.name for layer in backbone.layers if layer.weights} - trained
        stages = {name.partition("_")[0] for name in frozen}
        assert stages == {"conv1", "conv2", "pool2"}
        assert not {name.partition("_")[0] for name in trained} & stages
        before = {norm: _statistics(backbone, norm) for norm in ("conv2_block3_0_bn", "conv3_block3_0_bn")}
        kept(IMAGES, training=True)
        after = {norm: _statistics(backbone, norm) for norm in before}
        assert (before["conv2_block3_0_bn"] == after["conv2_block3_0_bn"]).all()
        assert (before["conv3_block3_0_bn"] != after["conv3_block3_0_bn"]).all()


def _statistics(backbone: keras.Model, norm: str) -> np.ndarray:
    layer = backbone.get_layer(norm)
    assert layer.momentum == 0.5
    return np.stack([layer.moving_mean, layer.moving_variance])
