"""Several configs by one command: each into a folder of its name, finished ones left alone, faults first."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from engine import cli
from engine.training import checkpoints, in_turn
from engine.training.run_directory import RunDirectory
from records.errors import ConfigError


@pytest.fixture
def members(tmp_path: Path) -> list[str]:
    """Two configs."""
    paths = [tmp_path / f"member_{number}.yaml" for number in (1, 2)]
    for path in paths:
        shutil.copy("configs/demo.yaml", path)
    return [str(path) for path in paths]


@pytest.mark.slow
def test_members_are_trained_in_turn_and_finished_ones_are_left_alone(
    tiny_command, engine, members, tmp_path
) -> None:
    command = tiny_command(tmp_path / "runs", "train.epochs=1")
    command[command.index("--config") + 1 : command.index("--data")] = members
    done = engine(*command)
    assert done.returncode == 0, done.stderr
    runs = [tmp_path / "runs" / name / "run.json" for name in ("member_1", "member_2")]
    assert [json.loads(run.read_text())["state"] for run in runs] == ["finished", "finished"]
    assert "member_2 (2 of 2):" in done.stderr
    before = [run.read_bytes() for run in runs]
    again = engine(*command)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing to do") == 2
    assert [run.read_bytes() for run in runs] == before


@pytest.mark.slow
def test_a_training_whose_parent_is_killed_leaves_with_a_checkpoint(
    tiny_command, begun, members, tmp_path
) -> None:
    command = tiny_command(tmp_path / "runs", "train.epochs=100000", "train.early_stopping_patience=100000")
    command[command.index("--config") + 1 : command.index("--data")] = members
    directory = RunDirectory(str(tmp_path / "runs" / "member_1"))
    with begun(command, "first step after") as process:
        process.kill()
    end_s = time.monotonic() + 60
    while directory.is_running():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    assert directory.read()["state"] == "interrupted"
    assert checkpoints.newest(directory.checkpoints_path) is not None
    assert not (tmp_path / "runs" / "member_2").exists()


def test_each_member_has_a_place_of_its_own_in_the_bucket(
    members, lasting_data_set, tmp_path, monkeypatch
) -> None:
    called = []
    monkeypatch.setattr(in_turn, "call", lambda command: called.append(command) or 0)
    overrides = ["model.image_side_px=32", "checkpoint.location=s3://bucket/runs"]
    assert in_turn.run(members, lasting_data_set.location, str(tmp_path), overrides, []) == 0
    assert [command[-1] for command in called] == [
        "checkpoint.location=s3://bucket/runs/member_1",
        "checkpoint.location=s3://bucket/runs/member_2",
    ]


def test_none_is_begun_behind_one_that_fails(members, lasting_data_set, tmp_path, monkeypatch) -> None:
    called = []
    monkeypatch.setattr(in_turn, "call", lambda command: called.append(command) or 75)
    assert (
        in_turn.run(members, lasting_data_set.location, str(tmp_path), ["model.image_side_px=32"], []) == 75
    )
    assert len(called) == 1


def test_all_configs_are_checked_before_the_first_is_trained(
    members, lasting_data_set, tmp_path, capsys
) -> None:
    Path(members[1]).write_text("model: {}\n")
    flags = ["--data", lasting_data_set.location, "--run-dir", str(tmp_path / "runs")]
    flags += ["--set", "model.image_side_px=32"]
    assert cli.main(["train", "--config", *members, *flags]) == 2
    assert f"{members[1]}: " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_two_configs_of_one_name_are_refused(members, tmp_path) -> None:
    with pytest.raises(ConfigError, match="two configs are called member_1"):
        in_turn.run([members[0], members[0]], "absent.json", str(tmp_path), [], [])
