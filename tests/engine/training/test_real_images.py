"""The whole way on real images at 320 pixels: convert, audit, train one epoch, evaluate, report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.evaluation import predictions as files
from engine.metrics import auroc

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return done


def test_one_epoch_at_320_pixels_trains_evaluates_and_reports(nih: Path, tmp_path: Path):
    labels, shards, run = nih / "labels", tmp_path / "shards", tmp_path / "run"
    table = labels / "Data_Entry_2017_v2020.csv.gz"
    _run(
        "beam_pipelines.convert", "--images", nih / "images", "--labels", table, "--split", "official",
        "--train_val_list", labels / "train_val_list.txt", "--test_list", labels / "test_list.txt",
        "--validation_fraction", "0.1", "--allow_missing_images", "--output", shards,
    )  # fmt: skip
    assert "faults: 0" in _run("beam_pipelines.audit", shards, "--labels", table).stdout
    _run(
        "engine.cli", "train", "--config", "configs/baseline.yaml", "--data", shards, "--run-dir", run,
        "--set", "model.weights=none", "--set", "train.epochs=1", "--set", "train.precision=mixed_bfloat16",
    )  # fmt: skip
    known = json.loads((run / "run.json").read_text())
    assert (known["state"], known["parameters"]) == ("finished", 8_228_081)
    _run("engine.cli", "evaluate", "--run-dir", run, "--split", "test")
    predictions = files.read(run / "evaluation" / "test" / "predictions.csv")
    assert len(predictions.image_ids) == 118
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    areas = auroc(predictions.labels, predictions.logits)
    assert metrics["macro_auroc"]["value"] == pytest.approx(np.nanmean(areas))
    page = Path(_run("engine.cli", "report", "--run-dir", run).stdout.split()[0])
    assert page.stat().st_size > 10_000
