"""How fast the input streams from object storage: beside plain parallel GETs and beside peers, in one run.

    python tests/benchmarks/storage_rate.py --minio PROGRAM      (`make bench-input-storage`)

Protocol. A MinIO server holds a data set that `beam_pipelines.convert` made of `--files` names of the NIH's
table, linked to real images (raw, 256 records a shard), and the same training pictures in each peer's own
format. The server runs in a network namespace of its own at the end of a virtual Ethernet link
(`storage_network`); in turn each round trip there takes 0, 20 and 100 ms longer, TCP's own start included.
The link's bandwidth is not limited unless `--gbit` says so: the cores and, with latency, TCP's windows are
the limit. Congestion control and buffers are this machine's. The server finds all objects in the page cache.
Clients run on `--cores` and on no others, the server and what delays packets on those that are left.

Every run is a process of its own that begins with an empty cache folder (on disk, below `--build`; the page
cache takes what is written) and without a connection, and goes through the training split once. Its time runs
from the call for the first batch to the end of the last one: imports and the opening of the data set
(manifest and index; told apart in results.json) don't count, whatever is started or connected for the first
batch does. Candidates take turns, `--repeats` times at each latency, and each goes first in turn. The GETs'
rate and this project's are of the shards' bytes, a peer's of as many bytes an image. Batches are of `--batch`
shuffled images and are dropped at once.

Then the input is read at the pace of an emulated accelerator, `--step_ms` a batch as MLPerf Storage does it:
utilisation is the share of an epoch, the wait for its first batch included, in which the step has work. The
requests of this project's second epoch are counted by the server. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import measured
import storage_data
import storage_network
import storage_report
import storage_server
from storage_consumer import Job, Taken

from records.errors import CxrError, UsageError

HERE = Path(__file__).parent
# A run that takes longer has hung.
LIMIT_S = 600.0
GETS, OURS = "parallel GETs, nothing else", "this project's input"


@dataclass(frozen=True)
class Candidate:
    """One way to read.

    Attributes:
        name: as the table shows it.
        environment: folder below .venv-peers, or None for this program's own interpreter.
        program: path below tests/benchmarks.
        source: prefix in the bucket.
        package: whose version the table shows.
    """

    name: str
    environment: str | None
    program: str
    source: str
    package: str | None = None


OWN = (
    Candidate(GETS, None, "storage_gets.py", "records"),
    Candidate(OURS, None, "storage_stream.py", "records"),
)
PEERS = (
    Candidate("LitData", "torch_writers", "peers/storage_litdata.py", "litdata", "litdata"),
    Candidate("MosaicML Streaming", "torch_writers", "peers/storage_mds.py", "mds", "mosaicml-streaming"),
    Candidate("WebDataset", "torch_writers", "peers/storage_webdataset.py", "webdataset", "webdataset"),
)


@dataclass
class Runs:
    """What one candidate took at one latency.

    Attributes:
        epochs: one a run, as fast as batches came.
        paced: the epochs of each run at the emulated step's pace.
    """

    epochs: list[Taken]
    paced: list[list[Taken]]


class Bench:
    """The folders, the server and the runs of one benchmark."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags = flags
        self.build = Path(flags.build).resolve() / "bench-storage"
        self.cores, self.server_cores = _share_cores(flags.cores)
        self.runs: dict[tuple[str, float], Runs] = {}
        self.round_trips_ms: dict[float, float] = {}
        self.not_measured: dict[str, str] = {}
        self.failures: dict[str, list[str]] = {}
        self.data = storage_data.prepare(flags.data, flags.files, Path(flags.build).resolve())
        self.candidates = [*OWN, *(peer for peer in PEERS if flags.with_peers)]

    def measure(self) -> None:
        """Run everything."""
        shutil.rmtree(self.build / "minio", ignore_errors=True)
        with storage_network.Link(self.server_cores) as link:
            try:
                with storage_server.Server(
                    link,
                    self.flags.minio,
                    self.build / "minio",
                    self.server_cores,
                    self.build / "logs" / "minio.log",
                ) as server:
                    self._fill(server)
                    if self.flags.gbit:
                        link.limit(self.flags.gbit)
                    for added_ms in self.flags.latencies:
                        link.delay(added_ms)
                        link.round_trip_ms(storage_server.PORT)  # the first ones wait for address resolution
                        before_ms = link.round_trip_ms(storage_server.PORT)
                        self._at(added_ms)
                        after_ms = link.round_trip_ms(storage_server.PORT)
                        self.round_trips_ms[added_ms] = max(before_ms, after_ms)
            finally:
                shutil.rmtree(self.build / "minio", ignore_errors=True)

    def version(self, candidate: Candidate) -> str:
        """Return the version of a peer's package."""
        if not candidate.package:
            return ""
        code = f"from importlib.metadata import version; print(version({candidate.package!r}))"
        return measured.output_of([str(self._python(candidate)), "-c", code])

    def _fill(self, server: storage_server.Server) -> None:
        server.upload(self.data.folder, "records")
        server.allow_everybody_to_read()
        for peer in self.candidates[len(OWN) :]:
            if not self._python(peer).is_file():
                self.not_measured[peer.name] = f"not installed: no {self._python(peer)}"
                continue
            folder = self.build / "formats" / peer.source
            try:
                if not (folder / storage_data.DONE).is_file():
                    shutil.rmtree(folder, ignore_errors=True)
                    pixels, labels = storage_data.as_arrays(self.data, self.build / "arrays")
                    self._run(peer, ["write", str(pixels), str(labels), str(folder)])
                    (folder / storage_data.DONE).touch()
                server.upload(folder, peer.source)
            except CxrError as error:
                self.not_measured[peer.name] = f"failed: {error}"
        shutil.rmtree(self.build / "arrays", ignore_errors=True)

    def _at(self, added_ms: float) -> None:
        """Take all measures at one latency."""
        for repeat in range(self.flags.repeats):
            turn = repeat % len(self.candidates)
            for candidate in self.candidates[turn:] + self.candidates[:turn]:
                for taken in self._read(candidate, added_ms):
                    self._of(candidate, added_ms).epochs.append(taken)
        for repeat in range(self.flags.paced_repeats):
            for candidate in self.candidates[1 : None if repeat == 0 else len(OWN)]:  # peers once
                epochs = 2 if candidate.name == OURS else 1
                taken = self._read(candidate, added_ms, self.flags.step_ms, epochs)
                if taken:
                    self._of(candidate, added_ms).paced.append(taken)

    def _of(self, candidate: Candidate, added_ms: float) -> Runs:
        return self.runs.setdefault((candidate.name, added_ms), Runs([], []))

    def _read(
        self, candidate: Candidate, added_ms: float, step_ms: float = 0.0, epochs: int = 1
    ) -> list[Taken]:
        """Go through the split in a process of its own; return what each epoch took, nothing if it failed."""
        if candidate.name in self.not_measured:
            return []
        folder = self.build / "cache"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        job = Job(
            source=f"s3://{storage_server.BUCKET}/{candidate.source}",
            folder=str(folder),
            images=self.data.images,
            batch=self.flags.batch,
            block_shards=self.flags.block_shards,
            step_ms=step_ms,
            epochs=epochs,
        )
        try:
            found = [Taken(**taken) for taken in json.loads(self._run(candidate, [job.to_json()]))]
        except CxrError as error:
            if candidate in OWN:
                raise
            print(f"+{added_ms:g} ms, {candidate.name}: failed: {error}", file=sys.stderr)
            self.failures.setdefault(candidate.name, []).append(f"at +{added_ms:g} ms: {error}")
            return []
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._check(candidate, found)
        took = ", ".join(f"{taken.images:,} images in {taken.wall_s:.2f} s" for taken in found)
        print(f"+{added_ms:g} ms, {candidate.name}: {took}", file=sys.stderr)
        return found

    def _check(self, candidate: Candidate, found: list[Taken]) -> None:
        """Hold what came against what is there, less a partial batch; set the bytes that it stands for."""
        for taken in found:
            if candidate.name == GETS and taken.size_bytes == self.data.size_bytes:
                taken.images = self.data.images
            if not 0 <= self.data.images - taken.images < self.flags.batch:
                raise CxrError(
                    f"{candidate.name}: {taken.images:,} of {self.data.images:,} images came, "
                    f"{taken.size_bytes:,} bytes; see {self._log(candidate)}"
                )
            # Shards come whole, also where the last images of an epoch make no batch.
            share = 1.0 if candidate in OWN else taken.images / self.data.images
            taken.size_bytes = round(share * self.data.size_bytes)

    def _run(self, candidate: Candidate, arguments: list[str]) -> str:
        """Run a candidate's program on the client's cores; return the last line that it printed."""
        log = self._log(candidate)
        log.parent.mkdir(parents=True, exist_ok=True)
        program = [str(self._python(candidate)), str(HERE / candidate.program), *arguments]
        try:
            with log.open("w") as errors:
                done = subprocess.run(
                    ["taskset", "-c", ",".join(map(str, self.cores)), *program],
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    timeout=LIMIT_S,
                    check=False,
                    env={
                        **os.environ,
                        **storage_server.ENVIRONMENT,
                        "PYTHONPATH": f"{HERE.parents[1]}:{HERE}",
                        "TF_CPP_MIN_LOG_LEVEL": "3",
                    },
                )
        except subprocess.TimeoutExpired as error:
            raise CxrError(f"{candidate.name}: still running after {LIMIT_S:.0f} s; see {log}") from error
        if done.returncode:
            said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
            raise CxrError(f"exit code {done.returncode}, it last said: {said[-1]}; see {log}")
        return next((line for line in done.stdout.splitlines() if line.startswith("[{")), "[]")

    def _python(self, candidate: Candidate) -> Path:
        if candidate.environment is None:
            return Path(sys.executable)
        return Path(self.flags.peers) / candidate.environment / "bin" / "python"

    def _log(self, candidate: Candidate) -> Path:
        return self.build / "logs" / f"{re.sub('[^a-zA-Z0-9]+', '-', candidate.name)}.log"


def main() -> int:
    """Run the benchmark; return the exit code."""
    flags = _parse()
    try:
        storage_network.move_into_own_namespace()
        bench = Bench(flags)
        bench.measure()
        _report(bench)
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _report(bench: Bench) -> None:
    """Print the figures and write them down."""
    rows, ours = [], []
    for added_ms in bench.flags.latencies:
        limit = statistics.median(map(storage_report.mb_per_s, bench.runs[GETS, added_ms].epochs))
        for candidate in bench.candidates:
            runs = bench.runs.get((candidate.name, added_ms))
            if runs is None or not runs.epochs:
                continue
            way = " ".join([candidate.name, bench.version(candidate)]).strip()
            rows.append(storage_report.figures(added_ms, way, runs.epochs, runs.paced, limit))
            if candidate.name == OURS:
                ours.append(rows[-1])
    storage_report.write(
        bench.build,
        title=f"{bench.data.images:,} images, {bench.data.size_bytes / 1e6:,.0f} MB, from object storage",
        facts=_facts(bench),
        rows=rows,
        ours=ours,
        notes=_notes(bench),
    )


def _notes(bench: Bench) -> list[str]:
    """Return what has to be said of peers without figures, or with fewer runs than the others."""
    notes = [f"{name}: not measured: {reason}" for name, reason in bench.not_measured.items()]
    for name, reasons in bench.failures.items():
        notes.append(f"{name}: {len(reasons)} runs failed and were left out, the first one {reasons[0]}")
    return notes


def _facts(bench: Bench) -> list[str]:
    """Return what the figures depend on beside the candidates."""
    trips = (f"{trip_ms:.1f} ms at +{added_ms:g}" for added_ms, trip_ms in bench.round_trips_ms.items())
    tcp = Path("/proc/sys/net/ipv4")
    control = (tcp / "tcp_congestion_control").read_text().strip()
    window_bytes = (tcp / "tcp_wmem").read_text().split()[-1]
    return [
        measured.machine(),
        f"client on cores {bench.cores}, server on {bench.server_cores}",
        f"round trips of {', '.join(trips)}",
        f"link of {bench.flags.gbit:g} Gbit/s" if bench.flags.gbit else "bandwidth not limited",
        f"TCP {control}, send buffer up to {int(window_bytes) / 1e6:.1f} MB a connection",
        f"blocks of {bench.flags.block_shards} shards, batches of {bench.flags.batch}",
        f"{bench.flags.repeats} runs, {bench.flags.paced_repeats} at {bench.flags.step_ms:g} ms a step",
        f"commit {measured.commit(HERE.parents[1])}",
        f"Python {sys.version.split()[0]}",
    ]


def _share_cores(named: str) -> tuple[list[int], list[int]]:
    """Return the client's cores and the server's: those that are left, or the same where none are."""
    usable = sorted(os.sched_getaffinity(0))
    try:
        client = [int(core) for core in named.split(",")] if named else usable[:2]
    except ValueError as error:
        raise UsageError(f"--cores={named}; expected numbers such as 0,1") from error
    if not set(client) <= set(usable):
        raise UsageError(f"--cores={named}; this process may use {usable}")
    return client, [core for core in usable if core not in client] or client


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure streaming from object storage with added latency.")
    add = parser.add_argument
    add("--minio", default="minio", help="MinIO's program (%(default)s)")
    add("--data", help="a data set of raw pictures that is there, in place of one made of --files")
    add("--files", type=int, default=20_000, help="real PNGs to make one of (%(default)s)")
    add("--latencies", type=_latencies, default=[0.0, 20.0, 100.0], help="added, in ms (0,20,100)")
    add("--gbit", type=float, default=0, help="of the link in a second; 0: not limited (%(default)s)")
    add("--repeats", type=int, default=5, help="of each candidate at each latency (%(default)s)")
    add("--paced_repeats", type=int, default=3, help="at the emulated step's pace (%(default)s)")
    add("--step_ms", type=float, default=80.0, help="the emulated step (%(default)s)")
    add("--batch", type=int, default=64, help="(%(default)s)")
    add("--block_shards", type=int, default=4, help="shards that are shuffled together (%(default)s)")
    add("--cores", default="", help="of the client, such as 0,1; the others are the server's")
    add("--build", default="build", help="takes the data, the server's folder and the results (%(default)s)")
    add("--peers", default=".venv-peers", help="folder of the peers' environments (%(default)s)")
    add("--with_peers", action=argparse.BooleanOptionalAction, default=True, help="measure peers, too")
    flags = parser.parse_args()
    if min(flags.repeats, flags.batch, flags.block_shards, flags.files) < 1 or flags.paced_repeats < 1:
        parser.error("--repeats, --paced_repeats, --batch, --block_shards and --files must be 1 or more")
    if shutil.which(flags.minio) is None:
        parser.error(f"no {flags.minio}; name MinIO's program with --minio")
    return flags


def _latencies(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
