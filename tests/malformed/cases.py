"""What a malformed input is: how it is spoilt, what reads it, and the line and exit code that come of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sound

from beam_pipelines import audit, convert, download
from engine import cli
from records.errors import CxrError

Attempt = Callable[[], int]


@dataclass(frozen=True)
class Ground:
    """Where a case writes, and the sound inputs that it may copy.

    Attributes:
        folder: empty, its own.
        lasting: folder with `source` and `shards`, and with `run` and `ensemble` once they are asked for.
    """

    folder: Path
    lasting: Path

    def source(self) -> Path:
        """Copy images, table and lists."""
        return self._copy("source")

    def data_set(self) -> Path:
        """Copy shards, indexes and manifest."""
        return self._copy("shards")

    def run(self) -> Path:
        """Copy a run directory."""
        if not (self.lasting / "run").exists():
            sound.write_run(self.lasting / "run", self.lasting / "shards")
        return self._copy("run")

    def ensemble(self) -> Path:
        """Copy the directory of an ensemble."""
        if not (self.lasting / "ensemble").exists():
            sound.write_ensemble(self.lasting / "ensemble", self.run())
        return self._copy("ensemble")

    def write(self, name: str, data: bytes | str) -> Path:
        """Write a file."""
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def _copy(self, name: str) -> Path:
        if not (self.folder / name).exists():
            shutil.copytree(self.lasting / name, self.folder / name)
        return self.folder / name


@dataclass(frozen=True)
class Case:
    """One way to be malformed.

    Attributes:
        kind: of input.
        what: is wrong with it.
        spoil: writes it and returns what must fail on it.
        reader: the command, or the function that all commands read such an input with.
        line: a regular expression that the line behind `error: ` begins with.
        code: the exit code.
    """

    kind: str
    what: str
    spoil: Callable[[Ground], Attempt]
    reader: str
    line: str
    code: int = 1


def converting(ground: Ground, **changes: object) -> Attempt:
    """Return a conversion of the ground's source with changed flags."""
    arguments = sound.conversion(ground.source(), ground.folder / "out", **changes)
    return lambda: convert.main(arguments)


def auditing(data_set: Path) -> Attempt:
    """Return the audit of a data set."""
    return lambda: audit.main([str(data_set)])


def downloading(ground: Ground, urls: Path) -> Attempt:
    """Return a download of what a list names."""
    return lambda: download.main(["--output", str(ground.folder / "out"), "--urls", str(urls)])


def engine(*arguments: object) -> Attempt:
    """Return a command of `engine`."""
    return lambda: cli.main([str(argument) for argument in arguments])


def reading(read: Callable[[], object]) -> Attempt:
    """Return a call that says its error as each command does."""

    def attempt() -> int:
        try:
            read()
        except CxrError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        return 0

    return attempt
