"""Grain over ArrayRecord, as its documentation has it: source, shuffle, repeat, map, batch, read by threads.

`threads` and `buffer` are its ReadOptions; they count batches here, since reading comes after batching.
ArrayRecord files have groups of one record, as random access wants them, and no compression.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from input_serving import BATCH, SEED, Batches, Settings, main
from input_source import Source, to_pixels

LABELS = 14
RECORDS_PER_FILE = 256


def write(source: Source, folder: Path, settings: Settings) -> None:
    """Write files of 256 records: 14 bytes of labels and the picture."""
    del settings
    writer = None
    for number, (picture, labels) in enumerate(source):
        if number % RECORDS_PER_FILE == 0:
            if writer:
                writer.close()
            path = folder / f"{number // RECORDS_PER_FILE:05d}.array_record"
            writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        writer.write(labels.tobytes() + picture)
    writer.close()


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Yield batches in a new order in each epoch."""

    def parse(record: bytes) -> tuple[np.ndarray, np.ndarray]:
        labels = np.frombuffer(record, np.uint8, LABELS).astype(np.float32)
        return to_pixels(source.encoding, memoryview(record)[LABELS:]), labels

    files = sorted(map(str, folder.glob("*.array_record")))
    records = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(files))
    stream = records.shuffle(seed=SEED).repeat().map(parse).batch(BATCH, drop_remainder=True)
    options = grain.ReadOptions(
        num_threads=int(settings["threads"]), prefetch_buffer_size=int(settings["buffer"])
    )
    return iter(stream.to_iter_dataset(options))


if __name__ == "__main__":
    sys.exit(main(batches, write, packages=("grain",)))
