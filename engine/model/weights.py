"""Weights for a fresh model: from ImageNet, from a file of its backbone, or from another model.

Which layers took weights and which kept their initial ones is printed and returned, because a transfer
that silently skips most of a model looks like a working one.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras

from records.errors import ConfigError, RunError

IMAGENET = "imagenet"
NO_WEIGHTS = "none"

# The files that keras.applications fetches with weights="imagenet" and include_top=False, and their MD5s.
# Fetching them here keeps a failed download apart from a fault in building the model, and shares Keras's
# cache.
IMAGENET_FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/densenet"
IMAGENET_FILES = {
    "densenet121": (
        "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "30ee3e1110167f948a6b9946edeeb738",
    ),
    "densenet169": (
        "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "b8c4d4c20dd625c148057b9ff1c1176b",
    ),
    "densenet201": (
        "densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "c13680b51ded0fb44dff2d8f86ac8bb1",
    ),
}


@dataclass(frozen=True)
class WeightTransfer:
    """What a file gave to a model, by the names of the model's layers that have weights."""

    source: str
    loaded: tuple[str, ...]
    not_loaded: tuple[str, ...]

    def __str__(self) -> str:
        """One line for a log; the layers left out are named, up to eight."""
        line = f"{self.source}: weights for {len(self.loaded)} layers"
        if not self.not_loaded:
            return f"{line}, all of the model's"
        rest = ", ".join(self.not_loaded[:8]) + (", ..." if len(self.not_loaded) > 8 else "")
        return f"{line}; {len(self.not_loaded)} keep their initial ones: {rest}"


def load_weights(model: keras.Model, source: str) -> WeightTransfer:
    """Load weights into a model; its backbone, if it has one, is the model among its layers.

    Args:
        model: changed in place.
        source: `imagenet`, for a backbone named in `IMAGENET_FILES`; or a local path that ends in
            `.keras`: any saved model; layers of the same name and weight shapes are taken,
            `.weights.h5`: `save_weights` of the whole model or of its backbone, which must fit in full,
            `.h5`: a file of `keras.applications`, which must fit the backbone in full.

    Raises:
        ConfigError: no such file, a name that ends otherwise, or weights of a backbone for a model without.
        RunError: ImageNet's weights can't be fetched, the file can't be read, or it doesn't fit.
    """
    path = _imagenet_path(_backbone(model, source).name) if source == IMAGENET else _local_path(source)
    if path.name.endswith(".keras"):
        loaded = _load_by_name(model, path)
    elif path.name.endswith(".weights.h5") and _holds_whole(path):
        loaded = _load_in_full(model, path)
    else:
        loaded = _load_in_full(_backbone(model, source), path)
    transfer = _report(model, source, loaded)
    print(transfer, file=sys.stderr)
    return transfer


def weighted_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers with weights, those of nested models in their place; names are unique within ours."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from weighted_layers(layer)
        elif layer.weights:
            yield layer


def _report(model: keras.Model, source: str, loaded: set[str]) -> WeightTransfer:
    names = [layer.name for layer in weighted_layers(model)]
    return WeightTransfer(
        source=source,
        loaded=tuple(name for name in names if name in loaded),
        not_loaded=tuple(name for name in names if name not in loaded),
    )


def _local_path(source: str) -> Path:
    path = Path(source)
    if not path.name.endswith((".keras", ".h5")):
        raise ConfigError(
            f"model.weights: `{source}` is not `{NO_WEIGHTS}`, `{IMAGENET}` or a path that ends in "
            "`.keras`, `.weights.h5` or `.h5`"
        )
    if not path.is_file():
        raise ConfigError(f"model.weights: no file stands at `{source}`; give a local path or `{NO_WEIGHTS}`")
    return path


def _backbone(model: keras.Model, source: str) -> keras.Model:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            return layer
    raise ConfigError(
        f"model.weights: `{source}` has weights for a backbone, which {model.name} has none of; give the "
        f"path of a `.keras` file, or `{NO_WEIGHTS}`"
    )


def _imagenet_path(backbone: str) -> Path:
    name, md5 = IMAGENET_FILES[backbone]
    url = f"{IMAGENET_FOLDER}/{name}"
    try:
        return Path(keras.utils.get_file(name, url, cache_subdir="models", file_hash=md5))
    # Keras reports a failed download as a bare `Exception`, and a bad hash as `ValueError`.
    except Exception as error:
        raise RunError(
            f"the ImageNet weights can't be fetched ({_one_line(error)}); set model.weights to "
            f"`{NO_WEIGHTS}`, or to the local path of a copy of {name}"
        ) from error


def _load_by_name(model: keras.Model, path: Path) -> set[str]:
    """Copy the weights of equally named layers; returns their names."""
    try:
        donor = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: can't be read as a saved Keras model ({_one_line(error)})") from error
    given = {layer.name: layer for layer in weighted_layers(donor)}
    loaded = set()
    for layer in weighted_layers(model):
        if layer.name in given and _shapes(layer) == _shapes(given[layer.name]):
            layer.set_weights(given[layer.name].get_weights())
            loaded.add(layer.name)
    if not loaded:
        raise RunError(f"{path}: none of its {len(given)} layers with weights fits a layer of {model.name}")
    return loaded


def _holds_whole(path: Path) -> bool:
    """Tell a `save_weights` file of a whole model of ours from one of its backbone."""
    try:
        with h5py.File(path) as file:
            layers = file.get("layers", {})
            # All of ours begin with this layer; Keras names the groups by class.
            return "preprocess" in layers or "channel_attention" in layers
    except OSError as error:
        raise RunError(f"{path}: can't be read as HDF5 ({_one_line(error)})") from error


def _load_in_full(target: keras.Model, path: Path) -> set[str]:
    """Load a weights file that must fit `target` in full; returns the names of its layers."""
    try:
        with warnings.catch_warnings():
            # Keras only warns where a part of the model has no counterpart in the file.
            warnings.filterwarnings("error", message="Skipping nested container")
            target.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserWarning) as error:
        raise RunError(f"{path}: its weights don't fit {target.name} ({_one_line(error)})") from error
    return {layer.name for layer in weighted_layers(target)}


def _shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _one_line(error: BaseException) -> str:
    # Keras prints a whole config first and the cause after this mark.
    cause = str(error).rpartition("Exception encountered:")[2]
    return " ".join(cause.split())[:300]
