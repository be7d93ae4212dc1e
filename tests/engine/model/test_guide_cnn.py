"""The guide's network: its layers, shapes and parameters, as its own code has them."""

from dataclasses import replace

import keras
import pytest
from settings import GUIDE, build

WHOLE = replace(GUIDE, image_side_px=224, filters=(16, 32, 64, 128))


@pytest.fixture(scope="module")
def whole():
    return build(WHOLE, side_px=320)


def test_the_layers_are_the_guides(whole):
    layers = keras.layers
    guides = keras.Sequential(
        [
            keras.Input((224, 224, 1)),
            layers.Conv2D(16, (7, 7), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.BatchNormalization(),
            layers.Conv2D(32, (7, 7), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.BatchNormalization(),
            layers.Conv2D(64, (7, 7), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.BatchNormalization(),
            layers.Conv2D(128, (7, 7), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(14),
        ]
    )

    def described(layer):
        config = layer.get_config()
        return {
            key: value for key, value in config.items() if key not in ("name", "dtype", "build_config")
        }, layer.output.shape

    assert [layer.name for layer in whole.layers[:2]] == ["image", "preprocess"]
    ours = whole.layers[2:]
    # Ours is a kind of Keras's.
    assert all(isinstance(one, type(other)) for one, other in zip(ours, guides.layers, strict=True))
    assert [described(layer) for layer in ours] == [described(layer) for layer in guides.layers]


def test_the_model_has_the_guides_parameters(whole):
    assert whole.count_params() == 530_638
    assert whole.get_layer("preprocess").output.shape == (None, 224, 224, 1)
    assert whole.get_layer("norm_4").output.shape == (None, 8, 8, 128)


def test_filters_and_kernel_are_settings():
    model = build(replace(GUIDE, filters=(2, 3, 5), kernel_px=3))
    assert [model.get_layer(f"conv_{n}").kernel.shape for n in (1, 2, 3)] == [
        (3, 3, 1, 2),
        (3, 3, 2, 3),
        (3, 3, 3, 5),
    ]


@pytest.mark.parametrize(("filters", "kernel_px", "smallest"), [((4, 8), 7, 22), ((2, 2, 2), 3, 22)])
def test_the_smallest_side_that_a_config_takes_can_be_built(filters, kernel_px, smallest):
    model = build(replace(GUIDE, image_side_px=smallest, filters=filters, kernel_px=kernel_px))
    assert model.get_layer(f"norm_{len(filters)}").output.shape[1:3] == (1, 1)
