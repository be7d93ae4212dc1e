"""LitData's `optimize`, as its README has it: a function for each input, 64 MB chunks, one worker a core.

python litdata_optimize.py WORK.json OUTPUT PROCESSES pillow|ours
"""

from __future__ import annotations

import functools
import json
import sys

import litdata
import numpy as np
from decoders import Work, read_command_line


def encode(work: Work, number: int) -> dict[str, object]:
    """Return one sample."""
    path, labels = work.rows[number]
    return {"index": number, "image": work.decode(path), "labels": np.array(labels, np.uint8)}


def main() -> int:
    """Convert; print how many samples the finished index counts."""
    work = read_command_line()
    litdata.optimize(
        fn=functools.partial(encode, work),
        inputs=list(range(len(work.rows))),
        output_dir=str(work.output),
        num_workers=work.processes,
        chunk_bytes="64MB",
    )
    index = json.loads((work.output / "index.json").read_text())
    print(f"images {sum(chunk['chunk_size'] for chunk in index['chunks'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
