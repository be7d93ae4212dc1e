"""Judges a run and reads what that left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.evaluation import evaluate
from engine.training.run_directory import RunDirectory
from records.errors import RunError

DRAWS = 100


def judge(directory: RunDirectory, **changes) -> int:
    return evaluate.run(str(directory.path), **({"draws": DRAWS} | changes))


def path_of(directory: RunDirectory, split: str, name: str = "predictions.csv") -> Path:
    return directory.evaluation_path(split) / name


def metrics_of(directory: RunDirectory, split: str) -> dict:
    return json.loads(path_of(directory, split, "metrics.json").read_bytes())


def json_of(directory: RunDirectory, name: str) -> list | dict:
    return json.loads((directory.path / "evaluation" / name).read_bytes())


def fails(directory: RunDirectory, match: str, **changes) -> str:
    with pytest.raises(RunError, match=match) as raised:
        judge(directory, **changes)
    assert "\n" not in str(raised.value)
    return str(raised.value)
