"""Ends while a thread of tf.data is in the middle of a batch, and says when batches are whole.

Run as a process of its own: python ending_program.py MANIFEST FOLDER SLOW_S
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))

from engine.input.pipeline import evaluation_batches
from engine.input.reader import ShardReader
from engine.input.shard_cache import CacheSettings
from records import manifest

second_begun = threading.Event()


class SlowReader(ShardReader):
    """Takes its time for all batches but the first."""

    slow_s = 0.0

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        if rows[0]:
            second_begun.set()
            time.sleep(self.slow_s)
        batch = super().gather(rows, out)
        print("gathered", flush=True)
        return batch


location, folder, slow_s = sys.argv[1:]
reader = SlowReader(manifest.load(location), "train", cache_settings=CacheSettings(Path(folder), 1 << 20))
reader.slow_s = float(slow_s)
batches = iter(evaluation_batches(reader, 6, prefetch=1, threads=1))
next(batches)
second_begun.wait()
print("ending", flush=True)
