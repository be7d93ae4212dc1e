"""The limit for raw pictures: NumPy's `take` from one memory map, in one thread.

No shards, no checks, no resume, no streaming.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from input_serving import BATCH, SEED, Batches, Settings, main
from input_source import LABELS, PIXELS, Source


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Yield batches in a new order in each epoch."""
    del source, settings
    pixels = np.load(folder / PIXELS, mmap_mode="r")
    labels = np.load(folder / LABELS).astype(np.float32)
    generator = np.random.default_rng(SEED)
    while True:
        order = generator.permutation(len(labels))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[first : first + BATCH]
            yield np.take(pixels, rows, axis=0), labels[rows]


if __name__ == "__main__":
    sys.exit(main(batches, packages=("numpy",)))
