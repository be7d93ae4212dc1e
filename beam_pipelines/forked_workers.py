"""Local workers that are forked from one process which imports all they need while the launcher prepares.

Beam starts each local worker as a fresh interpreter that imports Beam anew, and only when the launcher has
imported it, read the table and planned the work. Here a nursery process is started first of all. It imports
what a worker needs and waits. The command that Beam gets for its workers only hands a worker's environment
variables to the nursery and stays until that worker ends, with its exit code; where there is no nursery it
becomes the usual worker. Linux only: elsewhere Beam's own way stays.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

_USUAL_WORKER = "apache_beam.runners.worker.sdk_worker_main"
# What Beam tells a worker: where to report, how to behave, which one it is.
_VARIABLES = (
    "CONTROL_API_SERVICE_DESCRIPTOR",
    "LOGGING_API_SERVICE_DESCRIPTOR",
    "PIPELINE_OPTIONS",
    "WORKER_ID",
)
# Runs in an interpreter without site packages, which starts in a few milliseconds.
_CLIENT = f"""
import json, os, socket, sys
try:
    nursery = socket.socket(socket.AF_UNIX)
    nursery.connect(sys.argv[1])
    told = {{name: os.environ[name] for name in {_VARIABLES!r} if name in os.environ}}
    nursery.sendall(json.dumps(told).encode())
    nursery.shutdown(socket.SHUT_WR)
except OSError:
    os.execv(sys.executable, [sys.executable, "-m", {_USUAL_WORKER!r}])
code = nursery.recv(1)
sys.exit(code[0] if code else 1)
"""
_KILLED = 128
_ENVIRONMENT = {
    # No linear algebra is done there, and its threads wouldn't survive a fork.
    "OPENBLAS_NUM_THREADS": "1",
    # Without them the C library gives each picture's memory back to the kernel and asks for it anew: 77 page
    # faults an image, and 3 % of the time. Read by glibc at its start, ignored by others.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}


class Workers(NamedTuple):
    """How Beam is to do the work.

    Attributes:
        beam_flags: its own flags.
        command: starts one local worker and ends with it, None for Beam's own way.
    """

    beam_flags: list[str]
    command: str | None


@contextlib.contextmanager
def nursery(beam_flags: list[str]) -> Iterator[Workers]:
    """Keep a nursery while the block runs, unless the flags name a runner or its way of running."""
    theirs = ("--runner", "--direct_running_mode")
    if sys.platform != "linux" or any(flag.partition("=")[0] in theirs for flag in beam_flags):
        yield Workers(beam_flags, None)
        return
    with tempfile.TemporaryDirectory(prefix="cxr-workers-") as folder:
        path = str(Path(folder, "socket"))
        process = _start(path)
        with _interrupted_at_once(process.pid):
            try:
                client = shlex.join([sys.executable, "-I", "-S", "-c", _CLIENT, path])
                # Beam hands it to a shell. The signals are for the launcher alone: a client that one ended
                # would look like a worker that died.
                yield Workers(beam_flags, f"trap '' INT TERM; exec {client}")
            finally:
                _kill(process.pid)
                process.kill()
                process.communicate()


def _kill(nursery_pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may not have made its group yet
        os.killpg(nursery_pid, signal.SIGKILL)


@contextlib.contextmanager
def _interrupted_at_once(nursery_pid: int) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the workers first: Beam waits for ever for one that hasn't reported yet.

    Raises:
        KeyboardInterrupt: from within the block, with the signal's number.
    """
    if threading.current_thread() is not threading.main_thread():  # it can't have a handler
        yield
        return

    def end(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # by which a worker's death is told
        _kill(nursery_pid)
        raise KeyboardInterrupt(signal_number)

    usual = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _start(path: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, path],
        # The launcher's end of this pipe closes with the launcher, however that ends.
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        # What matters of a worker's words reaches the launcher as an exception.
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
    )


def main() -> None:
    """Be the nursery: fork a worker for each client until standard input ends, then kill what is left."""
    os.setpgid(0, 0)  # Ctrl-C reaches the launcher alone, and one signal all of the nursery
    try:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(sys.argv[1])
        listener.listen()  # from here on clients wait instead of becoming usual workers
        gc.disable()
        from apache_beam.runners.worker import sdk_worker_main

        from beam_pipelines import shards  # noqa: F401 - each worker needs it

        gc.freeze()  # what is imported stays: no collector need walk it, here or in a worker
        gc.enable()

        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin, selectors.EVENT_READ)
            selector.register(listener, selectors.EVENT_READ)
            while all(key.fileobj is listener for key, _ in selector.select()):
                connection, _ = listener.accept()
                if not os.fork():
                    _keep(connection, sdk_worker_main.main)
                connection.close()
    finally:
        os.killpg(0, signal.SIGKILL)


def _keep(connection: socket.socket, work: Callable[[list[str]], None]) -> None:
    """Fork a worker, wait for its end and tell its client the exit code; never returns."""
    code = _KILLED
    try:
        with connection.makefile("rb") as request:
            told = json.loads(request.read())
        worker = os.fork()
        if not worker:
            connection.close()
            os.environ.update(told)
            _be_worker(work)
        code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    finally:
        with contextlib.suppress(OSError):
            connection.sendall(bytes([code if 0 <= code < _KILLED else _KILLED]))
        os._exit(0)


def _be_worker(work: Callable[[list[str]], None]) -> None:
    code = 1
    try:
        work([])
        code = 0
    finally:
        # Nothing is left to do, and the interpreter would take half a second to take itself apart.
        os._exit(code)


if __name__ == "__main__":
    main()
