"""For comparison: the same pixels read in their order, a batch at a time into one buffer, nothing ahead.

Nothing is shuffled or checked. It is no limit: a map spares a copy, and parallel reads keep a disk busier.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from input_serving import BATCH, Batches, Settings, main
from input_source import PICTURE_SHAPE, PIXELS, Source


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Yield batches in the stored order, again and again."""
    del settings
    buffer = np.empty((BATCH, *PICTURE_SHAPE), np.uint8)
    labels = source.labels.astype(np.float32)
    header_bytes = (folder / PIXELS).stat().st_size - len(source) * buffer[0].size
    while True:
        with (folder / PIXELS).open("rb", buffering=0) as file:
            file.seek(header_bytes)
            for first in range(0, len(source) - BATCH + 1, BATCH):
                file.readinto(buffer.data)
                yield buffer, labels[first : first + BATCH]


if __name__ == "__main__":
    sys.exit(main(batches))
