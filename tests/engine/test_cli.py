"""The command line: quick help, clear errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import cli


def test_help_loads_no_tensorflow_and_answers_at_once():
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from engine import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit as done:\n    assert done.code == 0\n"
        "heavy = [name for name in ('tensorflow', 'keras', 'matplotlib', 'pandas') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("train", "evaluate", "report", "inspect", "benchmark"):
        assert command in done.stdout


def test_help_takes_less_than_half_a_second():
    durations_s = []
    for _ in range(3):
        start_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", "engine.cli", "--help"], stdout=subprocess.DEVNULL, check=True)
        durations_s.append(time.perf_counter() - start_s)
    assert min(durations_s) < 0.5


@pytest.mark.parametrize("command", [["train"], ["nonsense"], [], ["train", "--conf", "a"]])
def test_wrong_usage_exits_with_2(command, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(command)
    assert done.value.code == 2
    assert "usage: engine" in capsys.readouterr().err


def _train_command(folder: Path) -> list[str]:
    return [
        "train",
        "--config",
        "configs/demo.yaml",
        "--data",
        str(folder),
        "--run-dir",
        str(folder / "run"),
    ]


def test_a_missing_manifest_is_one_line_and_exit_code_1(tmp_path, capsys):
    command = _train_command(tmp_path)
    assert cli.main(command) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "no manifest" in lines[0]
    assert not list(tmp_path.iterdir())


def test_an_unknown_config_key_is_one_line_with_the_nearest_known_one(tmp_path, capsys):
    command = _train_command(tmp_path)
    assert cli.main([*command, "--set", "optimizer.leraning_rate=1"]) == 2
    assert "did you mean `optimizer.learning_rate`?" in capsys.readouterr().err
