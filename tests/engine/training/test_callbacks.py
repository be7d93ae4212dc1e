"""The callbacks on scripted epochs: which model is kept, what is told of it, and when a run stops."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator

import keras
import numpy as np
import pytest

from engine import config as configs
from engine.training.callbacks import BestModel, FiniteLoss, RunLog
from engine.training.run_directory import RunDirectory
from records.errors import RunError

NAN = math.nan


@pytest.fixture
def model() -> keras.Model:
    """One weight."""
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])


@pytest.fixture
def directory(tmp_path, data_set) -> RunDirectory:
    """A run that has begun."""
    made = RunDirectory(str(tmp_path / "run"))
    made.start(configs.load("configs/demo.yaml"), data_set)
    return made


def _best(directory, model, monitor="val_loss", mode="min", **settings) -> BestModel:
    return BestModel(directory, model, monitor, mode, **{"averaged": contextlib.nullcontext, **settings})


def _weight(path) -> float:
    """The one weight of a saved model."""
    return keras.saving.load_model(path, compile=False).get_weights()[0].item()


def _keep_best(directory, model, mode, values, monitor="val_loss") -> list[tuple[int, int]]:
    """Return after each epoch the epoch whose model stands in best.keras, and run.json's best_epoch."""
    best = _best(directory, model, monitor, mode)
    standing = []
    for epoch, value in enumerate(values):
        model.set_weights([np.full((1, 1), epoch + 1.0)])
        best.on_epoch_end(epoch, {"loss": 1.0, monitor: value})
        standing.append((int(_weight(directory.checkpoint_path)), directory.read()["best_epoch"]))
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
    best = _best(directory, model, "val_macro_auroc", "max")
    best.on_epoch_end(0, {"val_macro_auroc": 0.7, "val_loss": 0.2})
    best.on_epoch_end(1, {"val_macro_auroc": 0.6, "val_loss": 0.1})
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


def test_saving_leaves_no_scratch_file(directory, model):
    before = {path.name for path in directory.path.iterdir()}
    _keep_best(directory, model, "max", [0.5, 0.6])
    assert {path.name for path in directory.path.iterdir()} - before == {"best.keras"}


def test_the_weights_to_be_judged_are_saved_and_those_that_train_stay(directory, model):
    @contextlib.contextmanager
    def averaged() -> Iterator[None]:
        model.set_weights([np.full((1, 1), 7.0)])
        yield
        model.set_weights([np.full((1, 1), 3.0)])

    model.set_weights([np.full((1, 1), 3.0)])
    _best(directory, model, averaged=averaged).on_epoch_end(0, {"val_loss": 0.5})
    assert _weight(directory.checkpoint_path) == 7.0
    assert model.get_weights()[0].item() == 3.0


def test_each_best_model_is_kept_under_a_name_of_its_own_if_asked(directory, model):
    best = _best(directory, model, copies="kept/weights.{epoch:04d}-{val_loss:.5f}.keras")
    for epoch, value in enumerate([0.5, 0.6, 0.4]):
        model.set_weights([np.full((1, 1), epoch + 1.0)])
        best.on_epoch_end(epoch, {"val_loss": value})
    kept = {path.name: _weight(path) for path in (directory.path / "kept").iterdir()}
    assert kept == {"weights.0001-0.50000.keras": 1.0, "weights.0003-0.40000.keras": 3.0}


def test_a_run_that_goes_on_remembers_the_best_value_and_what_was_told_of_it(directory, model):
    best = _best(directory, model)
    best.on_epoch_end(0, {"val_loss": 0.5, "val_macro_auroc": 0.8})
    state = json.loads(json.dumps(best.state()))
    directory.update(best_epoch=9, best_val_macro_auroc=0.99)
    again = _best(directory, model)
    again.restore(state)
    assert (directory.read()["best_epoch"], directory.read()["best_val_macro_auroc"]) == (1, 0.8)
    again.on_epoch_end(1, {"val_loss": 0.6})
    assert directory.read()["best_epoch"] == 1
    again.on_epoch_end(2, {"val_loss": 0.45})
    assert directory.read()["best_epoch"] == 3


def test_a_model_saved_behind_the_checkpoint_stands_as_what_it_is_whatever_its_epoch_gives_again(
    directory, model
):
    best = _best(directory, model)
    best.on_epoch_end(0, {"val_loss": 0.5, "val_macro_auroc": 0.8})
    state = json.loads(json.dumps(best.state()))
    model.set_weights([np.full((1, 1), 2.0)])
    best.on_epoch_end(1, {"val_loss": 0.4, "val_macro_auroc": 0.9})
    again = _best(directory, model)
    again.restore(state)
    model.set_weights([np.full((1, 1), 3.0)])
    again.on_epoch_end(1, {"val_loss": 0.45})  # better than the checkpoint's, not than the model's
    assert _weight(directory.checkpoint_path) == 2.0
    assert (directory.read()["best_epoch"], directory.read()["best_val_loss"]) == (2, 0.4)


@pytest.mark.parametrize("lost", [False, True], ids=["unknown", "lost"])
def test_a_model_that_nothing_tells_of_is_replaced_by_the_next(directory, model, capsys, lost: bool):
    best = _best(directory, model)
    best.on_epoch_end(0, {"val_loss": 0.5})
    state = json.loads(json.dumps(best.state()))
    if lost:
        directory.checkpoint_path.unlink()
    else:  # killed between the model and the note
        model.set_weights([np.full((1, 1), 2.0)])
        best._save(directory.checkpoint_path)
    again = _best(directory, model)
    again.restore(state)
    assert "best.keras isn't the model that the checkpoint knows" in capsys.readouterr().err
    assert directory.read()["best_epoch"] is None
    model.set_weights([np.full((1, 1), 3.0)])
    again.on_epoch_end(1, {"val_loss": 0.6})
    assert _weight(directory.checkpoint_path) == 3.0
    assert directory.read()["best_epoch"] == 2


def test_a_worker_that_writes_no_model_goes_on_from_the_checkpoints_value(
    directory, model, tiny, data_set, tmp_path, capsys
):
    best = _best(directory, model)
    best.on_epoch_end(0, {"val_loss": 0.5})
    beside = RunDirectory(str(tmp_path / "beside"))
    beside.start(tiny(), data_set)
    again = _best(beside, model)
    again.restore(best.state())
    again.on_epoch_end(1, {"val_loss": 0.6})
    assert not beside.checkpoint_path.exists()
    assert capsys.readouterr().err == ""


def test_a_run_without_a_model_yet_goes_on_without_one(directory, model, capsys):
    state = json.loads(json.dumps(_best(directory, model).state()))
    again = _best(directory, model)
    again.restore(state)
    assert capsys.readouterr().err == ""
    again.on_epoch_end(0, {"val_loss": 0.6})
    assert directory.read()["best_epoch"] == 1


def test_a_model_that_can_not_be_written_is_one_line(directory, model):
    directory.checkpoint_path.mkdir()
    with pytest.raises(RunError, match=r"best\.keras: can't be written: Is a directory"):
        _best(directory, model).on_epoch_end(0, {"val_loss": 0.5})
    assert [path.name for path in directory.path.glob(".best*")] == []


def _names(epoch: int, step: int) -> list[str]:
    return [f"picture_{epoch}_{step}.png"]


def test_a_gradient_that_is_no_number_stops_the_run_though_the_loss_is_one():
    watch = FiniteLoss(_names)
    watch.on_epoch_begin(0)
    with pytest.raises(RunError, match=r"a gradient is not a number at epoch 1, step 3 .*picture_0_2\.png"):
        watch.on_train_batch_end(2, {"loss": 0.5, "finite": False})


@pytest.mark.parametrize("loss", [NAN, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_run_with_epoch_step_and_records(loss):
    watch = FiniteLoss(_names)
    watch.on_epoch_begin(2)
    watch.on_train_batch_end(3, {"loss": 0.7})
    with pytest.raises(RunError, match=r"epoch 3, step 5 .*picture_2_4\.png"):
        watch.on_train_batch_end(4, {"loss": loss})


def test_the_run_log_says_how_many_epochs_are_done(directory, capsys):
    log, before = RunLog(directory), directory.read()
    for epoch in range(3):
        log.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.25, "val_macro_auroc": 0.75})
        assert directory.read() == before | {"epochs_done": epoch + 1}
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 3: loss 0.5000, val_loss 0.2500, val_macro_auroc 0.7500, nan s" in err
    log.on_epoch_end(3, {"loss": 0.5, "images_per_s": 20.4, "seconds": 7.0})
    assert "20 images/s, 7 s" in capsys.readouterr().err
    log.on_epoch_end(4, {"loss": 0.5, "images_per_s": None, "seconds": 7.0})
    assert "val_macro_auroc nan, 7 s" in capsys.readouterr().err
