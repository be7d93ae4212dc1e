"""Runs that were killed, stopped or lost go on to the very same end, each in processes of its own."""

from __future__ import annotations

import csv
import itertools
import json
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import boto3
import keras
import numpy as np
import pytest
from metadata_service import NOTICE, FakeService

import engine.model  # noqa: F401 - its layers, for the models to be loaded
from engine.training import checkpoints, spot
from records import storage

pytestmark = pytest.mark.slow

# All that has a state of its own: transforms and repeats of records, dropout, batch normalisation, the mean
# of the weights, a loss that learns, and a rate of each step.
RICH = (
    "train.epochs=80",  # long enough for the machine to be asked about twice, every five seconds
    "train.early_stopping_patience=999",
    "input.oversampled_findings=[Hernia, Pneumonia]",
    "augment={rotation_degrees: 10, zoom: 0.1, shift: 0.05, brightness: 0.1, contrast: 0.1, flip: false, "
    "originals: true}",
    "loss={name: running_weighted_bce, smoothing: 0.1, momentum: 0.9}",
    "optimizer={name: adamw, learning_rate: 0.01, clip_norm: 1, ema_momentum: 0.9, weight_decay: 0.01}",
    "schedule={name: cosine, warmup_epochs: 1.5, final_share: 0.1}",
    "checkpoint.every_steps=2",
)
AUTO = ("--resume", "auto")
# What differs between two runs that learn the same; a saved model holds the time, too.
MEASURED = {"time", "seconds", "images_per_s", "input_stall", "stall_seconds", "model_sha256"}


def _without_times(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_times(value) for key, value in values.items() if key not in MEASURED}
    return [_without_times(value) for value in values] if isinstance(values, list) else values


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _learnt(run: Path) -> dict[str, Any]:
    """All that a finished run has learnt and written down, bit for bit."""
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
    last = checkpoints.newest(run / "checkpoints")
    assert last is not None
    best = keras.saving.load_model(run / "best.keras", compile=False)
    return {
        "steps": _rows(run / "steps.csv"),
        "findings": _rows(run / "findings.csv"),
        "history": _without_times(_rows(run / "history.csv")),
        "arrays": {name: array.tobytes() for name, array in last.arrays.items()},
        "state": _without_times(last.state),
        "best": [weight.tobytes() for weight in best.get_weights()],
    }


@pytest.fixture(scope="module")
def undisturbed(tiny_command, engine, tmp_path_factory) -> dict[str, Any]:
    """What a run that nothing disturbs learns."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = engine(*tiny_command(run, *RICH, flags=AUTO))
    assert done.returncode == 0, done.stderr
    return _learnt(run)


def test_a_run_that_is_killed_twice_ends_as_if_it_had_not_been(
    tiny_command, engine, begun, undisturbed, tmp_path
):
    seed = time.time_ns() % 1000
    print(f"random.Random({seed})")
    rng, run = random.Random(seed), tmp_path / "run"
    command = tiny_command(run, *RICH, flags=AUTO)
    for _ in range(2):
        with begun(command, "first step after") as process:
            time.sleep(rng.uniform(0, 1.2))
            process.kill()
        assert process.returncode == -signal.SIGKILL
    done = engine(*command)
    assert done.returncode == 0, done.stderr
    assert "going on at epoch" in done.stderr
    assert len(json.loads((run / "run.json").read_text())["resumed"]) == 2
    found = _learnt(run)
    for part, expected in undisturbed.items():
        assert found[part] == expected, part


def test_a_machine_that_is_taken_leaves_its_run_in_the_bucket_and_another_goes_on(
    tiny_command, engine, begun, undisturbed, tmp_path, s3, service: FakeService
):
    run = tmp_path / "run"
    command = tiny_command(run, *RICH, f"checkpoint.location={s3}/runs/first", flags=AUTO)
    with begun(command, "first step after") as process:
        service.answers[spot.NOTICE_PATH] = NOTICE
        assert process.wait(timeout=60) == 75
    shutil.rmtree(run)
    run.mkdir()
    (run / "steps.csv").write_text("of a fetch that was killed")
    service.answers.clear()
    done = engine(*command)
    assert done.returncode == 0, done.stderr
    assert f"{s3}/runs/first: a run is there; it is brought to {run}" in done.stderr
    assert "going on at epoch" in done.stderr
    assert _learnt(run) == undisturbed


def test_a_run_whose_bucket_is_lost_trains_to_its_end_and_is_copied_later(
    tiny_command, engine, begun, tmp_path, s3
):
    run, location = tmp_path / "run", f"{s3}/runs/first"
    overrides = ("train.epochs=40", "train.early_stopping_patience=999", f"checkpoint.location={location}")
    command = tiny_command(run, *overrides, flags=AUTO)
    client, bucket = boto3.client("s3"), s3.removeprefix("s3://")
    with begun(command, "first step after") as process:
        process.send_signal(signal.SIGSTOP)
        for stored in storage.list_files(f"{s3}/"):
            storage.delete(stored.location)
        client.delete_bucket(Bucket=bucket)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=120) == 1
    known = json.loads((run / "run.json").read_text())
    assert (known["state"], known["epochs_done"]) == ("finished", 40)
    assert "NoSuchBucket" in known["copy_fault"]["reason"]
    refused = engine(*command)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"error: {s3}")
    client.create_bucket(Bucket=bucket)
    done = engine(*command)
    assert done.returncode == 0, done.stderr
    assert f"{run}: copied to {location}" in done.stdout
    names = {storage.name(stored.location) for stored in storage.list_files(location + "/")}
    assert {"best.keras", "step-000000200.npz", "run.json", "history.csv"} <= names
    assert storage.read_bytes(f"{location}/run.json") == (run / "run.json").read_bytes()
    assert "copied to" not in engine(*command).stdout
    client.close()


def test_a_run_that_was_stopped_goes_on_on_another_number_of_devices(tiny_command, engine, begun, tmp_path):
    run = tmp_path / "run"
    begin = tiny_command(run, *RICH, "train.epochs=10", "train.replicas=2", flags=AUTO)
    with begun(begin, "first step after") as process:
        process.terminate()
        assert process.wait(timeout=60) == 75
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    before = (run / "steps.csv").read_text()
    other = ("train.epochs=10", "train.replicas=1")
    done = engine(*tiny_command(run, *RICH, *other, flags=AUTO))
    assert done.returncode == 0, done.stderr
    assert (run / "steps.csv").read_text().startswith(before)
    rows = _rows(run / "steps.csv")
    steps = max(int(row["step"]) for row in rows)
    expected = itertools.product(range(1, 11), range(1, steps + 1))
    assert [(int(row["epoch"]), int(row["step"])) for row in rows] == list(expected)
    assert np.isfinite([float(row["loss"]) for row in rows]).all()
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
