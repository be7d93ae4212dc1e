"""The server as a process of its own: where it says it is, how it stops, and when it doesn't start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from served_run import png

from engine.serving import serve
from records.errors import RunError, UsageError

WAIT_S = 90.0
PROGRAM = Path(__file__).with_name("held_server.py")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_once_requests_in_flight_are_answered(
    served_run, served_data, tmp_path, number
):
    held = tmp_path / "held"
    command = [sys.executable, PROGRAM, served_run, served_data.location, "0", held]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            line = server.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), server.stderr.read()
            address = line.split()[0]
            held.touch()
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(
                    httpx.post, f"{address}api/predict", files={"file": ("x", png())}, timeout=WAIT_S
                )
                until(lambda: "cxr_places_used 1.0" in httpx.get(f"{address}metrics").text)
                server.send_signal(number)
                until(lambda: not is_open(address))
                assert server.poll() is None
                held.unlink()
                assert answer.result(WAIT_S).status_code == 200
            assert server.wait(WAIT_S) == 0
            assert server.stdout.read() == ""
        finally:
            server.kill()


def until(holds) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def is_open(address: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", httpx.URL(address).port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_is_told_in_one_line(served_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"127.0.0.1:{port}: can't be bound to: Address already in use"):
            serve.run(str(served_run), port=port)


def test_a_host_that_isnt_this_machine_is_told_in_one_line(served_run):
    with pytest.raises(RunError, match="choose another --port or --host"):
        serve.run(str(served_run), host="192.0.2.1", port=0)


def test_what_cant_be_served_is_refused_before_anything_is_loaded(
    served_run, served_data, write_data_set, tmp_path
):
    with pytest.raises(UsageError, match="--port 65536"):
        serve.run(str(served_run), port=65536)
    with pytest.raises(UsageError, match="--boxes needs --data"):
        serve.run(str(served_run), boxes="BBox_List_2017.csv")
    with pytest.raises(RunError, match="no run here"):
        serve.run(str(tmp_path))
    other = write_data_set(tmp_path / "other", side_px=16)
    with pytest.raises(RunError, match="not the data set of this run"):
        serve.run(str(served_run), data=other.location)
