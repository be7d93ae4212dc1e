"""What every candidate of the input benchmark does in its own process: take orders, hand over batches, count.

    python PROGRAM.py write SOURCE FOLDER ENCODING [NAME=VALUE ...]      writes its files once
    python PROGRAM.py serve SOURCE FOLDER ENCODING [NAME=VALUE ...]      orders on stdin, answers on stdout

An order is a line of JSON, `{"do": "rate", ...}`; its other keys are the arguments of the method of that name
in `Orders`. The answer is a line of JSON. Needs NumPy and nothing of this project, so that it runs in each
peer's environment. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from input_source import Source

BATCH = 64
SEED = 0
WARM_UP_BATCHES = 4
# A slow candidate does no more steps than this many times the time that they should take allows.
LONGEST_STEPS = 2
_MADV_DONTNEED = 4

Settings = dict[str, str]
Batches = Iterator[tuple[np.ndarray, np.ndarray]]
Write = Callable[[Source, Path, Settings], None]
Open = Callable[[Source, Path, Settings], Batches]


def main(open_batches: Open, write: Write | None = None, packages: tuple[str, ...] = ()) -> int:
    """Do what the command line says; return the exit code.

    Args:
        open_batches: returns an endless stream of shuffled batches: (64, 320, 320, 1) uint8 and (64, 14)
            float32, NumPy arrays or what has their `shape` and turns into them.
        write: writes the candidate's files into an empty folder; None where it reads another's.
        packages: whose versions the table names.
    """
    imported_s = _age_s()
    task, source, folder, encoding, *pairs = sys.argv[1:]
    settings = dict(pair.split("=", 1) for pair in pairs)
    if task == "write":
        if write:
            write(Source(Path(source), encoding), Path(folder), settings)
        return 0
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    start = time.perf_counter()
    batches = open_batches(Source(Path(source), encoding), Path(folder), settings)
    next(batches)
    versions = " ".join(importlib.metadata.version(package) for package in packages)
    began = {"imports_s": imported_s, "first_batch_s": time.perf_counter() - start, "versions": versions}
    began["from_process_start_s"] = _age_s()
    print(json.dumps(began), file=answers)
    orders = Orders(batches)
    for line in sys.stdin:
        arguments = json.loads(line)
        print(json.dumps(getattr(orders, arguments.pop("do"))(**arguments)), file=answers)
    # Some libraries' threads and workers hang at an orderly end; the benchmark ends the rest of the session.
    os._exit(0)


class Orders:
    """What can be asked of a stream of batches."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def rate(self, warm_up_s: float, seconds: float) -> dict[str, float]:
        """Count the images of whole batches in a window after an unmeasured warm-up."""
        start, warm_up = time.perf_counter(), 0
        while warm_up < WARM_UP_BATCHES or time.perf_counter() - start < warm_up_s:
            next(self._batches)
            warm_up += 1
        end = time.perf_counter() + seconds
        return self._counted(lambda _: time.perf_counter() >= end)

    def steps(self, steps: int, step_s: float) -> dict[str, float]:
        """Return the share of the wall time that emulated steps take, each of a batch and a sleep."""
        next(self._batches)
        start, done, elapsed_s = time.perf_counter(), 0, 0.0
        while done < steps and elapsed_s < LONGEST_STEPS * steps * step_s:
            next(self._batches)
            time.sleep(step_s)
            done += 1
            elapsed_s = time.perf_counter() - start
        return {"utilisation": done * step_s / elapsed_s}

    def release(self, folder: str) -> dict[str, float]:
        """Do as the function of this name, for the sake of a candidate that reads the same files."""
        release(Path(folder))
        return {}

    def cold(self, folder: str, batches: int) -> dict[str, float]:
        """Drop the files from the page cache, then count `batches`; the few that were ready count, too."""
        resident = evict(Path(folder))
        return {**self._counted(lambda done: done >= batches), "resident": resident}

    def sample(self, batches: int, file: str) -> dict[str, float]:
        """Leave the next batches in an .npz file."""
        # Copies: the next batch may be written over the last one.
        taken = [tuple(map(np.array, next(self._batches))) for _ in range(batches)]
        images, labels = (np.stack([batch[part] for batch in taken]) for part in (0, 1))
        np.savez(file, images=images, labels=labels)
        return {}

    def _counted(self, is_over: Callable[[int], bool]) -> dict[str, float]:
        images = batches = 0
        cores_s, cpu_s, start = cores_busy_s(), tree_cpu_s(), time.perf_counter()
        while not batches or not is_over(batches):
            images += int(next(self._batches)[0].shape[0])
            batches += 1
        wall_s = time.perf_counter() - start
        cpu_s, cores_s = tree_cpu_s() - cpu_s, cores_busy_s() - cores_s
        others = max(0.0, cores_s - cpu_s) / (wall_s * len(os.sched_getaffinity(0)))
        return {"images": images, "wall_s": wall_s, "cpu_s": cpu_s, "others": others}


def tree_cpu_s() -> float:
    """Return the CPU time of all processes of this session, with those that ended and were awaited."""
    session, ticks = os.getsid(0), 0
    for name in os.listdir("/proc"):  # noqa: PTH208
        with contextlib.suppress(OSError, ValueError):
            if os.getsid(int(name)) == session:
                ticks += sum(map(int, _stat(name)[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def cores_busy_s() -> float:
    """Return the time that the cores of this process have not been idle, whoever had them."""
    names, ticks = {f"cpu{core}" for core in os.sched_getaffinity(0)}, 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *columns = line.split()
        if name in names:
            user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, columns[:8])
            ticks += user + nice + system + interrupts + soft_interrupts + stolen
    return ticks / os.sysconf("SC_CLK_TCK")


def release(folder: Path) -> None:
    """Unmap the pages of a folder's files from this process, since mapped pages stay in the page cache."""
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        if f" {folder}/" in line:
            first, end = (int(number, 16) for number in line.split(maxsplit=1)[0].split("-"))
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _MADV_DONTNEED)


def evict(folder: Path) -> float:
    """Drop a folder's files from the page cache; return the share of their bytes that stays nevertheless."""
    release(folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return sum(map(_resident_bytes, files)) / sum(path.stat().st_size for path in files)


def _resident_bytes(path: Path) -> int:
    with path.open("rb") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    pages = np.zeros(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
    address, size = ctypes.c_void_p(mapped.ctypes.data), ctypes.c_size_t(len(mapped))
    if ctypes.CDLL(None).mincore(address, size, ctypes.c_void_p(pages.ctypes.data)):
        raise OSError(f"{path}: mincore failed")
    return int((pages & 1).sum()) * mmap.PAGESIZE


def _age_s() -> float:
    """Return how long ago this process began."""
    began_s = int(_stat("self")[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began_s


def _stat(process: str) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on, since the second may hold blanks."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
