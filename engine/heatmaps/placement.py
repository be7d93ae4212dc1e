"""Where the cells of a feature map lie in the stored picture, and maps of cells drawn at that picture's size.

Convolutions without padding cut the picture's rim off: four of 7 x 7, as the guide's network has them, leave
the outermost cell's centre 48 pixels from the edge of 224. Stretched over the whole picture, as is common,
such a map points beside what the network saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np

from engine.model.preprocess import Preprocess

_WINDOWS = (keras.layers.Conv2D, keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)

# For each step beyond the outermost centre: unseen, but so that a map is highest at a cell's centre.
_FALL = 1e-3


class Placement(NamedTuple):
    """Cell i has its centre at pixel `first_px + i * step_px`, alike in rows and columns; pixel 0's is 0."""

    first_px: float
    step_px: float

    def then(self, first_cell: float, stride: float) -> Placement:
        """Return where cells lie whose own centres are `first_cell + i * stride`, counted in these cells."""
        return Placement(self.first_px + self.step_px * first_cell, self.step_px * stride)


def of_layers(layers: Iterable[keras.layers.Layer]) -> Placement:
    """Follow layers from the stored picture on; those of nested models in their place.

    Args:
        layers: in the order of the computation. Branches must agree on the place of their cells, as those of
            a DenseNet do.
    """
    placed = Placement(0.0, 1.0)
    for layer in _flat(layers):
        if isinstance(layer, Preprocess):
            stride = layer.input.shape[1] / layer.image_side_px
            placed = placed.then((stride - 1) / 2, stride)
        elif isinstance(layer, keras.layers.ZeroPadding2D):
            placed = placed.then(-layer.padding[0][0], 1)
        elif isinstance(layer, _WINDOWS):
            placed = placed.then(*_window(layer))
    return placed


def upsample(maps: np.ndarray, placement: Placement, side_px: int) -> np.ndarray:
    """Draw maps of cells bilinearly at a picture's size.

    Beyond the outermost centres their value goes on for half a step, as far as a cell reaches, and falls to 0
    within one more: no cell lies on the rim that convolutions cut off.

    Args:
        maps: (B, h, w) floating point.
        placement: of their cells.
        side_px: S.

    Returns:
        (B, S, S) float32.
    """
    rows, columns = (_interpolation(cells, placement, side_px) for cells in maps.shape[1:])
    return np.einsum("yi,bij,xj->byx", rows, maps.astype(np.float64), columns, optimize=True).astype(
        np.float32
    )


def _interpolation(cells: int, placement: Placement, side_px: int) -> np.ndarray:
    """(S, cells) shares of each cell in each pixel."""
    place = (np.arange(side_px) - placement.first_px) / placement.step_px
    inside = np.clip(place, 0, cells - 1)
    beyond = np.abs(place - inside)
    fading = np.clip(1.5 - beyond, 0, 1) * (1 - _FALL * beyond)
    return fading[:, None] * np.maximum(0.0, 1.0 - np.abs(inside[:, None] - np.arange(cells)))


def _flat(layers: Iterable[keras.layers.Layer]) -> Iterator[keras.layers.Layer]:
    for layer in layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer.layers)
        else:
            yield layer


def _window(layer: keras.layers.Layer) -> tuple[float, int]:
    """Return the centre of a sliding window's first place, in cells of its input, and its stride."""
    pooling = hasattr(layer, "pool_size")
    size = layer.pool_size[0] if pooling else 1 + (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
    stride = layer.strides[0]
    before = 0
    if layer.padding == "same":
        side = layer.input.shape[1]
        places = -(-side // stride)
        before = max(0, (places - 1) * stride + size - side) // 2
    return (size - 1) / 2 - before, stride
