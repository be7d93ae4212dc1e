"""The limit: a pool of processes that does nothing but decode, resize and write pixels.

    python bare_pool.py WORK.json OUTPUT PROCESSES

Work is handed out in small chunks to whoever is free. Each process appends raw pixels to a file of its own:
no records, no checksums, no index, no renaming. Processes are forked, the quickest way to start them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import IO

import cv2

from records import pixels

SIDE_PX = 320
CHUNK = 32
_output: IO[bytes]


def main() -> int:
    """Convert the files of WORK.json; print how many there were."""
    work, output, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    paths = [path for path, _ in json.loads(work.read_text())]
    output.mkdir(parents=True)
    cv2.setNumThreads(1)
    with multiprocessing.get_context("fork").Pool(processes, _open_output, (output,)) as pool:
        images = sum(
            pool.imap_unordered(_convert, [paths[at : at + CHUNK] for at in range(0, len(paths), CHUNK)])
        )
        pool.close()
        pool.join()
    print(f"images {images}")
    return 0


def _open_output(folder: Path) -> None:
    global _output
    _output = (folder / f"{os.getpid()}.raw").open("wb", buffering=0)


def _convert(paths: list[str]) -> int:
    for path in paths:
        grey = pixels.resize(pixels.decode_grey(Path(path).read_bytes()), SIDE_PX)
        _output.write(grey.data)
    return len(paths)


if __name__ == "__main__":
    sys.exit(main())
