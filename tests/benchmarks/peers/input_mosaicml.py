"""MosaicML Streaming: MDSWriter writes its shards, StreamingDataset in a DataLoader reads them.

`workers` are processes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import streaming
import torch
from input_serving import BATCH, SEED, Batches, Settings, main
from input_source import Source, to_pixels
from torch.utils.data import DataLoader


class Pictures(streaming.StreamingDataset):
    """Records as tensors."""

    def __init__(self, encoding: str, **options: object) -> None:
        super().__init__(**options)
        self._encoding = encoding

    def __getitem__(self, at: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return picture and labels."""
        record = super().__getitem__(at)
        image = torch.from_numpy(to_pixels(self._encoding, record["image"]))
        return image, torch.from_numpy(record["labels"])


def write(source: Source, folder: Path, settings: Settings) -> None:
    """Write shards of 64 MB, the default."""
    del settings
    columns = {"image": "bytes", "labels": "ndarray:float32:14"}
    with streaming.MDSWriter(out=str(folder), columns=columns) as out:
        for picture, labels in source:
            out.write({"image": picture, "labels": labels.astype(np.float32)})


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Yield batches in a new order in each epoch."""
    torch.set_num_threads(1)
    streaming.base.util.clean_stale_shared_memory()
    workers = int(settings["workers"])
    records = Pictures(source.encoding, local=str(folder), shuffle=True, shuffle_seed=SEED, batch_size=BATCH)
    loader = DataLoader(
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
    sys.exit(main(batches, write, packages=("mosaicml-streaming",)))
