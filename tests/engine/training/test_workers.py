"""Two processes that train one model together: as two devices would, left and gone on with as one run."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.training import checkpoints
from engine.training.cluster import Worker, this_worker
from records.errors import ConfigError

# float32 sums of two processes and of two devices are added up in other orders.
TOLERANCE = 1e-5
ENDLESS = ("train.epochs=100000", "train.early_stopping_patience=100000")
AUTO = ("--resume", "auto")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Worker(0, 1)),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}', Worker(0, 1)),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}', Worker(1, 2)),
        (
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
            Worker(1, 2),
        ),
    ],
)
def test_the_environment_names_a_worker(monkeypatch, text: str, expected: Worker) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    assert this_worker() == expected


@pytest.mark.parametrize(
    "text", ["worker 0", "[]", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}']
)
def test_a_cluster_that_can_not_be_read_is_one_line(monkeypatch, text: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=r'^TF_CONFIG is `.*`; expected \{"cluster"') as error:
        this_worker()
    assert "\n" not in str(error.value)


@pytest.fixture
def begin_both() -> Iterator[Callable[[list[str]], list[subprocess.Popen[str]]]]:
    """A function that starts a command as two workers; those that are left are killed at the end."""
    begun: list[subprocess.Popen[str]] = []

    def begin(command: list[str]) -> list[subprocess.Popen[str]]:
        addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
        for number in range(2):
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
            begun.append(
                subprocess.Popen(
                    [sys.executable, "-m", "engine.cli", *command],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "TF_CONFIG": json.dumps(cluster)},
                )
            )
        return begun[-2:]

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _codes(workers: list[subprocess.Popen[str]]) -> list[int]:
    return [worker.wait(timeout=120) for worker in workers]


def _losses(run: Path) -> list[float]:
    with (run / "steps.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_workers_take_the_steps_of_two_devices(tiny_command, engine, begin_both, tmp_path) -> None:
    command = tiny_command(
        tmp_path / "workers", "loss={name: dynamic_weighted_bce, smoothing: 0.1, prevalence: batch}"
    )
    workers = begin_both(command)
    assert _codes(workers) == [0, 0], [worker.stderr and worker.stderr.read() for worker in workers]
    devices = [word.replace(str(tmp_path / "workers"), str(tmp_path / "devices")) for word in command]
    done = engine(*devices, "--set", "train.replicas=2")
    assert done.returncode == 0, done.stderr
    assert _losses(tmp_path / "workers") == pytest.approx(_losses(tmp_path / "devices"), rel=TOLERANCE)
    validated = [
        (tmp_path / name / "findings.csv").read_text().splitlines() for name in ("workers", "devices")
    ]
    assert len(validated[0]) == len(validated[1]) == 1 + 2 * 14


@pytest.mark.slow
def test_workers_leave_at_one_step_and_go_on_together(tiny_command, begin_both, tmp_path) -> None:
    run = tmp_path / "run"
    workers = begin_both(tiny_command(run, *ENDLESS, flags=AUTO))
    _wait_for(run / "history.csv")
    workers[1].send_signal(signal.SIGTERM)
    assert _codes(workers) == [75, 75]
    left = checkpoints.newest(run / "checkpoints")
    assert left is not None
    workers = begin_both(tiny_command(run, *ENDLESS, flags=AUTO))
    _wait_for(
        run / "checkpoints" / "never", until=lambda: checkpoints.stored(run / "checkpoints")[0] != left.path
    )
    workers[0].send_signal(signal.SIGTERM)
    assert _codes(workers) == [75, 75]
    losses = _losses(run)
    assert len(losses) > left.state["place"]["epoch"] * 5
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_worker_that_waits_for_one_that_never_starts_ends_in_bounded_time(
    tiny_command, tmp_path, number: int
) -> None:
    program = (
        "import sys; from engine import backend, cli; backend.load(); from engine.training import devices; "
        "devices.START_LIMIT_S = 2; sys.exit(cli.main(sys.argv[1:]))"
    )
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    done = subprocess.run(
        [sys.executable, "-c", program, *tiny_command(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TF_CONFIG": json.dumps(cluster)},
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "waiting for all 2 workers to start; if they don't within 2 s, this one ends with exit code 1: look"
    )


@pytest.mark.slow
def test_a_lost_worker_ends_the_others_with_one_line(tiny_command, begin_both, tmp_path) -> None:
    workers = begin_both(tiny_command(tmp_path / "run", *ENDLESS))
    _wait_for(tmp_path / "run" / "history.csv")
    workers[1].kill()
    assert workers[0].wait(timeout=120) == 1
    assert workers[0].stderr is not None
    last = workers[0].stderr.read().splitlines()[-1]
    assert last.startswith("error: another worker doesn't answer any more; start all of them again")


def _wait_for(path: Path, until: Callable[[], bool] | None = None) -> None:
    end_s = time.monotonic() + 90
    while not (until() if until else path.exists()):
        assert time.monotonic() < end_s, path
        time.sleep(0.1)
