"""What all networks share: uint8 pictures in, float32 logits out, saved and loaded alike in any precision."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from settings import DENSENET, GUIDE, build

from engine.model import save_model
from engine.model.weights import weighted_layers
from records.errors import ConfigError

IMAGES = np.random.default_rng(4).integers(0, 256, (3, 64, 64, 1), np.uint8)
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


@pytest.fixture(scope="module", params=[DENSENET, GUIDE], ids=lambda config: config.name)
def models(request):
    """The same model under each policy."""
    built = {}
    before = keras.config.dtype_policy()
    for policy in POLICIES:
        keras.config.set_dtype_policy(policy)
        try:
            built[policy] = build(request.param)
        finally:
            keras.config.set_dtype_policy(before)
        built[policy].set_weights(built["float32"].get_weights())
    return built


@pytest.mark.parametrize("policy", POLICIES)
def test_a_saved_model_loads_in_safe_mode_takes_grey_uint8_and_answers_alike(models, policy, tmp_path):
    save_model(models[policy], tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert (loaded.input.shape, loaded.input.dtype) == ((None, 64, 64, 1), "uint8")
    policies = [layer.dtype_policy.name for layer in weighted_layers(loaded)]
    assert policies == [policy] * (len(policies) - 1) + ["float32"]
    np.testing.assert_array_equal(loaded(IMAGES, training=False), models[policy](IMAGES, training=False))


@pytest.mark.parametrize("policy", POLICIES)
def test_logits_are_finite_unsquashed_float32_under_any_policy(models, policy):
    model = models[policy]
    assert model.get_layer("head_pool").output.dtype == policy.removeprefix("mixed_")
    assert model.get_layer("logits").activation is keras.activations.linear
    logits = model(IMAGES, training=False)
    assert logits.shape == (3, 14)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(logits, models["float32"](IMAGES, training=False), atol=0.05)


def test_three_equal_stored_channels_are_the_grey_of_one():
    for normalisation in ("imagenet", "data_set"):
        one = build(replace(GUIDE, normalisation=normalisation))
        three = build(replace(GUIDE, normalisation=normalisation), channels=3)
        three.set_weights(one.get_weights())
        expected = one(IMAGES, training=False)
        np.testing.assert_allclose(three(IMAGES.repeat(3, axis=-1), training=False), expected, atol=1e-5)


def test_a_config_decides_on_whose_mean_and_deviation_pictures_are_normalised_by():
    own = build(GUIDE).get_layer("preprocess")
    assert (own.mean, own.std) == (130.0, 60.0)
    imagenets = build(replace(GUIDE, normalisation="imagenet")).get_layer("preprocess")
    assert (imagenets.mean, imagenets.std) == (None, None)


@pytest.mark.parametrize("config", [DENSENET, GUIDE], ids=lambda config: config.name)
@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ({"channels": 2}, "the records hold 2 channels; the model takes 1 or 3"),
        ({"side_px": 31}, r"model\.image_side_px is \d\d; expected at most the stored 31"),
        ({"findings": 0}, "findings is 0"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_before_anything_is_built(config, pictures, message):
    with pytest.raises(ConfigError, match=message):
        build(config, **pictures)
