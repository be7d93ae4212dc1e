"""LitData from object storage.

    python storage_litdata.py write IMAGES.npy LABELS.npy FOLDER
    python storage_litdata.py JOB

Writes chunks of 64 MB. Reads by a `StreamingDataset` over the bucket with a cache folder, shuffled record by
record (`batch_decode=0`, `item_shuffle_window=0`: the default, which takes 256 at a time apart, was a tenth
as fast), and a `StreamingDataLoader` of `WORKERS` processes, the fastest of 0, 1, 2 and 4.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from pathlib import Path

import litdata
import numpy as np
import torch
from litdata.streaming import downloader
from storage_consumer import job, say, take

WORKERS = 1


def sample(images: str, labels: str, number: int) -> dict[str, object]:
    """Return one sample."""
    return {
        "image": np.load(images, mmap_mode="r")[number].tobytes(),
        "labels": np.load(labels, mmap_mode="r")[number].tobytes(),
    }


def to_tensors(record: dict[str, bytes]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pixels and the labels of one sample."""
    image = np.frombuffer(record["image"], np.uint8).reshape(320, 320, 1)
    return torch.from_numpy(image.copy()), torch.from_numpy(np.frombuffer(record["labels"], np.uint8).copy())


def write(images: str, labels: str, folder: str) -> None:
    """Write all samples in chunks of 64 MB."""
    count = len(np.load(labels, mmap_mode="r"))
    litdata.optimize(
        fn=functools.partial(sample, images, labels),
        inputs=list(range(count)),
        output_dir=folder,
        num_workers=2,
        chunk_bytes="64MB",
    )


def read() -> None:
    """Go through the bucket once."""
    asked = job()
    torch.set_num_threads(1)
    # Its client takes https:// alone, and no setting of its own changes that.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
    begin = time.perf_counter()
    data = litdata.StreamingDataset(
        asked.source,
        cache_dir=str(Path(asked.folder)),
        shuffle=True,
        drop_last=False,
        max_cache_size="50GB",
        batch_decode=0,
        item_shuffle_window=0,
        transform=to_tensors,
        storage_options={
            "endpoint_url": os.environ["AWS_ENDPOINT_URL_S3"],
            "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        },
    )
    loader = litdata.StreamingDataLoader(data, batch_size=asked.batch, num_workers=WORKERS)
    open_s = time.perf_counter() - begin
    taken = take(loader, asked.step_ms)
    taken.open_s = open_s
    say([taken])


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
    else:
        read()
