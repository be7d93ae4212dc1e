"""The limit for JPEG: libjpeg-turbo decoding from one memory map in threads (`threads=2`), and nothing else.

No shards, no checks, no resume, no streaming. simplejpeg hands the bytes to the library and lets go of the
interpreter's lock; each thread decodes whole batches of its own, so that none waits for another.
"""

from __future__ import annotations

import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from input_serving import BATCH, SEED, Batches, Settings, main
from input_source import BatchDecoder, Source


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Yield batches in a new order in each epoch."""
    del folder
    threads = int(settings["threads"])
    decode, pool = BatchDecoder(threads=1), ThreadPoolExecutor(threads)
    labels = source.labels.astype(np.float32)
    generator = np.random.default_rng(SEED)
    pending: deque = deque()
    while True:
        order = generator.permutation(len(source))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[first : first + BATCH]
            pending.append((pool.submit(decode, [source.picture(row) for row in rows]), labels[rows]))
            if len(pending) > 2 * threads:
                images, batch_labels = pending.popleft()
                yield images.result(), batch_labels


if __name__ == "__main__":
    sys.exit(main(batches, packages=("simplejpeg",)))
