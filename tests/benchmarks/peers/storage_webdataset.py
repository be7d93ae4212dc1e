"""WebDataset from object storage.

    python storage_webdataset.py write IMAGES.npy LABELS.npy FOLDER
    python storage_webdataset.py JOB

Writes tar files of 256 samples. Reads as its documentation has it for HTTP servers: shards by `curl` in a
pipe, shuffled by shard and within a buffer of 1,000, and a `WebLoader`; four workers were the fastest of 0,
1, 2 and 4. It keeps nothing, so nothing is written to a cache.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.request

import numpy as np
import webdataset
from storage_consumer import job, say, take

WORKERS = 4
SHUFFLED_RECORDS = 1_000
_LIST = "shards.txt"


def write(images: str, labels: str, folder: str) -> None:
    """Write all samples."""
    pixels, findings = np.load(images, mmap_mode="r"), np.load(labels, mmap_mode="r")
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    with webdataset.ShardWriter(f"{folder}/%05d.tar", maxcount=256, verbose=0) as out:
        for number, (image, found) in enumerate(zip(pixels, findings, strict=True)):
            out.write({"__key__": f"{number:08d}", "image": image.tobytes(), "labels": found.tobytes()})
    names = sorted(name for name in os.listdir(folder) if name.endswith(".tar"))  # noqa: PTH208
    with open(f"{folder}/{_LIST}", "w") as listed:  # noqa: PTH123
        listed.write("\n".join(names))


def decoded(sample: dict[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Turn stored bytes into pixels and labels."""
    image = np.frombuffer(sample["image"], np.uint8).reshape(320, 320, 1)
    return image, np.frombuffer(sample["labels"], np.uint8)


def read() -> None:
    """Go through the bucket once."""
    asked = job()
    begin = time.perf_counter()
    base = f"{os.environ['AWS_ENDPOINT_URL_S3']}/{asked.source.removeprefix('s3://')}"
    with urllib.request.urlopen(f"{base}/{_LIST}") as answer:
        names = answer.read().decode().split()
    data = (
        webdataset.WebDataset(
            [f"pipe:curl -s -f {base}/{name}" for name in names],
            shardshuffle=len(names),
            nodesplitter=None,
            empty_check=False,
        )
        .shuffle(SHUFFLED_RECORDS)
        .map(decoded)
        .batched(asked.batch)
    )
    loader = webdataset.WebLoader(data, batch_size=None, num_workers=WORKERS)
    open_s = time.perf_counter() - begin
    taken = take(loader, asked.step_ms)
    taken.open_s = open_s
    say([taken])


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
    else:
        read()
