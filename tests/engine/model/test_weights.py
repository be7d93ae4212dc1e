"""Where weights come from, and the one clear line when they can't; with a two-layer stand-in backbone."""

import keras
import numpy as np
import pytest

from engine.model import build_densenet121_cbam, load_weights
from engine.model.cbam import ChannelAttention
from engine.model.weights import BACKBONE, IMAGENET_FILE, weighted_layers
from records.errors import ConfigError, RunError


def _backbone(width=4):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(width, 3, name="conv1_conv")(image)
    return keras.Model(image, keras.layers.BatchNormalization(name="conv1_bn")(x), name=BACKBONE)


def _model(findings=14, width=4):
    image = keras.Input((8, 8, 3))
    x = ChannelAttention(name="channel_attention")(_backbone(width)(image))
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(image, keras.layers.Dense(findings, name="logits")(x), name="whole")


def _same(layer, other):
    return all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), other.get_weights(), strict=True))


def _shifted(model):
    """The model with weights that no initialiser gives."""
    model.set_weights([weight + 0.25 for weight in model.get_weights()])
    return model


def test_a_saved_model_of_ours_gives_all_its_layers(tmp_path):
    donor, model = _shifted(_model()), _model()
    donor.save(tmp_path / "donor.keras")
    transfer = load_weights(model, str(tmp_path / "donor.keras"))
    assert transfer.loaded == ("conv1_conv", "conv1_bn", "channel_attention", "logits")
    assert transfer.not_loaded == ()
    assert str(transfer).endswith("weights for 4 layers, all of the model's")
    assert all(_same(a, b) for a, b in zip(weighted_layers(model), weighted_layers(donor), strict=True))


def test_layers_of_other_shapes_keep_their_weights_and_are_named(tmp_path):
    donor, model = _shifted(_model(findings=5)), _model()
    fresh = model.get_layer("logits").get_weights()
    donor.save(tmp_path / "donor.keras")
    transfer = load_weights(model, str(tmp_path / "donor.keras"))
    assert transfer.loaded == ("conv1_conv", "conv1_bn", "channel_attention")
    assert transfer.not_loaded == ("logits",)
    assert "1 keep their initial ones: logits" in str(transfer)
    assert np.array_equal(model.get_layer("logits").get_weights()[0], fresh[0])


def test_a_saved_backbone_gives_the_backbone(tmp_path):
    donor, model = _shifted(_backbone()), _model()
    donor.save(tmp_path / "backbone.keras")
    transfer = load_weights(model, str(tmp_path / "backbone.keras"))
    assert transfer.not_loaded == ("channel_attention", "logits")
    assert _same(model.get_layer(BACKBONE), donor)


def test_a_saved_model_that_fits_nowhere_is_refused(tmp_path):
    _model(findings=5, width=6).save(tmp_path / "donor.keras")
    with pytest.raises(RunError, match="none of its 4 layers with weights fits a layer of whole"):
        load_weights(_model(), str(tmp_path / "donor.keras"))


@pytest.mark.parametrize(("make", "left"), [(_model, ()), (_backbone, ("channel_attention", "logits"))])
def test_a_weights_file_may_hold_the_whole_model_or_its_backbone(tmp_path, make, left):
    donor, model = _shifted(make()), _model()
    donor.save_weights(tmp_path / "donor.weights.h5")
    transfer = load_weights(model, str(tmp_path / "donor.weights.h5"))
    assert transfer.not_loaded == left
    assert _same(model if make is _model else model.get_layer(BACKBONE), donor)


@pytest.mark.parametrize("make", [_model, _backbone])
def test_a_weights_file_of_another_architecture_is_refused(tmp_path, make):
    make(width=6).save_weights(tmp_path / "donor.weights.h5")
    with pytest.raises(RunError, match="weights don't fit"):
        load_weights(_model(), str(tmp_path / "donor.weights.h5"))


@pytest.fixture
def legacy_file(tmp_path):
    """A file in the layout of keras.applications, and the backbone that it was written from."""
    donor = _shifted(_backbone())
    path = tmp_path / "backbone.h5"
    donor.save(path)
    return path, donor


def test_a_file_of_keras_applications_gives_the_backbone(legacy_file):
    path, donor = legacy_file
    model = _model()
    assert load_weights(model, str(path)).loaded == ("conv1_conv", "conv1_bn")
    assert _same(model.get_layer(BACKBONE), donor)


def test_a_file_of_keras_applications_that_does_not_fit_is_refused(legacy_file):
    with pytest.raises(RunError, match="weights don't fit densenet121"):
        load_weights(_model(width=6), str(legacy_file[0]))


def test_imagenet_weights_come_through_kerass_cache(monkeypatch, legacy_file):
    path, donor = legacy_file
    asked = []
    monkeypatch.setattr(keras.utils, "get_file", lambda name, *_, **__: asked.append(name) or str(path))
    model = _model()
    transfer = load_weights(model, "imagenet")
    assert asked == [IMAGENET_FILE]
    assert transfer.source == "imagenet"
    assert _same(model.get_layer(BACKBONE), donor)


def test_without_a_network_imagenet_weights_are_refused_with_what_to_do(monkeypatch):
    def no_network(*_, **__):
        raise Exception("URL fetch failure on https://host: None -- Name or service not known")

    monkeypatch.setattr(keras.utils, "get_file", no_network)
    with pytest.raises(RunError, match=r"set model\.weights to `none`, or to the local path") as caught:
        load_weights(_model(), "imagenet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["broken.keras", "broken.weights.h5", "broken.h5"])
def test_a_file_that_can_not_be_read_is_refused_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"no such format")
    with pytest.raises(RunError, match=name) as caught:
        load_weights(_model(), str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_weights_file_without_layers_is_refused(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.ReLU()]).save_weights(tmp_path / "empty.weights.h5")
    with pytest.raises(RunError, match="weights don't fit densenet121"):
        load_weights(_model(), str(tmp_path / "empty.weights.h5"))


def test_a_missing_file_is_refused():
    with pytest.raises(ConfigError, match=r"no file stands at `nowhere/model\.keras`"):
        load_weights(_model(), "nowhere/model.keras")


def test_a_name_that_is_no_source_of_weights_is_refused():
    with pytest.raises(ConfigError, match="`imagnet` is not `none`, `imagenet` or a path"):
        load_weights(_model(), "imagnet")


@pytest.mark.slow
def test_the_real_model_takes_the_weights_of_a_real_backbone(tmp_path):
    backbone = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(32, 32, 3))
    _shifted(backbone).save(tmp_path / "densenet121.h5")
    model = build_densenet121_cbam(
        stored_side_px=32,
        stored_channels=1,
        image_side_px=32,
        findings=14,
        dropout=0.3,
        l2=0.001,
        cbam_reduction=2,
        weights=str(tmp_path / "densenet121.h5"),
    )
    assert _same(model.get_layer(BACKBONE), backbone)
