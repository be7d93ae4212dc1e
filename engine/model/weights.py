"""Weights for a fresh model: from ImageNet, from a file of its backbone, or from another model of ours.

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
BACKBONE = "densenet121"

# The file that keras.applications.DenseNet121(weights="imagenet", include_top=False) fetches. Fetching it
# here keeps a failed download apart from a fault in building the model, and shares Keras's cache.
IMAGENET_FILE = "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGENET_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/densenet/{IMAGENET_FILE}"
IMAGENET_MD5 = "30ee3e1110167f948a6b9946edeeb738"


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
    """Load weights into a model that holds its backbone as a layer named `BACKBONE`.

    Args:
        model: changed in place.
        source: `imagenet`; or a local path that ends in
            `.keras`: any saved model; layers of the same name and weight shapes are taken,
            `.weights.h5`: `save_weights` of the whole model or of its backbone, which must fit in full,
            `.h5`: a file of `keras.applications`, which must fit the backbone in full.

    Raises:
        ConfigError: no such file, or a name that ends otherwise.
        RunError: ImageNet's weights can't be fetched, the file can't be read, or it doesn't fit.
    """
    path = _imagenet_path() if source == IMAGENET else _local_path(source)
    if path.name.endswith(".keras"):
        loaded = _load_by_name(model, path)
    elif path.name.endswith(".weights.h5"):
        loaded = _load_keras_weights(model, path)
    else:
        loaded = _load_whole(model.get_layer(BACKBONE), path)
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


def _imagenet_path() -> Path:
    try:
        return Path(
            keras.utils.get_file(IMAGENET_FILE, IMAGENET_URL, cache_subdir="models", file_hash=IMAGENET_MD5)
        )
    # Keras reports a failed download as a bare `Exception`, and a bad hash as `ValueError`.
    except Exception as error:
        raise RunError(
            f"the ImageNet weights can't be fetched ({_one_line(error)}); set model.weights to "
            f"`{NO_WEIGHTS}`, or to the local path of a copy of {IMAGENET_FILE}"
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


def _load_keras_weights(model: keras.Model, path: Path) -> set[str]:
    """Load a `save_weights` file into the whole model or, if it is one of a backbone, into that."""
    try:
        with h5py.File(path) as file:
            # Keras names the groups by class, so a whole model of ours shows by its attention.
            is_whole = "channel_attention" in file.get("layers", {})
    except OSError as error:
        raise RunError(f"{path}: can't be read as HDF5 ({_one_line(error)})") from error
    return _load_whole(model if is_whole else model.get_layer(BACKBONE), path)


def _load_whole(target: keras.Model, path: Path) -> set[str]:
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
