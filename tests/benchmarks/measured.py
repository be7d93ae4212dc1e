"""Runs a command and measures it whole: wall time, CPU time and memory of all its processes.

CPU seconds are those of the command and of every process below it: this process adopts what the command
leaves behind, waits for it, and reads what the kernel counted. Memory is each process's own high-water mark
(VmHWM: resident, shared pages included), looked up every fifth of a second. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from records.errors import CxrError

EVERY_S = 0.2
# While an event is awaited, its time is known to this.
EVENT_EVERY_S = 0.02
_BECOME_SUBREAPER = 36
_LEFT_BEHIND_S = 20.0
# A command that takes longer has hung.
LIMIT_S = 3600.0


@dataclass
class Measured:
    """What a command took.

    Attributes:
        wall_s: from its start to the end of its first process.
        cpu_s: user and system time of all its processes.
        launcher_bytes: peak memory of its first process.
        worker_bytes: peak memory of the largest other one, 0 where there was none.
        events_s: when each event first was so, from the start; absent if it never was.
        gauges: the highest value of each gauge.
        output: what it printed.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    launcher_bytes: int = 0
    worker_bytes: int = 0
    events_s: dict[str, float] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    output: str = ""


def run(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    events: Mapping[str, Callable[[], bool]] | None = None,
    gauges: Mapping[str, Callable[[], float]] | None = None,
) -> Measured:
    """Run a command to its end.

    Args:
        command: program and arguments.
        log: file that takes what it prints.
        environment: variables added to this process's.
        events: asked until each is so.
        gauges: read once a second.

    Raises:
        CxrError: the command failed, its last line is given; or it took longer than `LIMIT_S`.
    """
    ctypes.CDLL(None).prctl(_BECOME_SUBREAPER, 1, 0, 0, 0)
    taken = Measured()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            _watch(process.pid, start, taken, dict(events or {}), gauges or {})
        except BaseException:
            _kill(process.pid)
            raise
        code = process.wait()
    _wait_for_the_rest(process.pid)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    taken.output = log.read_text(errors="replace")
    if code:
        lines = taken.output.strip().splitlines() or ["nothing"]
        raise CxrError(f"{' '.join(command[:4])} ...: exit code {code}, it last said: {lines[-1]}; see {log}")
    return taken


def _watch(
    pid: int,
    start: float,
    taken: Measured,
    awaited: dict[str, Callable[[], bool]],
    gauges: Mapping[str, Callable[[], float]],
) -> None:
    """Look at the command until its first process ends, and note when that was."""
    members: dict[int, bool] = {}
    ended = os.pidfd_open(pid)
    next_look = next_gauge = start
    try:
        while True:
            now = time.monotonic()
            for name in [name for name, has_happened in awaited.items() if has_happened()]:
                taken.events_s[name] = now - start
                del awaited[name]
            if now >= next_look:
                _note_memory(pid, members, taken)
                next_look = now + EVERY_S
            if now >= next_gauge:
                for name, gauge in gauges.items():
                    taken.gauges[name] = max(taken.gauges.get(name, 0.0), gauge())
                next_gauge = now + 1.0
            if select.select([ended], [], [], EVENT_EVERY_S if awaited else EVERY_S)[0]:
                taken.wall_s = time.monotonic() - start
                return
            if now > start + LIMIT_S:
                raise CxrError(f"a command was still running after {LIMIT_S:.0f} s, and was ended")
    finally:
        os.close(ended)


def _note_memory(session: int, members: dict[int, bool], taken: Measured) -> None:
    """Raise the peaks by what the processes of a session say; each process is classified once."""
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:  # noqa: PTH208
        try:
            if pid not in members:
                members[pid] = os.getsid(pid) == session
            if members[pid]:
                peak = _peak_bytes(pid)
                if pid == session:
                    taken.launcher_bytes = max(taken.launcher_bytes, peak)
                else:
                    taken.worker_bytes = max(taken.worker_bytes, peak)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _wait_for_the_rest(session: int) -> None:
    """Wait for processes that outlived the command, so that their CPU time is counted."""
    deadline = time.monotonic() + _LEFT_BEHIND_S
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(0.02)
        if time.monotonic() > deadline:
            _kill(session)


def _kill(session: int) -> None:
    """Kill all processes of a command's session."""
    for name in os.listdir("/proc"):  # noqa: PTH208
        with contextlib.suppress(OSError, ValueError):
            if os.getsid(int(name)) == session:
                os.kill(int(name), signal.SIGKILL)


def folder_bytes(folder: Path) -> int:
    """Return the bytes that the files below a folder take on disk; files may come and go meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(f"{parent}/{name}").st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def cores() -> int:
    """Return the number of cores this process may use; what it starts may use the same."""
    return len(os.sched_getaffinity(0))


def machine() -> str:
    """Return processor, cores used and memory in a few words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        f"{models[0] if models else 'unknown processor'}, {cores()} cores used, {memory_bytes / 1e9:.0f} GB"
    )


def commit(root: Path) -> str:
    """Return the commit of a checkout, with a mark where it has changes, or `unknown`."""
    if shutil.which("git") is None:
        return "unknown"
    return output_of(["git", "-C", str(root), "describe", "--always", "--dirty"]) or "unknown"


def output_of(command: Sequence[str]) -> str:
    """Return the first line that a short command prints, or nothing."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter(done.stdout.splitlines()), "")
