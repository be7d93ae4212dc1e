"""How fast training is on a CPU: this engine's steps beside a plain `model.fit` of the same network.

    python tests/benchmarks/step_seed.py --data OUT/manifest.json      (`make bench-step`)

Protocol. Each candidate is a process of its own that trains DenseNet121 with CBAM attention on training
pictures of the same data set, 320 x 320 in batches of 16: model.fit in float32 as Fisher's article has it,
fed by NumPy from memory (`step_seed_fit`), and this engine's step on its own input (`step_seed_engine`), in
float32 and in bfloat16. They take turns, one at a time, every second turn backwards, so that what else the
machine does falls on all alike. In a turn a process starts, traces and runs its first step; another one goes
unmeasured; then `--steps` steps are timed. The rate is images by wall clock; CPU-seconds are of all threads
of the process. Ratios are of the same turn; figures are medians over the turns, with the lowest and highest.
Nobody sets threads or environment: what the engine chooses for a CPU is a part of what is measured. Pin all
of it to the cores it is to have: `taskset -c 0,1`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import measured
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from engine.input.reader import ShardReader
from records import manifest
from records.errors import CxrError, RunError

HERE = Path(__file__).parent
BATCH, PICTURES, SIDE_PX = 16, 256, 320
GOAL = 1.3
SEED, OURS = "model.fit, float32", "engine, float32"
# Name to program and what it is told beside the data and the steps.
CANDIDATES = {
    SEED: ("step_seed_fit.py", []),
    OURS: ("step_seed_engine.py", ["float32"]),
    "engine, mixed_bfloat16": ("step_seed_engine.py", ["mixed_bfloat16"]),
}


@dataclass
class Turns:
    """What one candidate reached; each list has one number for each turn."""

    images_per_s: list[float] = field(default_factory=list)
    cpu_s_per_1000: list[float] = field(default_factory=list)
    first_step_s: list[float] = field(default_factory=list)


def main() -> int:
    """Measure and print; return 0, or 1 where a candidate failed."""
    flags = _flags()
    try:
        with tempfile.TemporaryDirectory(prefix="cxr-step-seed-") as folder:
            _write_arrays(flags.data, Path(folder))
            found = measure(flags.data, Path(folder), turns=flags.turns, steps=flags.steps)
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    _print(found, flags)
    return 0


def measure(data: str, folder: Path, *, turns: int, steps: int) -> dict[str, Turns]:
    """Measure as the module's protocol says.

    Args:
        data: the manifest's location.
        folder: with the arrays that NumPy feeds.
        turns: of each candidate.
        steps: timed in each turn.

    Raises:
        RunError: a candidate failed; its last line is given.
    """
    found = {name: Turns() for name in CANDIDATES}
    for number in range(turns):
        for name in list(CANDIDATES) if number % 2 == 0 else list(CANDIDATES)[::-1]:
            print(f"turn {number + 1} of {turns}: {name} ...", file=sys.stderr, flush=True)
            program, words = CANDIDATES[name]
            source = str(folder) if name == SEED else data
            began = time.time()
            said = _run([sys.executable, str(HERE / program), source, str(steps), *words])
            found[name].images_per_s.append(said["images"] / said["wall_s"])
            found[name].cpu_s_per_1000.append(1000 * said["cpu_s"] / said["images"])
            found[name].first_step_s.append(said["first_step_at"] - began)
    return found


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", required=True, metavar="MANIFEST", help="of pictures of 320 x 320")
    parser.add_argument("--turns", type=int, default=3, help="of each candidate (%(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="timed in each turn (%(default)s)")
    flags = parser.parse_args()
    if flags.turns < 1 or flags.steps < 1:
        parser.error("--turns and --steps must be at least 1")
    return flags


def _write_arrays(data: str, folder: Path) -> None:
    """Leave the pictures and labels that NumPy feeds as two files."""
    data_set = manifest.load(data)
    if (data_set.image["side_px"], data_set.image["stored_channels"]) != (SIDE_PX, 1):
        raise RunError(f"{data}: holds {data_set.image}; expected grey pictures of {SIDE_PX} pixels a side")
    with ShardReader(data_set, "train") as reader:
        images, labels = reader.gather(np.arange(min(PICTURES, len(reader))))
        np.save(folder / "images.npy", images)
        np.save(folder / "labels.npy", labels)


def _run(command: list[str]) -> dict[str, float]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise RunError(f"{Path(command[1]).name}: exit code {done.returncode}, it last said: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _print(found: dict[str, Turns], flags: argparse.Namespace) -> None:
    table = Table(
        title=f"A training step of {SIDE_PX} x {SIDE_PX}, batch {BATCH}", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("way", no_wrap=True)
    for heading in ("images/s", "spread", "of model.fit", "CPU-s\nper 1,000", "first step\nafter"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, turns in found.items():
        rates = turns.images_per_s
        table.add_row(
            name,
            f"{statistics.median(rates):.2f}",
            f"{min(rates):.2f}–{max(rates):.2f}",
            f"{_ratio(turns, found[SEED]):.2f}",
            f"{statistics.median(turns.cpu_s_per_1000):.0f}",
            f"{statistics.median(turns.first_step_s):.0f} s",
        )
    ratio = _ratio(found[OURS], found[SEED])
    print(f"{measured.machine()}; medians of {flags.turns} turns of {flags.steps} steps")
    Console().print(table)
    print(f"{OURS}, of model.fit: {ratio:.2f}; wanted: {GOAL}: {'met' if ratio >= GOAL else 'missed'}")


def _ratio(turns: Turns, seed: Turns) -> float:
    pairs = zip(turns.images_per_s, seed.images_per_s, strict=True)
    return statistics.median(ours / others for ours, others in pairs)


if __name__ == "__main__":
    sys.exit(main())
