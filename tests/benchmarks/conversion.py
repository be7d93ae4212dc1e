"""Our own commands as the benchmarks start them, and what can be seen of a conversion from outside."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import linked_tree

from records.storage import SCRATCH_SUFFIX

SHARD_OPENED, SHARD_PUBLISHED = "first shard begun", "first shard published"


def command(sample: Path, images: Path, output: Path, flags: Sequence[str]) -> list[str]:
    """Return the command that converts a linked tree, in which images repeat, by the real table.

    Args:
        sample: folder with the NIH's table and lists.
        images: the linked tree.
        output: folder of the data set.
        flags: `--split ...` and more; the lists are added for the official split.
    """
    found = [sys.executable, "-m", "beam_pipelines.convert", "--images", str(images), "--output", str(output)]
    found += ["--labels", str(sample / linked_tree.TABLE), "--allow_duplicates", *flags]
    if "official" in flags:
        lists = (sample / linked_tree.TRAIN_VAL_LIST, sample / linked_tree.TEST_LIST)
        found += ["--train_val_list", str(lists[0]), "--test_list", str(lists[1])]
    return found


def write_work(work: Path, images: Path, labels: Mapping[str, Sequence[int]] | None) -> None:
    """Write the list that other candidates are given: path and labels of each image, in name order."""
    rows = [(str(path), list(labels[path.name]) if labels else []) for path in sorted(images.rglob("*.png"))]
    work.write_text(json.dumps(rows))


def audit(sample: Path, output: Path) -> list[str]:
    """Return the command that audits a data set against the real table."""
    return [
        sys.executable,
        "-m",
        "beam_pipelines.audit",
        str(output),
        "--labels",
        str(sample / linked_tree.TABLE),
    ]


def events(output: Path) -> dict[str, Callable[[], bool]]:
    """Return what tells that a worker has begun the first shard, and that the first one is published."""
    return {
        SHARD_OPENED: lambda: any(output.glob(f"*/.*.tfrecord.*{SCRATCH_SUFFIX}")),
        SHARD_PUBLISHED: lambda: any(output.glob("*/[!.]*.tfrecord")),
    }
