"""A run goes on to more epochs where it then ends as if they had been asked for at once."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import cli
from engine.training import checkpoints, extension, run_directory
from engine.training.checkpoints import Checkpoints
from engine.training.run_directory import RunDirectory
from records.errors import RunError

AUTO = ("--resume", "auto")
EXPONENTIAL = "schedule={name: exponential, factor: 0.9}"
PLATEAU = "schedule={name: plateau, factor: 0.5, patience: 1, min_delta: 0, min_learning_rate: 0.000001}"
MEASURED = {"time", "seconds", "images_per_s", "input_stall"}


def _history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(file)]


def _learnt(run: Path) -> dict[str, Any]:
    last = checkpoints.newest(run / "checkpoints")
    assert last is not None
    return {
        "arrays": {name: array.tobytes() for name, array in last.arrays.items()},
        "history": _history(run),
        "steps": (run / "steps.csv").read_bytes(),
        "findings": (run / "findings.csv").read_bytes(),
        "best": json.loads((run / "run.json").read_text())["best_epoch"],
    }


@pytest.fixture
def stands(tmp_path, tiny, data_set):
    """A function from overrides, epochs done, state and whether it stopped early to a run directory."""

    def make(*overrides: str, done: int = 2, state: str = run_directory.FINISHED, stopped: bool = False):
        directory = RunDirectory(str(tmp_path / "run"))
        (tmp_path / "run").mkdir()
        directory.start(tiny("train.epochs=2", *overrides), data_set)
        directory.update(state=state, epochs_done=done)
        with Checkpoints(directory.checkpoints_path, 1) as written:
            written.save(10, {"a": np.zeros(1)}, {"stopped": stopped})
        return directory

    return make


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [EXPONENTIAL, PLATEAU], ids=["exponential", "plateau"])
def test_a_run_that_goes_on_to_more_epochs_ends_as_if_it_had_asked_for_them(
    tiny_command, engine, tmp_path, schedule
) -> None:
    short, whole = tmp_path / "short", tmp_path / "whole"
    for run, epochs in ((short, 2), (whole, 4), (short, 4)):
        done = engine(*tiny_command(run, schedule, f"train.epochs={epochs}", flags=AUTO))
        assert done.returncode == 0, done.stderr
    assert "going on at epoch 3, step 1" in done.stderr
    assert "finished after 4 of 4 epochs" in done.stdout
    assert _learnt(short) == _learnt(whole)
    assert len(_history(short)) == 4


def test_more_epochs_are_no_other_run(stands, tiny, data_set) -> None:
    for schedule in (EXPONENTIAL, PLATEAU, "schedule={name: constant}"):
        directory = stands(schedule)
        assert extension.differences(directory, tiny("train.epochs=4", schedule), data_set) == []
        assert not extension.is_finished(directory, tiny("train.epochs=4", schedule), data_set)
        assert extension.is_finished(directory, tiny("train.epochs=2", schedule), data_set)
        for path in sorted(directory.path.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        directory.path.rmdir()


def test_no_fewer_epochs_than_are_done_can_be_asked_for(stands, tiny, data_set) -> None:
    directory = stands(EXPONENTIAL, "train.epochs=9", done=3, state=run_directory.INTERRUPTED)
    assert extension.differences(directory, tiny("train.epochs=4", EXPONENTIAL), data_set) == []
    for epochs in (2, 3):
        assert extension.differences(directory, tiny(f"train.epochs={epochs}", EXPONENTIAL), data_set) == [
            f"train.epochs is 9 there, {epochs} here; expected more than the 3 that are done"
        ]


def test_the_rates_of_a_cosine_depend_on_the_number_of_epochs(
    stands, tiny_command, tiny, data_set, capsys
) -> None:
    cosine = "schedule={name: cosine, warmup_epochs: 1, final_share: 0}"
    directory = stands(cosine)
    reason = "train.epochs is 2 there, 4 here, on which the rates of schedule.name `cosine` depend"
    assert extension.differences(directory, tiny("train.epochs=4", cosine), data_set) == [reason]
    command = tiny_command(directory.path, cosine, "train.epochs=4", flags=AUTO)
    command[command.index("--data") + 1] = data_set.location
    assert cli.main(command) == 1
    assert f"holds another run ({reason})" in capsys.readouterr().err


def test_another_setting_beside_the_epochs_is_another_run(stands, tiny, data_set) -> None:
    other = tiny("train.epochs=4", EXPONENTIAL, "train.seed=3")
    assert len(extension.differences(stands(EXPONENTIAL), other, data_set)) == 2


def test_a_run_that_stopped_early_would_have_with_more_epochs_too(
    stands, tiny_command, data_set, capsys
) -> None:
    directory = stands(EXPONENTIAL, stopped=True)
    command = tiny_command(directory.path, EXPONENTIAL, "train.epochs=4", flags=AUTO)
    command[command.index("--data") + 1] = data_set.location
    before = (directory.path / "run.json").read_bytes()
    assert cli.main(command) == 0
    assert "finished after 2 of 2 epochs by early stopping; nothing to do" in capsys.readouterr().out
    assert (directory.path / "run.json").read_bytes() == before


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(stands, tiny, data_set) -> None:
    directory = stands(EXPONENTIAL)
    for path in directory.checkpoints_path.iterdir():
        path.unlink()
    with pytest.raises(RunError, match="no checkpoint is left to go on from to 4 epochs"):
        extension.is_finished(directory, tiny("train.epochs=4", EXPONENTIAL), data_set)
