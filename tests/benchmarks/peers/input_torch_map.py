"""PyTorch's DataLoader over a memory map, whole batches at a time (`__getitems__`).

One array that lies in a file: no shards, no checks, no streaming. `workers` are processes; with JPEG
`threads` decode a batch in each of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from input_serving import BATCH, SEED, Batches, Settings, main
from input_source import PIXELS, BatchDecoder, Source
from torch.utils.data import DataLoader, Dataset


class MappedPictures(Dataset):
    """Batches straight from the map."""

    def __init__(self, source: Source, folder: Path, threads: int) -> None:
        self._source, self._labels = source, source.labels.astype(np.float32)
        self._threads, self._decode = threads, None
        if source.encoding == "raw":
            self._pixels = np.load(folder / PIXELS, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._labels)

    def __getitems__(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (64, 320, 320, 1) uint8 and (64, 14) float32."""
        labels = torch.from_numpy(self._labels[rows])
        if self._source.encoding == "raw":
            return torch.from_numpy(self._pixels[rows]), labels
        self._decode = self._decode or BatchDecoder(self._threads)  # threads don't survive a fork
        return torch.from_numpy(self._decode([self._source.picture(row) for row in rows])), labels


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Yield batches in a new order in each epoch."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    workers = int(settings["workers"])
    loader = DataLoader(
        MappedPictures(source, folder, int(settings.get("threads", 1))),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        collate_fn=_as_it_is,
        persistent_workers=workers > 0,
        prefetch_factor=int(settings.get("prefetch", 2)) if workers else None,
    )
    while True:
        yield from loader


def _as_it_is(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return batch


if __name__ == "__main__":
    sys.exit(main(batches, packages=("torch",)))
