"""How fast batches arrive: this engine, TensorFlow's own reader, peers and limits, on the same pictures.

    python tests/benchmarks/input_rate_peers.py --cores 0,1      (`make bench-input`)

Protocol. The pictures are real: names of the NIH's table, hard-linked to the images in NIH_SAMPLE_DIR,
converted by this project's command to 320 x 320 x 1, raw and as JPEG 95; the training split (four fifths)
is what everybody reads, each peer from files of its own format that it wrote from the same pixels. Every
candidate hands over the same: shuffled batches of 64 x (320, 320, 1) uint8 with 14 float32 labels, in the
process that asks for them; four batches of each are held against the stored records before anything counts.
(The PNG loop reads and resizes the originals, so its pictures differ.)

A candidate is a process of its own in its own environment, with whatever it starts on the same two cores.
Where the table of `input_candidates` has several settings (processes, threads), each is tried in three
windows of 0.7 s and that with the fastest window is taken. All then live as long as the measurement: turn
after turn each one is warmed up for 0.7 s and measured for `--seconds`, while the others wait with their
buffers full; every other turn runs backwards. CPU seconds are those of all processes of the candidate.
Medians, lowest and highest are over the turns; a ratio is the median of the turns' ratios. After each
window an accelerator is emulated: `--steps` steps of a batch and 80 ms of sleep; the share of the steps in
the time they took is the utilisation. Memory is anonymous and shared memory of all of a candidate's
processes, the highest seen. The time to the first batch runs from ready imports; ours is the median of
`--repeats` starts, the others start once. Warm means: the files are in the page cache.

Cold: before each of `--cold_repeats` turns the candidate's files are dropped from the page cache
(posix_fadvise, and mincore tells that they are out), then as many batches as an epoch has are counted, so
that every page comes from the disk once. A few batches were ready before. Neighbours that a read brings
along may be of use later, while there is memory for them: a set much larger than memory is harder.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import linked_tree
import measured
from input_candidates import CANDIDATES, COLD, ENCODINGS, OURS
from input_data import InputData
from input_goals import Measured, goals
from input_report import other_work, write_report
from input_turns import STEP_S, Turns

from records.errors import CxrError, UsageError

HERE = Path(__file__).parent


def main() -> int:
    """Run the benchmark; return the exit code."""
    flags = _parse()
    try:
        _run(flags)
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _run(flags: argparse.Namespace) -> None:
    cores = _pin(flags.cores)
    build = Path(flags.build).resolve()
    data = InputData(build, flags.files)
    linked_tree.warm(build / "linked" / "originals")
    results: dict[str, Measured] = {}
    for encoding in flags.encodings.split(","):
        results.update(_measure(flags, data, build / "bench-input" / "logs", encoding))
    write_report(
        build / "bench-input",
        f"{data.records:,} pictures, batches of 64, cores {cores}",
        [
            measured.machine(),
            f"commit {measured.commit(HERE.parents[1])}",
            f"Python {platform.python_version()}, Linux {platform.release()}",
            f"{flags.repeats} turns of {flags.seconds:g} s and {flags.steps} steps of {1000 * STEP_S:.0f} ms",
            other_work(results),
        ],
        results,
        goals(results),
    )


def _measure(flags: argparse.Namespace, data: InputData, logs: Path, encoding: str) -> Mapping[str, Measured]:
    """Measure one encoding, and on cold files where it is the raw one."""
    with_cold = encoding == "raw" and flags.cold_repeats > 0
    with Turns(data, Path(flags.peers).absolute(), logs, encoding) as turns:
        turns.start(candidate for candidate in CANDIDATES if encoding in candidate.choices)
        ours = next(candidate for candidate in CANDIDATES if candidate.name == OURS)
        turns.start_again(ours, flags.repeats - 1)
        for number in range(flags.repeats):
            print(f"{encoding}: turn {number + 1} of {flags.repeats}", file=sys.stderr, flush=True)
            turns.turn(flags.seconds, flags.steps, backwards=number % 2 == 1)
        for number in range(flags.cold_repeats if with_cold else 0):
            print(f"cold: turn {number + 1} of {flags.cold_repeats}", file=sys.stderr, flush=True)
            turns.cold_turn(backwards=number % 2 == 1)
        return {encoding: turns.warm, COLD: turns.cold} if with_cold else {encoding: turns.warm}


def _pin(named: str) -> str:
    """Keep this process and what it starts to the named cores, or to the first two; return their names."""
    allowed = [str(core) for core in sorted(os.sched_getaffinity(0))]
    cores = named.split(",") if named else allowed[:2]
    if not set(cores) <= set(allowed):
        raise UsageError(f"--cores={named}; expected some of {','.join(allowed)}")
    os.sched_setaffinity(0, map(int, cores))
    return ",".join(cores)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the training input beside peers and limits.")
    add = parser.add_argument
    add("--files", type=int, default=5_000, help="PNGs to convert; four fifths are read (%(default)s)")
    add("--cores", default="", help="such as 2,3; the first two if not named")
    add("--repeats", type=int, default=5, help="turns (%(default)s)")
    add("--seconds", type=float, default=2.0, help="of each window (%(default)s)")
    add("--steps", type=int, default=20, help="emulated steps after each window (%(default)s)")
    add("--cold_repeats", type=int, default=3, help="turns on cold files, 0 for none (%(default)s)")
    add("--encodings", default=",".join(ENCODINGS), help="raw, or raw,jpeg (%(default)s)")
    add("--build", default="build", help="takes linked tree, files, logs and results (%(default)s)")
    add("--peers", default=".venv-peers", help="folder of the peers' environments (%(default)s)")
    flags = parser.parse_args()
    if flags.repeats < 1 or flags.seconds <= 0 or flags.steps < 1:
        parser.error("--repeats, --seconds and --steps must be more than 0")
    if flags.encodings not in ("raw", "raw,jpeg"):
        parser.error(f"--encodings={flags.encodings}; expected raw or raw,jpeg")
    return flags


if __name__ == "__main__":
    sys.exit(main())
