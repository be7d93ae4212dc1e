"""Runs a conversion as a command and watches which processes write its shards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from records.storage import SCRATCH_SUFFIX

_LOOK_EVERY_S = 0.02
_LEFT_WITHIN_S = 10.0


@dataclass
class Watched:
    """A command that has ended.

    Attributes:
        launcher: its process id.
        writers: process ids that had an unpublished shard of its output open.
        with_tensorflow: those of them that had a TensorFlow library mapped while they wrote.
        errors: the lines on its standard error, without those of the progress.
        left: command lines of processes that it left running.
    """

    launcher: int
    code: int = 0
    writers: set[int] = field(default_factory=set)
    with_tensorflow: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def convert_watched(arguments: Sequence[str], output: Path) -> Watched:
    """Run the conversion in a session of its own until it ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "beam_pipelines.convert", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watched = Watched(process.pid)
    while process.poll() is None:
        _look(output, watched)
        time.sleep(_LOOK_EVERY_S)
    watched.code = process.returncode
    watched.left = _left_running(process.pid)
    lines = process.communicate()[1].splitlines()
    watched.errors = [line for line in lines if not line.startswith(("converting:", "reading"))]
    return watched


def _look(output: Path, watched: Watched) -> None:
    for process in _processes():
        if process in watched.writers or not _writes_shard(process, output):
            continue
        with contextlib.suppress(OSError):  # it may have ended since
            maps = Path(f"/proc/{process}/maps").read_text()
            watched.writers.add(process)
            if "tensorflow" in maps:
                watched.with_tensorflow.add(process)


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _writes_shard(process: int, output: Path) -> bool:
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                opened = os.readlink(entry)  # noqa: PTH115
                if (
                    opened.startswith(str(output))
                    and opened.endswith(SCRATCH_SUFFIX)
                    and ".tfrecord." in opened
                ):
                    return True
    return False


def _left_running(session: int) -> list[str]:
    """Return the command lines of a session's processes that don't end by themselves soon."""
    deadline = time.monotonic() + _LEFT_WITHIN_S
    while (left := [process for process in _processes() if _session(process) == session]) and (
        time.monotonic() < deadline
    ):
        time.sleep(_LOOK_EVERY_S)
    return [Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ") for process in left]


def _session(process: int) -> int:
    """Return the session of a process, 0 for one that has ended."""
    with contextlib.suppress(OSError):
        state, _, _, session = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:4]
        return 0 if state == "Z" else int(session)
    return 0
