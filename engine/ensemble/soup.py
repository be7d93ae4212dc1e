"""A soup: one model whose weights are the mean of several models' of one architecture.

Source: Wortsman et al. 2022, "Model soups". It costs as much as one model, and works where its members were
trained from the same first weights, such as ImageNet's. The running means and variances of batch
normalisation don't average: they are worked out anew by a pass over training pictures, as Izmailov et al.
2018 do for averaged weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from engine.evaluation.predictor import load_model
from engine.input.reader import ShardReader
from engine.model.weights import weighted_layers
from records.errors import RunError

BATCH = 32
# Enough for means and variances of a layer, and a minute or two of a CPU.
MAX_PICTURES = 2048


def average(paths: Sequence[Path]) -> keras.Model:
    """Return the first model with the mean of all models' weights, the running statistics among them.

    Args:
        paths: of the saved models.

    Raises:
        RunError: a file is no model, or the models aren't of one architecture; the line names the first
            difference.
    """
    soup = load_model(paths[0])
    sums = {layer.name: _float64(layer) for layer in weighted_layers(soup)}
    for path in paths[1:]:
        # One at a time: of large models, few fit into memory.
        model = load_model(path)
        if difference := first_difference(soup, model):
            raise RunError(f"{path}: not of the architecture of {paths[0]}: {difference}; a soup needs one")
        for layer in weighted_layers(model):
            sums[layer.name] = [a + b for a, b in zip(sums[layer.name], _float64(layer), strict=True)]
    for layer in weighted_layers(soup):
        layer.set_weights([(total / len(paths)).astype(np.float32) for total in sums[layer.name]])
    return soup


def first_difference(one: keras.Model, other: keras.Model) -> str | None:
    """Say in what two models differ, but for the values of their weights; None: they are of one kind."""
    ours, theirs = list(weighted_layers(one)), list(weighted_layers(other))
    for mine, its in zip(ours, theirs, strict=False):
        if mine.name != its.name:
            return f"layer `{its.name}` in place of `{mine.name}`"
        shapes = [[tuple(weight.shape) for weight in layer.weights] for layer in (its, mine)]
        if shapes[0] != shapes[1]:
            return f"layer `{mine.name}` has weights of {shapes[0]}, not of {shapes[1]}"
    if len(ours) != len(theirs):
        return f"{len(theirs)} layers with weights, not {len(ours)}"
    before, after = (_preprocessing(model) for model in (one, other))
    return next(
        (
            f"preprocessing has {key} {after.get(key)}, not {value}"
            for key, value in before.items()
            if after.get(key) != value
        ),
        None,
    )


def renew_batch_norm(model: keras.Model, reader: ShardReader) -> int:
    """Work the running statistics of batch normalisation out anew, from training pictures as they are stored.

    Each batch is normalised by its own statistics, as in training; the means are averaged over the batches,
    and the variances pooled.

    Args:
        model: changed in place.
        reader: of the training split.

    Returns:
        How many pictures were used, at most `MAX_PICTURES`, spread over the split; 0 where the model has no
        such layers, or where there are no two pictures.
    """
    layers = [
        layer
        for layer in weighted_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    batches = _spread_rows(len(reader))
    if not layers or not batches:
        return 0
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0  # so that the running statistics are those of the batch
        forward = tf.function(lambda images: model(images, training=True), reduce_retracing=True)
        statistics = [_statistics(layers, forward, reader.gather(rows)[0]) for rows in batches]
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    for layer, of_batches in zip(layers, zip(*statistics, strict=True), strict=True):
        means, variances = (np.array(values) for values in zip(*of_batches, strict=True))
        layer.moving_mean.assign(means.mean(axis=0))
        layer.moving_variance.assign(variances.mean(axis=0) + means.var(axis=0))
    return sum(map(len, batches))


def _spread_rows(records: int) -> list[np.ndarray]:
    """Rows of whole batches, evenly over the split; one batch where there are fewer records."""
    used = min(records, MAX_PICTURES)
    if used < 2:
        return []
    rows = np.arange(used) * records // used
    whole = max(1, used // BATCH)
    return [rows[number * BATCH : (number + 1) * BATCH] for number in range(whole)]


def _statistics(
    layers: Sequence[Any], forward: Any, images: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and variance, float64, of each layer's inputs in one batch."""
    forward(tf.convert_to_tensor(images))
    return [
        (layer.moving_mean.numpy().astype(np.float64), layer.moving_variance.numpy().astype(np.float64))
        for layer in layers
    ]


def _float64(layer: keras.layers.Layer) -> list[np.ndarray]:
    return [values.astype(np.float64) for values in layer.get_weights()]


def _preprocessing(model: keras.Model) -> dict[str, Any]:
    """The settings of the layer without weights that decides on what the others see."""
    layer = next((layer for layer in model.layers if layer.name == "preprocess"), None)
    return layer.get_config() if layer else {}
