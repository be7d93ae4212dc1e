"""MosaicML Streaming's MDSWriter in a pool, as its guide to parallel conversion has it.

    python mds_pool.py WORK.json OUTPUT PROCESSES pillow|ours

The rows are cut into groups, each process writes its group into a folder of its own, and the folders' indexes
are merged at the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from multiprocessing import Pool

import numpy as np
from decoders import Work, read_command_line
from streaming import MDSWriter
from streaming.base.util import merge_index

COLUMNS = {"image": "ndarray:uint8:320,320,1", "labels": "ndarray:uint8:14"}


def each_task(work: Work) -> Iterator[tuple[Work, int, int, int]]:
    """Yield number, first row and end of each process's group."""
    bounds = np.linspace(0, len(work.rows), work.processes + 1).astype(int).tolist()
    for group in range(work.processes):
        yield work, group, bounds[group], bounds[group + 1]


def convert_to_mds(task: tuple[Work, int, int, int]) -> None:
    """Write one group into its folder."""
    work, group, begin, end = task
    with MDSWriter(out=str(work.output / str(group)), columns=COLUMNS) as out:
        for path, labels in work.rows[begin:end]:
            out.write({"image": work.decode(path), "labels": np.array(labels, np.uint8)})


def main() -> int:
    """Convert; print how many samples the merged index counts."""
    work = read_command_line()
    with Pool(processes=work.processes) as pool:
        for _ in pool.imap(convert_to_mds, each_task(work)):
            pass
    merge_index(str(work.output), keep_local=True)
    index = json.loads((work.output / "index.json").read_text())
    print(f"images {sum(shard['samples'] for shard in index['shards'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
