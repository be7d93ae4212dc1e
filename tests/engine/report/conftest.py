"""A small data set, finished runs, and a report of each kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fabricated import (
    SIDE_PX,
    make_data_set,
    numbered_record,
    write_ensemble,
    write_heatmaps,
    write_run,
)
from rendered_report import Report

from engine.report import page, published
from records.example import Record
from records.manifest import Manifest

SIZES = {"train": (3, 20), "validation": (1, 12), "test": (2, 15)}  # shards, records a shard

Records = dict[str, list[list[Record]]]


@pytest.fixture(scope="session")
def records() -> Records:
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
def data_set(tmp_path_factory: pytest.TempPathFactory, records: Records) -> Manifest:
    return make_data_set(tmp_path_factory.mktemp("data"), records)


@pytest.fixture(scope="session")
def real_data_set(tmp_path_factory: pytest.TempPathFactory, records: Records) -> Manifest:
    """The same, said to be of patients."""
    return make_data_set(tmp_path_factory.mktemp("real"), records, phantom=False, strategy="random")


@pytest.fixture(scope="session")
def judged_run(tmp_path_factory: pytest.TempPathFactory, data_set: Manifest, records: Records) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", data_set, records)


@pytest.fixture
def run_dir(tmp_path: Path, judged_run: Path) -> Path:
    """A judged run that a test may change."""
    return Path(shutil.copytree(judged_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def run_report(judged_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a run of phantoms, without heat maps and without a second run."""
    return Report(judged_run, *page.write(judged_run, tmp_path_factory.mktemp("report")))


@pytest.fixture(scope="session")
def full_report(
    tmp_path_factory: pytest.TempPathFactory, real_data_set: Manifest, records: Records
) -> Report:
    """The report of an ensemble on patients, with all that there can be, as if the data set were whole."""
    folder = tmp_path_factory.mktemp("full")
    run_dir = write_ensemble(folder / "ensemble", real_data_set, records)
    random = np.random.default_rng(0)
    pictures = [
        (f"{number:08d}_000.png", finding, random.integers(0, 256, (SIDE_PX, 2 * SIDE_PX, 3), np.uint8))
        for number, finding in enumerate(("Mass", "Effusion", "Mass", "Nodule"))
    ]
    write_heatmaps(run_dir, real_data_set, pictures)
    other = write_run(folder / "plain", real_data_set, records, loss="bce", skill=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "ALL_IMAGES", sum(split.images for split in real_data_set.splits.values()))
        return Report(run_dir, *page.write(run_dir, compare=other))
