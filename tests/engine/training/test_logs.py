"""What a run writes down: a row an epoch, a row a step, TensorBoard's events; also when it goes on."""

from __future__ import annotations

import csv
import json
import math
import time
from pathlib import Path

import pytest
import tensorflow as tf

from engine.training.logs import COLUMNS, STEP_COLUMNS, CsvLog, StepLog, TensorBoardLog

TEXTS = ("epoch", "time")


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return list(reader.fieldnames or ()), rows


def test_the_csv_log_has_a_row_an_epoch_with_the_time_and_the_values(tmp_path):
    path = tmp_path / "history.csv"
    log = CsvLog(path)
    values = {name: 0.01 * number for number, name in enumerate(COLUMNS) if name not in TEXTS}
    log.on_epoch_end(0, values | {"val_loss": 0.25, "a_stranger": 1.0})
    assert len(_read(path)[1]) == 1
    log.on_epoch_end(1, {"loss": 0.125, "loss_scale": None, "skipped_steps": 3})
    header, rows = _read(path)
    assert header == list(COLUMNS)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        time.strptime(row["time"], "%Y-%m-%dT%H:%M:%SZ")
    assert {name: float(rows[0][name]) for name in values} == pytest.approx(values | {"val_loss": 0.25})
    assert float(rows[1]["loss"]) == 0.125
    # What an epoch doesn't know stays empty.
    assert (rows[1]["val_macro_auroc"], rows[1]["loss_scale"], rows[1]["skipped_steps"]) == ("", "", "3")


def test_the_csv_log_goes_on_behind_the_rows_of_a_checkpoint(tmp_path):
    path = tmp_path / "history.csv"
    log = CsvLog(path)
    log.on_epoch_end(0, {"loss": 0.5, "val_loss": math.nan})
    state, before = json.loads(json.dumps(log.state())), path.read_bytes()
    log.on_epoch_end(1, {"loss": 0.4})
    again = CsvLog(path)
    again.restore(state)
    assert path.read_bytes() == before
    again.on_epoch_end(1, {"loss": 0.3})
    assert [row["loss"] for row in _read(path)[1]] == ["0.5", "0.3"]


def _steps(log: StepLog, epoch: int, *steps: int) -> None:
    log.on_epoch_begin(epoch)
    for step in steps:
        log.on_train_batch_end(step, {"loss": 1 / (3 + step), "learning_rate": 0.001})


def test_the_step_log_has_each_steps_loss_to_the_last_bit(tmp_path):
    path = tmp_path / "steps.csv"
    log = StepLog(path)
    _steps(log, 0, *range(250))
    log.on_epoch_end(0)
    header, rows = _read(path)
    assert header == list(STEP_COLUMNS)
    assert [float(row["loss"]) for row in rows] == [1 / (3 + step) for step in range(250)]
    assert {row["learning_rate"] for row in rows} == {"0.001"}
    assert (rows[249]["epoch"], rows[249]["step"]) == ("1", "250")


def test_what_a_resumed_run_repeats_is_cut_off_the_step_log(tmp_path):
    path = tmp_path / "steps.csv"
    log = StepLog(path)
    _steps(log, 0, 0, 1)
    state = json.loads(json.dumps(log.state()))
    _steps(log, 0, 2, 3)
    log.on_epoch_end(0)
    again = StepLog(path)
    again.restore(state)
    _steps(again, 0, 2)
    again.on_train_end()
    assert [row["step"] for row in _read(path)[1]] == ["1", "2", "3"]


def test_a_step_log_that_is_gone_begins_anew(tmp_path):
    log = StepLog(tmp_path / "steps.csv")
    log.restore({"size_bytes": 1000})
    _steps(log, 3, 7)
    log.on_train_end()
    header, rows = _read(tmp_path / "steps.csv")
    assert header == list(STEP_COLUMNS)
    assert [(row["epoch"], row["step"]) for row in rows] == [("4", "8")]


def test_tensorboard_reads_each_epochs_scalars_and_the_loss_of_some_steps(tmp_path):
    log = TensorBoardLog(tmp_path, steps=30, every_steps=20)
    log.on_train_begin()
    for epoch in range(2):
        log.on_epoch_begin(epoch)
        for step in range(30):
            log.on_train_batch_end(step, {"loss": 0.5 + step})
        log.on_epoch_end(epoch, {"val_loss": 0.25, "loss_scale": None, "findings": [{}]})
    log.on_train_end()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert events[0].file_version == "brain.Event:2"
    found = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert [item for item in found if item[1] == "step_loss"] == [
        (0, "step_loss", 0.5), (20, "step_loss", 20.5), (40, "step_loss", 10.5),
    ]  # fmt: skip
    assert [item for item in found if item[1] == "val_loss"] == [
        (30, "val_loss", 0.25),
        (60, "val_loss", 0.25),
    ]
    assert not [item for item in found if item[1] == "loss_scale"]
