"""A run directory says how far its run came, also when the run was killed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

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
    assert directory.read()["state"] == "unfinished"
    with directory.locked():
        assert run_directory.summary(directory) == f"unfinished after 0 of {config.train.epochs} epochs"
    directory.update(state=run_directory.FINISHED, epochs_done=3, best_epoch=2)
    expected = f"finished after 3 of {config.train.epochs} epochs, best epoch 2"
    assert run_directory.summary(directory) == expected


def test_an_unfinished_run_that_nobody_is_training_counts_as_killed(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    assert run_directory.summary(directory).startswith("killed after 0 of")


def test_a_second_process_can_not_train_into_the_same_folder(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    second = RunDirectory(str(directory.path)).locked()
    with directory.locked(), pytest.raises(RunError, match="another process is training into it"), second:
        pass


def test_a_run_that_could_not_begin_leaves_no_trace(tmp_path, config, data_set):
    directory = RunDirectory(str(tmp_path / "run"))
    with directory.locked():
        directory.start(config, data_set)
        directory.roll_back()
    assert not directory.path.exists()


def test_a_run_that_could_not_replace_another_leaves_the_other(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    directory.checkpoint_path.write_text("the older model")
    before = directory.read()
    directory.start(configs.load("configs/demo.yaml", ["train.seed=5"]), data_set)
    assert not directory.checkpoint_path.exists()
    directory.roll_back()
    assert directory.checkpoint_path.read_text() == "the older model"
    assert directory.read() == before


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_kill_while_an_older_run_is_set_aside_loses_nothing_of_it(
    tmp_path, config, data_set, monkeypatch, moved
):
    directory = _started(tmp_path, config, data_set)
    directory.checkpoint_path.write_text("the older model")
    before = {path.name: path.read_bytes() for path in directory.entries()}
    assert len(before) == 3
    rename, renamed = Path.rename, []

    def rename_or_die(self: Path, target: Path) -> Path:
        if len(renamed) == moved:
            raise KeyboardInterrupt
        renamed.append(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_or_die)
    with contextlib.suppress(KeyboardInterrupt):
        directory.start(configs.load("configs/demo.yaml", ["train.seed=5"]), data_set)
    monkeypatch.undo()
    with directory.locked():
        assert {path.name: path.read_bytes() for path in directory.entries()} == before


def test_a_folder_that_was_removed_is_not_made_again_by_an_update(tmp_path, config, data_set):
    import shutil

    directory = _started(tmp_path, config, data_set)
    shutil.rmtree(directory.path)
    with pytest.raises(RunError, match="no run here"):
        directory.update(epochs_done=1)
    assert not directory.path.exists()


def test_a_run_is_recognised_by_config_and_data_set(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    assert directory.differences(config, data_set) == []
    other = configs.load("configs/demo.yaml", ["train.seed=5"])
    assert directory.differences(other, data_set) == ["train.seed is 17 there, 5 here"]


def test_starting_again_removes_what_an_earlier_run_left(tmp_path, config, data_set):
    directory = _started(tmp_path, config, data_set)
    directory.checkpoint_path.write_text("old")
    directory.start(config, data_set)
    directory.commit()
    assert not list(directory.path.rglob("best.keras"))


def _replace(directory: RunDirectory, config, data_set) -> Path:
    """Begin to replace a run that has read the test split; return where the record of that belongs."""
    reads = directory.path / "evaluation" / "test_reads.json"
    reads.parent.mkdir()
    reads.write_text("[]")
    (reads.parent / "frozen.json").write_text("{}")
    directory.start(config, data_set)
    return reads


def test_a_run_that_replaces_another_keeps_the_record_of_what_read_test(tmp_path, config, data_set, capsys):
    directory = _started(tmp_path, config, data_set)
    reads = _replace(directory, config, data_set)
    assert not reads.exists()
    directory.commit()
    assert reads.read_text() == "[]"
    assert f"{reads}: kept" in capsys.readouterr().err
    names = {path.name for path in directory.path.rglob("*")}
    assert names == {"run.json", "config.yaml", "evaluation", "test_reads.json"}


@pytest.mark.parametrize("killed_in", ["_discard", "rmtree", "rename"])
def test_a_kill_while_a_replaced_run_is_let_go_keeps_the_record_and_mixes_nothing(
    tmp_path, config, data_set, monkeypatch, killed_in
):
    directory = _started(tmp_path, config, data_set)
    directory.checkpoint_path.write_text("the older model")
    reads = _replace(directory, config, data_set)

    def die(*_args, **_options):
        raise KeyboardInterrupt

    if killed_in == "rmtree":  # the earlier run was put out of the way
        monkeypatch.setattr(directory, "_discard", lambda: None)
    else:
        owner = directory if killed_in == "_discard" else Path
        monkeypatch.setattr(owner, killed_in, die)
    with contextlib.suppress(KeyboardInterrupt):
        directory.commit()
    monkeypatch.undo()
    with directory.locked():
        assert reads.read_text() == "[]"
        is_old = killed_in != "rmtree"
        assert directory.checkpoint_path.exists() == (reads.parent / "frozen.json").exists() == is_old
        assert not list(directory.path.glob(".[rd]*"))


def test_a_command_is_recorded_as_it_can_be_typed_again(tmp_path, config, data_set, monkeypatch):
    argv = ["/somewhere/engine/cli.py", "train", "--data", "s3://key:secret@host/a b"]
    monkeypatch.setattr(sys, "argv", argv)
    assert _started(tmp_path, config, data_set).read()["command"] == "engine train --data 's3://***@host/a b'"


@pytest.mark.parametrize("told", [None, [], {}, {"location": "a"}, {"location": "a", "sha256": 1}])
def test_a_run_that_names_no_data_set_is_one_clear_error(tmp_path, told):
    (tmp_path / "run.json").write_text(json.dumps({"state": "finished", "manifest": told}))
    with pytest.raises(RunError, match=r"run\.json: `manifest` names no data set; remove the folder"):
        RunDirectory(str(tmp_path)).read()


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


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
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
