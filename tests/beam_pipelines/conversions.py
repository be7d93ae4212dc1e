"""What tests of conversions ask of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipelines import convert, output
from records import example, manifest, tfrecord


def error_of(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """Run a conversion that must fail with `code` and one line; return the line."""
    assert convert.main(arguments) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("converting:")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def tree_of(folder: Path) -> dict[str, bytes]:
    """Return all bytes of a data set but the file that says where and how fast it was made."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != output.CONVERSION_NAME
    }


def records_of(folder: Path, *, with_split: bool = False) -> list:
    """Return all records of a data set, in its order; with their splits, if asked for."""
    made = manifest.load(str(folder))
    found = []
    for name, split in made.splits.items():
        for shard in split.shards:
            with Path(made.locate(shard)).open("rb") as file:
                for frame in tfrecord.read(file, shard.path):
                    record = example.decode(frame.payload)
                    found.append((name, record) if with_split else record)
    return found
