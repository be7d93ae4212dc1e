"""WebDataset: tar shards of 256 records in shuffled order, records shuffled in a buffer (`shuffle`).

`workers` are processes of its WebLoader, which make whole batches.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import webdataset
from input_serving import BATCH, SEED, Batches, Settings, main
from input_source import Source, to_pixels

RECORDS_PER_SHARD = 256


def write(source: Source, folder: Path, settings: Settings) -> None:
    """Write tar files of 256 records: `KEY.raw` or `KEY.jpeg`, and `KEY.labels`."""
    del settings
    with webdataset.ShardWriter(f"{folder}/%05d.tar", maxcount=RECORDS_PER_SHARD, verbose=0) as out:
        for number, (picture, labels) in enumerate(source):
            stored = {"picture": picture, "labels": labels.tobytes()}
            out.write({"__key__": f"{number:08d}", **stored})


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Yield batches in a new order in each epoch."""
    torch.set_num_threads(1)
    workers = int(settings["workers"])

    def to_tensors(picture_and_labels: tuple[bytes, bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        picture, labels = picture_and_labels
        image = torch.from_numpy(to_pixels(source.encoding, bytearray(picture)))
        return image, torch.from_numpy(np.frombuffer(labels, np.uint8).astype(np.float32))

    files = sorted(map(str, folder.glob("*.tar")))
    records = webdataset.WebDataset(
        files, shardshuffle=len(files), nodesplitter=None, seed=SEED, empty_check=False
    )
    records = records.shuffle(int(settings["shuffle"])).to_tuple("picture", "labels").map(to_tensors)
    stream = records.batched(BATCH, collation_fn=_stack, partial=False).repeat()
    loader = webdataset.WebLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=int(settings.get("prefetch", 2)) if workers else None,
    )
    return iter(loader)


def _stack(records: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, ...]:
    return tuple(map(torch.stack, zip(*records, strict=True)))


if __name__ == "__main__":
    sys.exit(main(batches, write, packages=("webdataset",)))
