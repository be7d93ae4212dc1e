"""A small data set and a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest
from fabricated import make_data_set, numbered_record, write_run

from records.example import Record
from records.manifest import Manifest

SIZES = {"train": (3, 20), "validation": (1, 12), "test": (2, 15)}  # shards, records a shard


@pytest.fixture(scope="session")
def records() -> dict[str, list[list[Record]]]:
    """The records of each shard; every finding but Hernia occurs, and one test image has a hostile name."""
    number, made = 0, {}
    for split, (shards, size) in SIZES.items():
        made[split] = []
        for _ in range(shards):
            made[split].append(
                [numbered_record(n, hostile=split == "test") for n in range(number, number + size)]
            )
            number += size
    return made


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory, records: dict[str, list[list[Record]]]) -> Manifest:
    return make_data_set(tmp_path_factory.mktemp("data"), records)


@pytest.fixture
def run_dir(tmp_path: Path, data_set: Manifest, records: dict[str, list[list[Record]]]) -> Path:
    return write_run(tmp_path / "run", data_set, [record for shard in records["test"] for record in shard])
