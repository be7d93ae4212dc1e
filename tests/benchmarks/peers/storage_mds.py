"""MosaicML Streaming from object storage.

    python storage_mds.py write IMAGES.npy LABELS.npy FOLDER
    python storage_mds.py JOB

Writes shards of 64 MB with `MDSWriter`. Reads as its guide has it: a `StreamingDataset` with the bucket as
its remote, shuffled, in a PyTorch `DataLoader` of one process. Two and four were as fast or faster in some
runs, and in others waited for 30 s at the start.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from storage_consumer import job, say, take
from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

COLUMNS = {"image": "bytes", "labels": "ndarray:uint8:14"}
WORKERS = 1


class Pictures(StreamingDataset):
    """Samples as tensors."""

    def __getitem__(self, at: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pixels and labels."""
        record = super().__getitem__(at)
        image = np.frombuffer(record["image"], np.uint8).reshape(320, 320, 1)
        return torch.from_numpy(image.copy()), torch.from_numpy(record["labels"])


def write(images: str, labels: str, folder: str) -> None:
    """Write all samples."""
    pixels, findings = np.load(images, mmap_mode="r"), np.load(labels, mmap_mode="r")
    with MDSWriter(out=folder, columns=COLUMNS, size_limit="64mb") as out:
        for image, found in zip(pixels, findings, strict=True):
            out.write({"image": image.tobytes(), "labels": np.array(found)})


def read() -> None:
    """Go through the bucket once."""
    asked = job()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    data = Pictures(
        remote=asked.source,
        local=str(Path(asked.folder, "local")),
        shuffle=True,
        batch_size=asked.batch,
        num_canonical_nodes=1,
    )
    loader = DataLoader(data, batch_size=asked.batch, num_workers=WORKERS)
    open_s = time.perf_counter() - begin
    taken = take(loader, asked.step_ms)
    taken.open_s = open_s
    say([taken])


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
    else:
        read()
