"""Where weights come from, and the one clear line when they can't; with a two-layer stand-in backbone."""

import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from settings import DENSENET, GUIDE, build

from engine.config.model import BACKBONE_CHANNELS, STAGES
from engine.model import load_weights
from engine.model.cbam import ChannelAttention
from engine.model.weights import IMAGENET_FILES, weighted_layers
from records.errors import ConfigError, RunError

BACKBONE = "densenet121"


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
    assert asked == ["densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5"]
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


def test_the_files_of_imagenet_weights_are_those_that_keras_knows():
    module = sys.modules[keras.applications.DenseNet121.__module__]
    source = Path(module.__file__).read_text()
    assert IMAGENET_FILES.keys() == BACKBONE_CHANNELS.keys()
    for backbone, (name, md5) in IMAGENET_FILES.items():
        assert name.startswith(f"{backbone}_")
        after = source.split(f'"{name}",', 1)[1]
        assert f'file_hash="{md5}"' in after[:300]


def test_a_model_without_a_backbone_takes_its_own_weights_and_says_so(tmp_path):
    donor, model = _shifted(build(GUIDE)), build(GUIDE)
    for name in ("donor.keras", "donor.weights.h5"):
        (donor.save if name.endswith(".keras") else donor.save_weights)(tmp_path / name)
        transfer = load_weights(model, str(tmp_path / name))
        assert transfer.loaded == ("conv_1", "norm_1", "conv_2", "norm_2", "logits")
        assert transfer.not_loaded == ()
        assert all(_same(a, b) for a, b in zip(model.layers, donor.layers, strict=True))


def test_a_model_without_a_backbone_takes_the_layers_that_fit(tmp_path):
    _shifted(build(replace(GUIDE, filters=(4, 16)), findings=5)).save(tmp_path / "donor.keras")
    transfer = load_weights(build(GUIDE), str(tmp_path / "donor.keras"))
    assert transfer.loaded == ("conv_1", "norm_1")
    assert transfer.not_loaded == ("conv_2", "norm_2", "logits")


@pytest.mark.parametrize("name", ["imagenet", "backbone.h5", "backbone.weights.h5"])
def test_a_backbones_weights_are_refused_by_a_model_without_one(tmp_path, name):
    source = name
    if name != "imagenet":
        source = str(tmp_path / name)
        (_backbone().save if name == "backbone.h5" else _backbone().save_weights)(source)
    with pytest.raises(ConfigError, match="has weights for a backbone, which guide_cnn has none of"):
        load_weights(build(GUIDE), source)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("DenseNet121", 7_037_504), ("DenseNet169", 12_642_880), ("DenseNet201", 18_321_984)],
)
def test_each_real_model_takes_the_weights_of_its_real_backbone(tmp_path, name, parameters):
    backbone = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "backbone.h5"
    _shifted(backbone).save(path)
    model = build(replace(DENSENET, name=f"{name.lower()}_cbam", weights=str(path), frozen=STAGES))
    taken = model.get_layer(name.lower())
    assert _same(taken, backbone)
    assert taken.count_params() == parameters
    assert taken.output.shape[-1] == BACKBONE_CHANNELS[name.lower()]
    # The stages are the whole backbone.
    assert taken.trainable_weights == []
    assert len(model.trainable_weights) == 4 + 2 + 3 * 2
