"""Starts the candidates of the input benchmark, chooses their settings, and measures them in turns.

`peers/input_serving.py` counts inside each candidate; the protocol stands at the head of `input_rate_peers`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from input_candidates import OURS, OWN, SHARDS, SOURCE, Candidate
from input_check import Expected
from input_data import InputData, made
from input_process import CandidateProcess

from records.errors import CxrError

HERE = Path(__file__).parent
TRIALS, TRIAL_S = 3, 0.7
WARM_UP_S = 0.7
STEP_S = 0.08
SAMPLED_BATCHES = 4
MOST_RESIDENT = 0.02
# Nothing that is measured may ask the network, or write into the user's home.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


@dataclass
class Figures:
    """What one candidate reached; a list has one number for each turn, if nothing else is said.

    Attributes:
        images_per_s: by wall clock.
        cpu_s_per_1000: of all its processes.
        others: share of the cores' time that went to other work meanwhile.
        utilisation: share of the time that an emulated accelerator's steps take.
        first_batch_s: from ready imports to the first batch; one number for each start.
        from_process_start_s: the same with imports.
        settings: chosen, NAME=VALUE.
        trials: images/s of each of the settings that were tried.
        peak_bytes: memory beside the page cache.
        versions: of its packages.
        not_measured: why not; empty if it was.
    """

    images_per_s: list[float] = field(default_factory=list)
    cpu_s_per_1000: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    utilisation: list[float] = field(default_factory=list)
    first_batch_s: list[float] = field(default_factory=list)
    from_process_start_s: list[float] = field(default_factory=list)
    settings: str = ""
    trials: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    versions: str = ""
    not_measured: str = ""


class Turns:
    """The measurement of one encoding, warm and cold."""

    def __init__(self, data: InputData, peers: Path, logs: Path, encoding: str) -> None:
        self._data, self._peers, self._logs, self._encoding = data, peers, logs, encoding
        self._running: list[tuple[Candidate, CandidateProcess]] = []
        self._stack = contextlib.ExitStack()
        self.warm: dict[str, Figures] = {}
        self.cold: dict[str, Figures] = {}

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start(self, candidates: Iterable[Candidate]) -> None:
        """Write each candidate's files, choose its settings, start it and check what it hands over."""
        expected = Expected(self._data.source, self._encoding)
        for candidate in candidates:
            figures = Figures()
            self.warm[candidate.name] = figures
            with self._noted(candidate, figures):
                self._write(candidate)
                _read_whole(self._folder(candidate))
                figures.settings = self._choose(candidate, figures)
                process = self._stack.enter_context(
                    contextlib.closing(self._started(candidate, figures.settings))
                )
                self._note_start(process, figures)
                self._check(candidate, process, expected)
                self._running.append((candidate, process))
                figures.versions = process.began["versions"]
            _say(f"{self._encoding}: {candidate.name}: {figures.not_measured or figures.settings or 'ready'}")

    def start_again(self, candidate: Candidate, times: int) -> None:
        """Start a candidate some more times, for its time to the first batch alone."""
        figures = self.warm[candidate.name]
        for _ in range(times):
            with contextlib.closing(self._started(candidate, figures.settings)) as process:
                self._note_start(process, figures)

    def turn(self, seconds: float, steps: int, *, backwards: bool) -> None:
        """Measure each candidate once."""
        for candidate, process in self._in_turn(backwards):
            figures = self.warm[candidate.name]
            with self._noted(candidate, figures):
                self._note_window(process.ask("rate", warm_up_s=WARM_UP_S, seconds=seconds), figures)
                figures.utilisation.append(process.ask("steps", steps=steps, step_s=STEP_S)["utilisation"])
                figures.peak_bytes = process.peak_bytes

    def cold_turn(self, *, backwards: bool) -> None:
        """Measure each candidate for as many batches as an epoch has, on files that just left the cache."""
        batches = self._data.records // 64
        for candidate, process in self._in_turn(backwards):
            if not candidate.cold:
                continue
            figures = self.cold.setdefault(candidate.name, Figures())
            if figures.not_measured:
                continue
            with self._noted(candidate, figures):
                self._release(candidate)
                window = process.ask("cold", folder=str(self._folder(candidate)), batches=batches)
                if window["resident"] > MOST_RESIDENT:
                    raise CxrError("its workers have the files mapped, so they stay in memory")
                self._note_window(window, figures)

    def _release(self, candidate: Candidate) -> None:
        """Have the other candidates that read the same files let go of them."""
        folder = self._folder(candidate)
        for other, process in self._running:
            if (
                other != candidate
                and self._folder(other) == folder
                and not self.warm[other.name].not_measured
            ):
                process.ask("release", folder=str(folder))

    def _in_turn(self, backwards: bool) -> Sequence[tuple[Candidate, CandidateProcess]]:
        # Whoever goes first gains or loses by it in turn.
        running = [item for item in self._running if not self.warm[item[0].name].not_measured]
        return running[::-1] if backwards else running

    @contextlib.contextmanager
    def _noted(self, candidate: Candidate, figures: Figures) -> Iterator[None]:
        """Note why a peer could not be measured, and go on; our own failure is raised."""
        try:
            yield
        except CxrError as error:
            if candidate.name == OURS:
                raise
            figures.not_measured = str(error)

    def _choose(self, candidate: Candidate, figures: Figures) -> str:
        """Return the settings with the highest rate in any of a few short windows."""
        choices = candidate.choices[self._encoding]
        if len(choices) == 1:
            return choices[0]
        for settings in choices:
            with contextlib.closing(self._started(candidate, settings)) as process:
                windows = [process.ask("rate", warm_up_s=WARM_UP_S, seconds=TRIAL_S) for _ in range(TRIALS)]
            figures.trials[settings] = max(window["images"] / window["wall_s"] for window in windows)
        return max(figures.trials, key=figures.trials.__getitem__)

    def _started(self, candidate: Candidate, settings: str) -> CandidateProcess:
        log = self._logs / f"{candidate.program}-{self._encoding}.log"
        return CandidateProcess(
            self._command("serve", candidate, self._folder(candidate), settings), self._environment(), log
        )

    def _write(self, candidate: Candidate) -> None:
        """Write a candidate's own files, unless an earlier run did."""
        if not self._python(candidate).is_file():
            raise CxrError(f"not installed: no {self._python(candidate)}")
        if candidate.reads != OWN:
            return

        def write(folder: Path) -> None:
            command = self._command("write", candidate, folder, "")
            environment = {**os.environ, **self._environment()}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["nothing"]
                raise CxrError(f"its files could not be written; it last said: {lines[-1]}")

        made(self._folder(candidate), write)

    def _check(self, candidate: Candidate, process: CandidateProcess, expected: Expected) -> None:
        sample = self._logs / "sample.npz"
        process.ask("sample", batches=SAMPLED_BATCHES, file=str(sample))
        expected.check(sample, exact=candidate.exact, shuffled=candidate.shuffled)
        sample.unlink()

    def _command(self, task: str, candidate: Candidate, folder: Path, settings: str) -> list[str]:
        program = HERE / "peers" / f"input_{candidate.program}.py"
        command = [self._python(candidate), program, task, self._data.source, folder, self._encoding]
        return [*map(str, command), *settings.split()]

    def _environment(self) -> dict[str, str]:
        home = self._logs.parent / "home"
        path = f"{HERE.parents[1]}{os.pathsep}{HERE / 'peers'}"
        return {**QUIET, "PYTHONPATH": path, "HF_HOME": str(home), "LITDATA_CACHE_DIR": str(home)}

    def _folder(self, candidate: Candidate) -> Path:
        if candidate.reads == SHARDS:
            return self._data.shards[self._encoding]
        return (
            self._data.source
            if candidate.reads == SOURCE
            else self._data.folder(candidate.program, self._encoding)
        )

    def _python(self, candidate: Candidate) -> Path:
        if candidate.environment is None:
            return Path(sys.executable)
        return self._peers / candidate.environment / "bin" / "python"

    @staticmethod
    def _note_start(process: CandidateProcess, figures: Figures) -> None:
        figures.first_batch_s.append(process.began["first_batch_s"])
        figures.from_process_start_s.append(process.began["from_process_start_s"])

    @staticmethod
    def _note_window(window: dict[str, float], figures: Figures) -> None:
        figures.images_per_s.append(window["images"] / window["wall_s"])
        figures.cpu_s_per_1000.append(1000 * window["cpu_s"] / window["images"])
        figures.others.append(window["others"])


def _read_whole(folder: Path) -> None:
    """Bring the files of a folder into the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
