"""Workers that are forked: started only where they are ours, interrupted and killed without anything left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beam_pipelines import forked_workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Beam starts its own workers")
IMAGES = 3000


@pytest.fixture
def running(drawn, tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A conversion of many images, in a session of its own, whose workers are at work."""
    many = tmp_path / "many"
    many.mkdir()
    rows = [drawn.table.read_text().splitlines()[0]]
    source = next((drawn.folder / "images").rglob("00000001_000.png"))
    for patient in range(1, IMAGES + 1):
        os.link(source, many / f"{patient:08d}_000.png")
        rows.append(f"{patient:08d}_000.png,No Finding,0,{patient},50,M,PA,400,400,0.1,0.1")
    (tmp_path / "many.csv").write_text("\n".join(rows) + "\n")
    flags = drawn.arguments(
        tmp_path / "out", images=many, labels=tmp_path / "many.csv", split="random", fractions="0.6,0.2,0.2",
        train_val_list=None, test_list=None, validation_fraction=None, direct_running_mode=None,
        direct_num_workers=2, allow_duplicates=True,
    )  # fmt: skip
    command = [sys.executable, "-m", "beam_pipelines.convert", *flags]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        try:
            _wait_for(lambda: any((tmp_path / "out").rglob("*.tfrecord")) or process.poll() is not None)
            assert process.poll() is None
            yield process
        finally:
            process.kill()


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(session: int) -> dict[int, str]:
    """Return the command line of each process of a session that still runs."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text()
    return found


def test_the_workers_are_forked_from_the_nursery(running):
    nurseries = [line for line in _alive(running.pid).values() if forked_workers.__name__ in line]
    # The nursery, and for each worker its keeper and itself.
    assert len(nurseries) == 1 + 2 * 2


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_ctrl_c_and_sigterm_end_a_conversion_with_its_line_and_leave_no_process(running, send, sent, code):
    send(running.pid, sent)
    error = running.communicate(timeout=60)[1]
    assert running.returncode == code
    assert error.splitlines()[-1] == "interrupted; run the same command with --resume to go on"
    _wait_for(lambda: not _alive(running.pid))
    assert not _alive(running.pid)


def test_a_launcher_that_is_killed_leaves_no_process(running):
    running.kill()
    running.wait()
    _wait_for(lambda: not _alive(running.pid))


@pytest.mark.parametrize(
    "flags", [["--runner=PrismRunner"], ["--runner", "X"], ["--direct_running_mode", "in_memory"]]
)
def test_no_nursery_is_started_where_the_runner_is_not_ours(flags):
    with forked_workers.nursery(flags) as workers:
        assert workers == (flags, None)


def test_a_client_without_a_nursery_becomes_the_usual_worker():
    with forked_workers.nursery([]) as workers:
        pass
    assert workers.command is not None
    done = subprocess.run(workers.command, shell=True, capture_output=True, text=True, check=False)
    # It misses what Beam tells a worker by way of the environment.
    assert done.returncode == 1
    assert "CONTROL_API_SERVICE_DESCRIPTOR" in done.stderr
