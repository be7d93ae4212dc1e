"""How fast the conversion is: beside the bare work, beside the usual scripts and beside peers, in one run.

    python tests/benchmarks/convert_rate.py --files 20000      (`make bench-convert`)

Protocol. The files are names of the NIH's table, hard-linked to the images in NIH_SAMPLE_DIR and read once
before anything is measured, so that all find them in memory. Every candidate is a command of its own that
starts from nothing and ends with its output complete on the same disk; the output is removed before the next
one starts. Each gets the same files, makes 320 x 320 x 1 uint8 and 14 labels of each (what differs, the table
says), and uses as many processes as this program may use cores. Seconds run from the command's start to its
end: interpreters, imports, pools and merged indexes are included for all alike. CPU seconds are those of all
its processes. The bare pool and our command take turns `--repeats` times and medians are given; the others
run once each, the single-process scripts and a peer that holds all pixels in memory on fewer files, since
their rate is what is asked. Every candidate must say that it wrote as many images as it got.

Peers run in environments of their own (`make bench-convert` makes them below .venv-peers), each as its
documentation has it, and, where it takes the user's own function, also with our decoder. One that isn't
installed is listed as such.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import conversion
import linked_tree
import measured
from measured import Measured
from rate_report import Figures, Goal, write_report

from records import manifest
from records.errors import CxrError
from records.table import read_table

HERE = Path(__file__).parent
POOL, OURS = "bare pool", "this conversion"


@dataclass(frozen=True)
class Candidate:
    """One command to measure.

    Attributes:
        name: as the table shows it.
        environment: folder below .venv-peers, or None for this program's own interpreter.
        program: path below tests/benchmarks.
        decode: how the program is to decode, or None where it can't be told.
        writes: what it writes of each image.
        documented: True for a peer as its documentation has it.
        package: whose version the table shows.
        most_files: it gets no more than these, None for as many as all.
    """

    name: str
    environment: str | None
    program: str
    decode: str | None
    writes: str
    documented: bool = False
    package: str | None = None
    most_files: int | None = None


BARE_POOL = Candidate(POOL, None, "bare_pool.py", None, "raw pixels, no labels")
SCRIPTS = (
    Candidate("one process, Pillow", None, "peers/one_process.py", "pillow", "TFRecord, raw"),
    Candidate("one process, TensorFlow", None, "peers/one_process.py", "tensorflow", "TFRecord, raw"),
)
PEERS = (
    Candidate(
        "LitData optimize, Pillow",
        "torch_writers",
        "peers/litdata_optimize.py",
        "pillow",
        "raw",
        True,
        "litdata",
    ),
    Candidate(
        "MDSWriter in a pool, Pillow",
        "torch_writers",
        "peers/mds_pool.py",
        "pillow",
        "raw",
        True,
        "mosaicml-streaming",
    ),
    Candidate(
        "img2dataset",
        "img2dataset",
        "peers/img2dataset_local.py",
        None,
        "JPEG 95 in tar",
        True,
        "img2dataset",
    ),
    Candidate(
        "TFDS Beam builder",
        "tfds",
        "peers/tfds_beam.py",
        None,
        "TFRecord, raw",
        True,
        "tensorflow-datasets",
        # Its local run holds all pixels in memory, several times over: 3.7 GB for these.
        most_files=5_000,
    ),
    Candidate("LitData optimize, our decoder", "torch_writers", "peers/litdata_optimize.py", "ours", "raw"),
    Candidate("MDSWriter in a pool, our decoder", "torch_writers", "peers/mds_pool.py", "ours", "raw"),
)


class Bench:
    """The files, the folders and the runs of one benchmark."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags = flags
        self.sample = linked_tree.sample_folder()
        self.processes = measured.cores()
        self.build = Path(flags.build).resolve()
        self.runs: dict[str, list[Measured]] = {}
        self.not_measured: dict[str, str] = {}
        self.files: dict[str, int] = {}
        self.shard_records = 0
        self.tree = self._tree(flags.files)
        table = read_table(str(self.sample / linked_tree.TABLE))
        self._labels = dict(zip(table.image_ids.tolist(), table.labels.tolist(), strict=True))
        linked_tree.warm(self.build / "linked" / "originals")

    def convert(self, files: int, name: str = OURS) -> None:
        """Measure our whole command."""
        output = self._clear()
        command = conversion.command(
            self.sample, self._tree(files), output, ["--split", "official", "--allow_missing_images"]
        )
        taken = measured.run(command, self._log(name), events=conversion.events(output))
        splits = manifest.load(str(output)).splits.values()
        self.shard_records = max(shard.records for split in splits for shard in split.shards)
        self._add(name, files, sum(split.images for split in splits), taken)

    def run(self, candidate: Candidate, files: int) -> None:
        """Measure another candidate, unless it isn't installed."""
        python = self._python(candidate.environment)
        if not python.is_file():
            self.not_measured[candidate.name] = f"not installed: no {python}"
            return
        output, work = self._clear(), self._work(files)
        processes = 1 if candidate in SCRIPTS else self.processes
        command = [str(python), str(HERE / candidate.program), str(work), str(output), str(processes)]
        path = f"{HERE.parents[1]}:{HERE / 'peers'}"
        command += [candidate.decode] if candidate.decode else []
        try:
            taken = measured.run(command, self._log(candidate.name), environment={"PYTHONPATH": path})
        except CxrError as error:
            if candidate is BARE_POOL:
                raise
            self.not_measured[candidate.name] = f"failed: {error}"
            return
        self._add(
            candidate.name, files, int(re.findall(r"^images (\d+)$", taken.output, re.MULTILINE)[-1]), taken
        )

    def figures(self, candidate_name: str) -> Figures | None:
        """Return the medians of a candidate's runs, or None if it has none."""
        runs = self.runs.get(candidate_name)
        if not runs:
            return None
        files = self.files[candidate_name]

        def median(of: Callable[[Measured], float]) -> float:
            return statistics.median(map(of, runs))

        return Figures(
            files=files,
            runs=len(runs),
            seconds=median(lambda run: run.wall_s),
            images_per_s=median(lambda run: files / run.wall_s),
            lowest_images_per_s=min(files / run.wall_s for run in runs),
            highest_images_per_s=max(files / run.wall_s for run in runs),
            cpu_s_per_1000=median(lambda run: 1000 * run.cpu_s / files),
            worker_bytes=max(run.worker_bytes for run in runs),
            launcher_bytes=max(run.launcher_bytes for run in runs),
            events_s={name: median(lambda run, name=name: run.events_s[name]) for name in runs[0].events_s},
        )

    def version(self, candidate: Candidate) -> str:
        """Return the version of a peer's package."""
        if not candidate.package or candidate.name not in self.runs:
            return ""
        code = f"from importlib.metadata import version; print(version({candidate.package!r}))"
        return measured.output_of([str(self._python(candidate.environment)), "-c", code])

    def clear_away(self) -> None:
        """Remove the last output and the lists; the linked tree stays for the next run."""
        self._clear()
        for work in self.build.glob("bench-convert/work-*.json"):
            work.unlink()

    def _add(self, name: str, files: int, made: int, taken: Measured) -> None:
        if made != files:
            raise CxrError(f"{name}: wrote {made:,} images of {files:,}; see {self._log(name)}")
        self.runs.setdefault(name, []).append(taken)
        self.files[name] = files
        print(
            f"{name}: {files:,} files, {taken.wall_s:.1f} s, {files / taken.wall_s:.0f} images/s",
            file=sys.stderr,
        )

    def _tree(self, files: int) -> Path:
        names = linked_tree.image_names(self.sample, files)
        return linked_tree.build(self.sample, names, self.build / "linked")

    def _work(self, files: int) -> Path:
        """Return the list of paths and labels that is handed to a candidate."""
        work = self.build / "bench-convert" / f"work-{files}.json"
        if not work.is_file():
            conversion.write_work(work, self._tree(files), self._labels)
        return work

    def _clear(self) -> Path:
        output = self.build / "bench-convert" / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        return output

    def _python(self, environment: str | None) -> Path:
        return (
            Path(self.flags.peers) / environment / "bin" / "python" if environment else Path(sys.executable)
        )

    def _log(self, name: str) -> Path:
        return self.build / "bench-convert" / "logs" / f"{re.sub('[^a-zA-Z0-9]+', '-', name)}.log"


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
    bench = Bench(flags)
    few = min(flags.few_files, flags.files)
    bench.convert(few, _few_name(few))
    for turn in range(flags.repeats):
        # Whoever goes first gains or loses by it in turn.
        for name in (POOL, OURS) if turn % 2 == 0 else (OURS, POOL):
            if name == POOL:
                bench.run(BARE_POOL, flags.files)
            else:
                bench.convert(flags.files)
    for script in SCRIPTS:
        bench.run(script, few)
    for peer in PEERS:
        bench.run(peer, min(flags.files, peer.most_files or flags.files))
    bench.clear_away()
    rows = [BARE_POOL, Candidate(OURS, None, "", None, "TFRecord, raw"), *SCRIPTS, *PEERS]
    write_report(
        bench.build / "bench-convert",
        title=f"{flags.files:,} files, {bench.processes} processes",
        facts=[
            measured.machine(),
            f"commit {measured.commit(HERE.parents[1])}",
            f"Python {sys.version.split()[0]}",
        ],
        rows=[
            (
                " ".join([row.name, bench.version(row)]).strip(),
                row.writes,
                bench.figures(row.name),
                bench.not_measured.get(row.name, ""),
            )
            for row in rows
        ],
        goals=_goals(bench, few),
    )


def _few_name(files: int) -> str:
    return f"{OURS}, {files:,} files"


def _goals(bench: Bench, few: int) -> list[Goal]:
    """Hold the figures against what the project wants of them."""
    ours, pool, small = (bench.figures(name) for name in (OURS, POOL, _few_name(few)))
    if ours is None or pool is None or small is None:
        raise CxrError("the bare pool or the conversion was not measured")
    goals = [
        Goal("rate over the bare pool's", ours.images_per_s / pool.images_per_s, 0.90),
        Goal("CPU-s over the bare pool's", ours.cpu_s_per_1000 / pool.cpu_s_per_1000),
    ]
    for label, documented in (("best peer's, as documented", True), ("best peer's, with our decoder", False)):
        rates = [bench.figures(peer.name) for peer in PEERS if peer.documented is documented]
        best = max((rate.images_per_s for rate in rates if rate), default=None)
        if best:
            goals.append(
                Goal(f"rate over the {label}", ours.images_per_s / best, 1.8 if documented else None)
            )
    # One worker's share of the steady rate: what the first shard's own images take.
    shard_s = bench.shard_records * bench.processes / pool.images_per_s
    begun, published = (ours.events_s[name] for name in (conversion.SHARD_OPENED, conversion.SHARD_PUBLISHED))
    goals += [
        Goal("s to the first shard begun", begun, 6.0, at_most=True),
        Goal("s to the first shard published", published, 6.0, at_most=True),
        Goal(
            f"the same less {shard_s:.1f} s for its own images at the bare pool's rate", published - shard_s
        ),
        Goal("MB of the largest worker", ours.worker_bytes / 1e6, 700, at_most=True),
        Goal(f"MB of the largest worker, {few:,} files", small.worker_bytes / 1e6, 700, at_most=True),
        Goal("MB of the launcher", ours.launcher_bytes / 1e6),
        Goal(f"MB of the launcher, {few:,} files", small.launcher_bytes / 1e6),
    ]
    return goals


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure the conversion beside the bare work and beside peers."
    )
    add = parser.add_argument
    add("--files", type=int, default=20_000, help="PNGs for all but the single-process scripts (%(default)s)")
    add(
        "--few_files",
        type=int,
        default=2_000,
        help="PNGs for those, and for the memory's growth (%(default)s)",
    )
    add("--repeats", type=int, default=3, help="of the bare pool and of our command (%(default)s)")
    add("--build", default="build", help="takes linked tree, outputs, logs and results (%(default)s)")
    add("--peers", default=".venv-peers", help="folder of the peers' environments (%(default)s)")
    flags = parser.parse_args()
    if flags.repeats < 1 or flags.few_files < 1:
        parser.error("--repeats and --few_files must be 1 or more")
    return flags


if __name__ == "__main__":
    sys.exit(main())
