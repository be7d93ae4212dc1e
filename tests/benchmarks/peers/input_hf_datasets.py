"""Hugging Face datasets: Arrow files, `shuffle` by a list of indices, whole batches as Arrow.

A batch's numbers are reshaped where Arrow put them, ten times as fast as the library's format for NumPy. With
JPEG `threads` decode a batch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from input_serving import BATCH, SEED, Batches, Settings, main
from input_source import PICTURE_SHAPE, BatchDecoder, Source

LABELS = 14


def write(source: Source, folder: Path, settings: Settings) -> None:
    """Write Arrow files of 64 MB: a picture is a list of numbers of one length, or a JPEG file."""
    del settings
    labels = pa.array(source.labels.astype(np.float32).reshape(-1))
    columns = {"image": _pictures(source), "labels": pa.FixedSizeListArray.from_arrays(labels, LABELS)}
    datasets.Dataset(pa.table(columns)).save_to_disk(str(folder), max_shard_size="64MB")


def _pictures(source: Source) -> pa.ChunkedArray:
    if source.encoding == "jpeg":
        return pa.chunked_array([pa.array([picture for picture, _ in source], pa.binary())])
    side = int(np.prod(PICTURE_SHAPE))
    numbers = (pa.array(source.picture(number)) for number in range(len(source)))
    return pa.chunked_array([pa.FixedSizeListArray.from_arrays(picture, side) for picture in numbers])


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Yield batches in a new order in each epoch."""
    stored = datasets.load_from_disk(str(folder))
    decode = BatchDecoder(int(settings.get("threads", 1)))
    epoch = 0
    while True:
        shuffled = stored.shuffle(seed=SEED + epoch, keep_in_memory=True).with_format("arrow")
        for batch in shuffled.iter(BATCH, drop_last_batch=True):
            column = batch["image"].combine_chunks()
            if source.encoding == "raw":
                images = _numbers(column).reshape(-1, *PICTURE_SHAPE)
            else:
                images = decode([np.frombuffer(file.as_buffer(), np.uint8) for file in column])
            yield images, _numbers(batch["labels"].combine_chunks()).reshape(-1, LABELS)
        epoch += 1


def _numbers(column: pa.FixedSizeListArray) -> np.ndarray:
    """Return the numbers of a column of lists in one array, not copied."""
    return column.flatten().to_numpy()


if __name__ == "__main__":
    sys.exit(main(batches, write, packages=("datasets",)))
