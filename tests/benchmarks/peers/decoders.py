"""How a peer that takes the user's own function decodes a PNG: as its documentation does, or as we do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIDE_PX = 320


class Work(NamedTuple):
    """What a peer is to convert, and how."""

    rows: list[tuple[str, list[int]]]  # path and 14 labels of each image
    output: Path
    processes: int
    decode: Callable[[str], np.ndarray]


def pillow(path: str) -> np.ndarray:
    """Return (320, 320, 1) uint8; Pillow's own default of resizing, as in the peers' examples."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((SIDE_PX, SIDE_PX)))[..., None]


def ours(path: str) -> np.ndarray:
    """Return (320, 320, 1) uint8 by the code of our conversion: kornia-rs, and OpenCV's area."""
    from records import pixels

    return pixels.resize(pixels.decode_grey(Path(path).read_bytes()), SIDE_PX)[..., None]


def read_command_line(**others: Callable[[str], np.ndarray]) -> Work:
    """Read `WORK.json OUTPUT PROCESSES [pillow|ours]`; others are more decoders by their names."""
    decoders = {"pillow": pillow, "ours": ours, **others}
    work, output, processes, *decode = sys.argv[1:]
    rows = [(path, labels) for path, labels in json.loads(Path(work).read_text())]
    return Work(rows, Path(output), int(processes), decoders[(decode or ["pillow"])[0]])
