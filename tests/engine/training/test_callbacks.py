"""The callbacks on scripted epochs: which model is kept, what is logged, and when a run stops."""

from __future__ import annotations

import csv
import json
import math
import time

import keras
import numpy as np
import pytest

from engine import config as configs
from engine.training.callbacks import COLUMNS, BestCheckpoint, CsvLog, FiniteLoss, RunLog
from engine.training.run_directory import RunDirectory
from records.errors import RunError

NAN = math.nan


@pytest.fixture
def model() -> keras.Model:
    """One weight."""
    built = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    built.compile(optimizer=keras.optimizers.SGD(0.5), loss="mse")
    return built


@pytest.fixture
def directory(tmp_path, data_set) -> RunDirectory:
    """A run that has begun."""
    made = RunDirectory(str(tmp_path / "run"))
    made.start(configs.load("configs/demo.yaml"), data_set)
    return made


def _keep_best(directory, model, mode, values, monitor="val_loss") -> list[tuple[int, int]]:
    """Return after each epoch the epoch whose model stands in best.keras, and run.json's best_epoch."""
    checkpoint = BestCheckpoint(directory, model, monitor, mode)
    standing = []
    for epoch, value in enumerate(values):
        model.set_weights([np.full((1, 1), epoch + 1.0)])
        checkpoint.on_epoch_end(epoch, {"loss": 1.0, monitor: value})
        saved = keras.saving.load_model(directory.checkpoint_path, compile=False)
        standing.append((int(saved.get_weights()[0].item()), directory.read()["best_epoch"]))
    return standing


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("max", [0.6, 0.8, 0.7, 0.9], [1, 2, 2, 4]),
        ("min", [0.6, 0.8, 0.5, 0.7], [1, 1, 3, 3]),
        ("max", [-0.5, -0.7, -0.2], [1, 1, 3]),
        ("max", [NAN, 0.4, 0.3], [1, 2, 2]),
        ("min", [NAN, 0.4, 0.5], [1, 2, 2]),
        ("max", [NAN, NAN, 0.4], [1, 1, 3]),
        ("max", [0.5, NAN, 0.4, 0.6], [1, 1, 1, 4]),
        ("min", [0.5, NAN, 0.6, 0.4], [1, 1, 1, 4]),
        ("max", [0.5, 0.5, 0.6, 0.6], [1, 1, 3, 3]),
        ("min", [0.5, 0.5, 0.4, 0.4], [1, 1, 3, 3]),
    ],
    ids=[
        "max", "min", "max below zero", "NaN first, max", "NaN first, min", "NaN twice",
        "NaN later, max", "NaN later, min", "tie, max", "tie, min",
    ],
)  # fmt: skip
def test_the_model_of_the_first_best_epoch_stands_and_run_json_names_it(directory, model, mode, values, best):
    assert _keep_best(directory, model, mode, values) == [(epoch, epoch) for epoch in best]


def test_only_the_monitored_value_decides(directory, model):
    checkpoint = BestCheckpoint(directory, model, "val_macro_auroc", "max")
    checkpoint.on_epoch_end(0, {"val_macro_auroc": 0.7, "val_loss": 0.2})
    checkpoint.on_epoch_end(1, {"val_macro_auroc": 0.6, "val_loss": 0.1})
    known = directory.read()
    assert known["best_epoch"] == 1
    assert (known["best_val_macro_auroc"], known["best_val_loss"]) == (0.7, 0.2)
    assert known["state"] == "unfinished"


def test_an_undefined_best_value_is_null_in_run_json(directory, model):
    _keep_best(directory, model, "max", [NAN], "val_macro_auroc")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    known = json.loads((directory.path / "run.json").read_text(), parse_constant=refuse)
    assert known["best_val_macro_auroc"] is None


def test_a_checkpoint_leaves_no_scratch_file(directory, model):
    before = {path.name for path in directory.path.iterdir()}
    _keep_best(directory, model, "max", [0.5, 0.6])
    assert {path.name for path in directory.path.iterdir()} - before == {"best.keras"}


def _names(epoch: int, step: int) -> list[str]:
    return [f"picture_{epoch}_{step}.png"]


@pytest.mark.parametrize("loss", [NAN, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_run_with_epoch_step_and_records(loss):
    watch = FiniteLoss(_names)
    watch.on_epoch_begin(2)
    watch.on_train_batch_end(3, {"loss": 0.7})
    with pytest.raises(RunError, match=r"epoch 3, step 5 .*picture_2_4\.png"):
        watch.on_train_batch_end(4, {"loss": loss})


def test_fit_stops_at_the_very_step_whose_loss_is_no_number(model):
    targets = np.zeros((6, 1), np.float32)
    targets[3] = NAN
    with pytest.raises(RunError, match=r"epoch 1, step 4 .*picture_0_3\.png"):
        model.fit(
            np.ones((6, 1), np.float32),
            targets,
            batch_size=1,
            shuffle=False,
            verbose=0,
            callbacks=[FiniteLoss(_names)],
        )


def _read(path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return list(reader.fieldnames or ()), rows


def test_the_csv_log_has_a_row_an_epoch_with_the_time_and_the_values(directory, model):
    log = CsvLog(directory.history_path)
    log.set_model(model)
    values = {name: 0.01 * number for number, name in enumerate(COLUMNS) if name not in ("epoch", "time")}
    log.on_epoch_end(0, values | {"val_loss": 0.25, "a_stranger": 1.0})
    assert len(_read(directory.history_path)[1]) == 1
    log.on_epoch_end(1, {"loss": 0.125})
    header, rows = _read(directory.history_path)
    assert header == list(COLUMNS)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        time.strptime(row["time"], "%Y-%m-%dT%H:%M:%SZ")
    assert float(rows[0]["val_loss"]) == 0.25
    for name in set(values) - {"val_loss", "learning_rate"}:
        assert float(rows[0][name]) == pytest.approx(values[name]), name
    assert float(rows[1]["loss"]) == 0.125
    # What an epoch doesn't know stays empty.
    assert rows[1]["val_macro_auroc"] == ""


def test_the_logged_learning_rate_is_the_one_that_the_epoch_used(directory, model):
    used = []
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda *_: used.append(float(model.optimizer.learning_rate.numpy()))
        ),
        CsvLog(directory.history_path),
        # The loss of zeros never falls, so each epoch but the first ends with a lower rate.
        keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=1e-4),
    ]
    zeros = np.zeros((2, 1), np.float32)
    model.fit(zeros, zeros, epochs=4, verbose=0, callbacks=callbacks)
    assert used == [0.5, 0.5, 0.25, 0.125]
    rows = _read(directory.history_path)[1]
    assert [float(row["learning_rate"]) for row in rows] == used


def test_the_run_log_says_how_many_epochs_are_done(directory, capsys):
    log, before = RunLog(directory), directory.read()
    for epoch in range(3):
        log.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.25, "val_macro_auroc": 0.75})
        assert directory.read() == before | {"epochs_done": epoch + 1}
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 3: loss 0.5000, val_loss 0.2500, val_macro_auroc 0.7500" in err
