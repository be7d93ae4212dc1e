"""Training end to end on a few drawn records: what a run leaves, repeats and refuses.

One DenseNet of the smallest side is trained in a process of its own, as a user would.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import cli
from engine.evaluation import tables
from records.manifest import Manifest

pytestmark = pytest.mark.slow

SMALL = [
    "--set", "model.image_side_px=32", "--set", "train.epochs=2", "--set", "train.global_batch=4",
    "--set", "loss.name=dynamic_weighted_bce", "--set", "loss.prevalence=batch",
]  # fmt: skip


def _command(data: Manifest, run: Path, *more: str) -> list[str]:
    flags = ["--config", "configs/demo.yaml", "--data", data.location, "--run-dir", str(run)]
    return ["train", *flags, *SMALL, *more]


def _engine(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine.cli", *arguments], capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def module_data_set(tmp_path_factory: pytest.TempPathFactory, write_data_set) -> Manifest:
    """A data set that no test here spoils."""
    return write_data_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(module_data_set: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    run = tmp_path_factory.mktemp("trained") / "run"
    done = _engine(*_command(module_data_set, run))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "images/s" in done.stderr
    return run


def test_a_finished_run_says_so_and_holds_config_history_and_best_model(trained):
    known = json.loads((trained / "run.json").read_text())
    assert known["state"] == "finished"
    assert known["epochs_done"] == 2
    assert known["parameters"] == 8_228_081
    assert (trained / "config.yaml").is_file()
    assert (trained / "best.keras").is_file()
    with (trained / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        assert float(row["loss"]) > 0
        assert float(row["val_loss"]) > 0
        assert 0 <= float(row["val_macro_auroc"]) <= 1
        assert float(row["images_per_s"]) > 0


def test_training_again_does_nothing_and_another_config_is_refused(trained, module_data_set, capsys):
    before = (trained / "run.json").read_bytes()
    assert cli.main(_command(module_data_set, trained)) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert cli.main(_command(module_data_set, trained, "--set", "train.seed=2")) == 1
    assert "a run with another config or data set" in capsys.readouterr().err
    assert (trained / "run.json").read_bytes() == before


def test_the_same_seed_trains_the_same_model(trained, module_data_set, tmp_path):
    done = _engine(*_command(module_data_set, tmp_path / "again"))
    assert done.returncode == 0, done.stderr
    same = ("loss", "val_loss", "val_macro_auroc")
    for first, second in zip(_rows(trained), _rows(tmp_path / "again"), strict=True):
        assert [float(first[name]) for name in same] == pytest.approx(
            [float(second[name]) for name in same], rel=1e-3
        )


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_evaluate_judges_each_test_record_once_and_recognises_that_it_has(trained, module_data_set):
    done = _engine("evaluate", "--run-dir", str(trained), "--split", "test")
    assert done.returncode == 0, done.stderr
    assert "macro" in done.stdout.lower()
    predictions = tables.read_predictions(trained / "evaluation" / "test" / "predictions.csv")
    split = module_data_set.splits["test"]
    assert len(set(predictions.image_ids)) == len(predictions.image_ids) == split.images
    metrics = json.loads((trained / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["images"] == split.images
    again = _engine("evaluate", "--run-dir", str(trained), "--split", "test")
    assert again.returncode == 0
    assert "evaluated already" in again.stderr


def test_a_killed_run_says_so_and_is_not_taken_for_a_finished_one(module_data_set, tmp_path, capsys):
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", *_command(module_data_set, run)], stderr=subprocess.DEVNULL
    )
    end_s = time.monotonic() + 60
    while not (run / "run.json").exists() and time.monotonic() < end_s:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert json.loads((run / "run.json").read_text())["state"] == "unfinished"
    assert cli.main(["evaluate", "--run-dir", str(run)]) == 1
    assert "killed after 0 of 2 epochs" in capsys.readouterr().err
    assert cli.main(_command(module_data_set, run)) == 1
    printed = capsys.readouterr().err
    assert "holds a run (killed after 0 of 2 epochs)" in printed
    assert "--overwrite" in printed


def test_an_interrupted_run_exits_with_130_and_says_so(module_data_set, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "engine.cli", *_command(module_data_set, run)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "building the training step" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 130
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"


def test_an_interrupt_before_the_model_stands_puts_the_earlier_run_back(trained, module_data_set, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    command = [sys.executable, "-m", "engine.cli", *_command(module_data_set, run, "--overwrite")]
    for file in ("run.json", "config.yaml", "history.csv"):
        shutil.copy(trained / file, run / file)
    before = {path: path.read_bytes() for path in run.iterdir()}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "starting TensorFlow" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    assert {path: path.read_bytes() for path in run.iterdir() if path.name != ".lock"} == before


def test_settings_that_can_not_work_are_refused_before_anything_is_touched(trained, module_data_set, capsys):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    for override, expected in (
        ("model.weights=/nowhere.keras", "model.weights is `/nowhere.keras`"),
        ("model.image_side_px=999", "the data set stores 32 pixels a side"),
        ("loss.name=bceee", "did you mean `bce`?"),
    ):
        assert cli.main(_command(module_data_set, trained, "--overwrite", "--set", override)) == 2
        assert expected in capsys.readouterr().err
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_run_whose_weights_can_not_be_read_leaves_no_folder_in_the_way(module_data_set, tmp_path):
    weights = tmp_path / "broken.keras"
    weights.write_bytes(b"no model")
    done = _engine(*_command(module_data_set, tmp_path / "run", "--set", f"model.weights={weights}"))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_shard_that_is_missing_is_one_line_before_anything_starts(data_set, tmp_path, capsys):
    victim = Path(data_set.locate(data_set.splits["train"].shards[0]))
    victim.unlink()
    assert cli.main(_command(data_set, tmp_path / "run")) == 1
    lines = capsys.readouterr().err.splitlines()
    advice = "run the conversion again with --resume"
    assert lines == [f"error: {victim}: missing, but the manifest names it: {advice}"]
    assert not (tmp_path / "run").exists()


def test_a_damaged_shard_stops_training_with_one_line_that_names_it(data_set, tmp_path):
    victim = Path(data_set.locate(data_set.splits["train"].shards[0]))
    spoilt = bytearray(victim.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    victim.write_bytes(spoilt)
    done = _engine(*_command(data_set, tmp_path / "run"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert victim.name in done.stderr.splitlines()[-1]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "failed"
