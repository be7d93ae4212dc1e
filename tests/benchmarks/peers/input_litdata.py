"""LitData: `optimize` writes its chunks, StreamingDataset and StreamingDataLoader read them.

`workers` are processes. Records are read one by one and shuffled within whole chunks (`batch_decode=0`,
`item_shuffle_window=0`): the default, which takes 256 at a time apart, was a tenth as fast here.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import litdata
import numpy as np
import torch
from input_serving import BATCH, SEED, Batches, Settings, main
from input_source import Source, to_pixels


def sample(source: Source, number: int) -> dict[str, object]:
    """Return one record as it is stored."""
    picture = source.picture(number)
    return {"image": picture.tobytes(), "labels": source.labels[number].astype(np.float32)}


def write(source: Source, folder: Path, settings: Settings) -> None:
    """Write chunks of 64 MB."""
    del settings
    litdata.optimize(
        fn=functools.partial(sample, source),
        inputs=list(range(len(source))),
        output_dir=str(folder),
        num_workers=2,
        chunk_bytes="64MB",
    )


def to_tensors(encoding: str, record: dict[str, object]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return picture and labels of one record."""
    image = torch.from_numpy(to_pixels(encoding, record["image"]))
    return image, torch.from_numpy(np.asarray(record["labels"]))


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Yield batches in a new order in each epoch."""
    torch.set_num_threads(1)
    workers = int(settings["workers"])
    records = litdata.StreamingDataset(
        str(folder),
        shuffle=True,
        drop_last=True,
        seed=SEED,
        batch_decode=0,
        item_shuffle_window=0,
        transform=functools.partial(to_tensors, source.encoding),
    )
    loader = litdata.StreamingDataLoader(
        records,
        batch_size=BATCH,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
        prefetch_factor=int(settings.get("prefetch", 2)) if workers else None,
    )
    while True:
        yield from loader


if __name__ == "__main__":
    sys.exit(main(batches, write, packages=("litdata",)))
