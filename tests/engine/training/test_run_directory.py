"""A run directory says how far its run came, also when the run was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from engine import config as configs
from engine.training import run_directory
from engine.training.run_directory import RunDirectory
from records.errors import RunError


@pytest.fixture
def config() -> configs.Config:
    return configs.load("configs/demo.yaml")


def _started(tmp_path, config, data_set) -> RunDirectory:
    directory = RunDirectory(str(tmp_path / "run"))
    directory.start(config, data_set)
    return directory


def test_a_started_run_is_unfinished_until_it_says_otherwise(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    known = directory.read()
    assert known["state"] == "unfinished"
    assert run_directory.summary(known) == f"unfinished after 0 of {config.train.epochs} epochs"
    directory.update(state=run_directory.FINISHED, epochs_done=3, best_epoch=2)
    assert (
        run_directory.summary(directory.read())
        == f"finished after 3 of {config.train.epochs} epochs, best epoch 2"
    )


def test_an_unfinished_run_whose_process_is_gone_counts_as_killed(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    directory.update(process_id=gone.pid)
    assert run_directory.summary(directory.read()).startswith("killed after 0 of")


def test_a_run_is_recognised_by_config_and_data_set(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    assert directory.describes(config, data_set)
    assert not directory.describes(configs.load("configs/demo.yaml", ["train.seed=5"]), data_set)


def test_starting_again_removes_what_an_earlier_run_left(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    directory.checkpoint_path.write_text("old")
    directory.start(config, data_set)
    assert not directory.checkpoint_path.exists()


def test_a_folder_that_is_no_run_is_never_removed(tmp_path, config, data_set):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    directory = RunDirectory(str(tmp_path / "run"))
    with pytest.raises(RunError, match="no run"):
        directory.start(config, data_set)
    assert (tmp_path / "run" / "thesis.txt").exists()


def test_run_json_holds_what_reproduces_the_run(tmp_path, config, data_set):
    known = _started(tmp_path, config, data_set).read()
    assert known["manifest"]["sha256"] == data_set.sha256
    assert known["versions"]["numpy"]
    assert known["process_id"] == os.getpid()


@pytest.mark.parametrize("text", [None, "{"])
def test_a_folder_without_a_readable_run_is_one_clear_error(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json"):
        RunDirectory(str(tmp_path)).read()


def test_update_keeps_the_other_values(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    before = directory.read()
    directory.update(epochs_done=4)
    assert json.loads((directory.path / "run.json").read_text()) == before | {"epochs_done": 4}
