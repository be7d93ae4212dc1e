from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.evaluation import frozen, models, reads, summary
from engine.report import run_files
from engine.training.run_directory import RunDirectory
from records.errors import RunError

RUN = '{"state": "finished", "manifest": {"location": "/nowhere", "sha256": "a"}}'
READERS: dict[str, Callable[[Path], object]] = {
    "run.json": lambda folder: RunDirectory(str(folder)).read(),
    "ensemble.json": models.find,
    "evaluation/frozen.json": lambda folder: frozen.read(folder / "evaluation" / "frozen.json"),
    "evaluation/test_reads.json": lambda folder: reads.read(folder / "evaluation" / "test_reads.json"),
    "evaluation/test/metrics.json": lambda folder: summary.read(
        folder / "evaluation" / "test" / "metrics.json"
    ),
    "heatmaps/heatmaps.json": run_files.read,
    "benchmark.json": run_files.read,
}


@pytest.mark.parametrize("name", READERS)
def test_json_that_nests_without_end_is_an_error_of_the_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "run.json").write_text(RUN)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[" * 100_000)
    with pytest.raises(RunError, match=path.name):
        READERS[name](tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", '{"state": "finished", "manifest": {}}'),
        ("run.json", '{"state": "finished", "manifest": null}'),
        ("ensemble.json", "{}"),
        ("ensemble.json", '{"members": [{"name": 1}]}'),
    ],
)
def test_a_note_without_its_keys_is_an_error_of_the_run(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "run.json").write_text(RUN)
    (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=name):
        run_files.read(tmp_path)
