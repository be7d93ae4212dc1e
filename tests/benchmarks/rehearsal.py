"""The conversion of the whole NIH set, rehearsed with the images at hand.

    NIH_SAMPLE_DIR=folder python tests/benchmarks/rehearsal.py      (`make rehearsal`)

A tree of all 112,120 names of the real table is made of hard links to the images in NIH_SAMPLE_DIR, which so
repeat pixel for pixel: --allow_duplicates says so to the conversion. It is converted with the official lists,
and again stratified 90/5/5; each data set is audited against the real table, weighed and removed before the
next. Before them the bare pool of processes (bare_pool.py) does the same files, as the measure of the rate.

Seconds, CPU seconds and memory are taken as in convert_rate.py; disk is what the output takes at its largest,
looked up once a second, beside the linked tree. The exit code is 1 when a conversion or an audit fails or a
data set isn't what was asked for. Goals of speed, memory and disk are only told.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import conversion
import linked_tree
import measured
from measured import Measured
from rate_report import Goal, goal_lines, goals_as_json, markdown_table, write_results

from records import manifest
from records.errors import CxrError, StorageError
from records.manifest import Manifest
from records.splits import SPLITS
from records.table import read_list

HERE = Path(__file__).parent
STRATEGIES = {
    "official": ("--split", "official", "--validation_fraction", "0.1"),
    "stratified 90/5/5": ("--split", "stratified", "--fractions", "0.9,0.05,0.05"),
}
STRATIFIED_SHARES = (0.9, 0.05, 0.05)
# Of all images; whole patients can't be cut to fit better than this.
SHARE_TOLERANCE = 0.001
DISK_BYTES = 15e9
# The goals of time are those of two cores.
GOAL_CORES, GOAL_S = 2, 480


@dataclass
class Rehearsed:
    """One conversion and its audit."""

    name: str
    images: int
    converted: Measured
    audited: Measured
    data_bytes: int

    @property
    def images_per_s(self) -> float:
        """Return the rate of the whole command."""
        return self.images / self.converted.wall_s


def main() -> int:
    """Rehearse; return the exit code."""
    flags = _parse()
    try:
        _rehearse(flags)
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _rehearse(flags: argparse.Namespace) -> None:
    sample, build = linked_tree.sample_folder(), Path(flags.build).resolve()
    names = linked_tree.image_names(sample, flags.files)
    folder = build / "rehearsal"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "output", ignore_errors=True)
    _check_disk(folder, len(names))
    tree = linked_tree.build(sample, names, build / "linked")
    linked_tree.warm(build / "linked" / "originals")
    pool = _bare_pool(tree, folder) if flags.with_pool else None
    rehearsed = []
    for name, split in STRATEGIES.items():
        rehearsed.append(_convert_and_audit(name, split, sample, tree, folder, len(names)))
    _report(folder, len(names), pool, rehearsed)


def _check_disk(folder: Path, images: int) -> None:
    needed = DISK_BYTES * images / 112_120
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(f"{folder}: {free / 1e9:.1f} GB are free; expected {needed / 1e9:.1f} GB or more")


def _bare_pool(tree: Path, folder: Path) -> Measured:
    output, work = folder / "output", folder / "work.json"
    conversion.write_work(work, tree, None)
    command = [sys.executable, str(HERE / "bare_pool.py"), str(work), str(output), str(measured.cores())]
    _say("the bare pool of processes ...")
    taken = measured.run(command, folder / "bare_pool.log")
    shutil.rmtree(output)
    work.unlink()
    return taken


def _convert_and_audit(
    name: str, split: tuple[str, ...], sample: Path, tree: Path, folder: Path, images: int
) -> Rehearsed:
    """Convert, check, audit and remove one data set."""
    output = folder / "output"
    free_before = shutil.disk_usage(folder).free
    missing = [] if images == 112_120 else ["--allow_missing_images"]
    _say(f"converting, {name} ...")
    converted = measured.run(
        conversion.command(sample, tree, output, [*split, *missing]),
        folder / f"convert-{split[1]}.log",
        events=conversion.events(output),
        gauges={
            "output bytes": lambda: float(measured.folder_bytes(output)),
            "disk bytes": lambda: float(free_before - shutil.disk_usage(folder).free),
        },
    )
    made = manifest.load(str(output))
    _check(made, name, images, sample)
    _say(f"auditing, {name} ...")
    audited = measured.run(conversion.audit(sample, output), folder / f"audit-{split[1]}.log")
    if "patients in two splits: 0; faults: 0" not in audited.output:
        raise CxrError(
            f"{name}: the audit doesn't say that it found nothing; see {folder}/audit-{split[1]}.log"
        )
    data_bytes = measured.folder_bytes(output)
    shutil.rmtree(output)
    return Rehearsed(name, images, converted, audited, data_bytes)


def _check(made: Manifest, name: str, images: int, sample: Path) -> None:
    """Hold a data set against what was asked for.

    Raises:
        CxrError: something is missing, left out, in two splits or in the wrong one.
    """
    counts = {split: made.splits[split].images for split in SPLITS}
    if sum(counts.values()) != images or made.patients_in_two_splits:
        raise CxrError(
            f"{name}: {counts}, {made.patients_in_two_splits} patients in two splits; expected {images:,} "
            "images and no such patient"
        )
    if images != 112_120:
        return
    if name == "official":
        listed = len(read_list(str(sample / linked_tree.TEST_LIST)))
        if counts["test"] != listed:
            raise CxrError(f"{name}: {counts['test']:,} test images; expected the published {listed:,}")
        return
    for split, share in zip(SPLITS, STRATIFIED_SHARES, strict=True):
        if abs(counts[split] / images - share) > SHARE_TOLERANCE:
            raise CxrError(f"{name}: {counts[split] / images:.4f} of the images in {split}; expected {share}")


def _report(folder: Path, images: int, pool: Measured | None, rehearsed: list[Rehearsed]) -> None:
    facts = [
        measured.machine(),
        f"commit {measured.commit(HERE.parents[1])}",
        f"Python {sys.version.split()[0]}",
    ]
    columns = ["", *(run.name for run in rehearsed), *(["bare pool"] if pool else [])]
    lines = [f"### {images:,} linked images", "", ", ".join(facts), ""]
    lines += markdown_table(columns, _rows(images, pool, rehearsed))
    goals = [goal for run in rehearsed for goal in _goals(run, images, pool)]
    lines += ["", *goal_lines(goals)]
    runs = {run.name: _as_json(run.converted) | {"audit": _as_json(run.audited)} for run in rehearsed}
    pool_json = {"bare pool": _as_json(pool)} if pool else {}
    write_results(
        folder,
        lines,
        {"images": images, "facts": facts, "runs": runs | pool_json, "goals": goals_as_json(goals)},
    )


def _rows(images: int, pool: Measured | None, rehearsed: list[Rehearsed]) -> list[list[str]]:
    """Return the table's lines: one figure each, by conversion, with the pool's last."""
    taken = [run.converted for run in rehearsed] + ([pool] if pool else [])
    blank = [""] if pool else []
    return [
        ["seconds", *(f"{one.wall_s:.1f}" for one in taken)],
        ["images/s", *(f"{images / one.wall_s:.0f}" for one in taken)],
        ["CPU-s per 1,000", *(f"{1000 * one.cpu_s / images:.2f}" for one in taken)],
        ["GB written", *(f"{run.data_bytes / 1e9:.2f}" for run in rehearsed), *blank],
        ["GB of disk at the peak", *(f"{_peak_disk(run) / 1e9:.2f}" for run in rehearsed), *blank],
        ["MB, largest worker", *(f"{one.worker_bytes / 1e6:.0f}" for one in taken)],
        ["MB, launcher", *(f"{one.launcher_bytes / 1e6:.0f}" for one in taken)],
        ["seconds of the audit", *(f"{run.audited.wall_s:.1f}" for run in rehearsed), *blank],
        ["MB of the audit", *(f"{run.audited.launcher_bytes / 1e6:.0f}" for run in rehearsed), *blank],
        ["audit", *("no fault" for _ in rehearsed), *blank],
    ]


def _goals(run: Rehearsed, images: int, pool: Measured | None) -> list[Goal]:
    """Hold one conversion's figures against what the project wants of the whole set."""
    timed = measured.cores() == GOAL_CORES and images == 112_120
    goals = [Goal(f"{run.name}: seconds", run.converted.wall_s, GOAL_S if timed else None, at_most=True)]
    if pool:
        goals.append(Goal(f"{run.name}: rate over the bare pool's", pool.wall_s / run.converted.wall_s, 0.95))
    return [
        *goals,
        Goal(
            f"{run.name}: GB of disk beside the links", _peak_disk(run) / 1e9, DISK_BYTES / 1e9, at_most=True
        ),
        Goal(f"{run.name}: MB of the largest worker", run.converted.worker_bytes / 1e6, 700, at_most=True),
    ]


def _peak_disk(run: Rehearsed) -> float:
    return max(run.converted.gauges["output bytes"], run.data_bytes)


def _as_json(taken: Measured) -> dict[str, object]:
    return {name: value for name, value in vars(taken).items() if name != "output"}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Rehearse the conversion of the whole NIH set with linked images."
    )
    add = parser.add_argument
    add("--files", type=int, help="only the first so many names, for a quick trial")
    add("--build", default="build", help="takes linked tree, outputs, logs and results (%(default)s)")
    add(
        "--with_pool",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the bare pool on the same files (%(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
