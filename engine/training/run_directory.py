"""A run directory: what a run was asked for, how far it came, and where its parts lie.

`run.json` says `unfinished` from the first moment until the run ends, so that a run that was killed is
recognised by what it left. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from engine import config as configs
from records import json_text, manifest, storage
from records.errors import RunError, without_credentials

RUN_NAME = "run.json"
CONFIG_NAME = "config.yaml"
HISTORY_NAME = "history.csv"
CHECKPOINT_NAME = "best.keras"
CHECKPOINTS_NAME = "checkpoints"
FINDINGS_NAME = "findings.csv"
STEPS_NAME = "steps.csv"
EVENTS_NAME = "tensorboard"
LOCK_NAME = ".lock"
REPLACED_NAME = ".replaced"
DISCARDED_NAME = ".discarded"

UNFINISHED, FINISHED, INTERRUPTED, FAILED = "unfinished", "finished", "interrupted", "failed"

_KEYS = {"state", "manifest"}
# Of `manifest`: what a data set is found and recognised by.
_NAMING = ("location", "sha256")
_PACKAGES = ("cxr-engine", "tensorflow", "tensorflow-cpu", "keras", "numpy")


class RunDirectory:
    """The folder of one run; every file in it is replaced whole."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
        # The thread that copies a run notes how that went, while training notes how far it came.
        self._changing = threading.Lock()

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.path / CONFIG_NAME

    @property
    def history_path(self) -> Path:
        """The CSV log, one row an epoch."""
        return self.path / HISTORY_NAME

    @property
    def findings_path(self) -> Path:
        """The validation of each finding in each epoch."""
        return self.path / FINDINGS_NAME

    @property
    def steps_path(self) -> Path:
        """The loss of each step."""
        return self.path / STEPS_NAME

    @property
    def checkpoints_path(self) -> Path:
        """The folder of what the run can go on from."""
        return self.path / CHECKPOINTS_NAME

    @property
    def checkpoint_path(self) -> Path:
        """The best model so far."""
        return self.path / CHECKPOINT_NAME

    def evaluation_path(self, split: str) -> Path:
        """The folder of one split's predictions and metrics."""
        return self.path / "evaluation" / split

    def read(self) -> dict[str, Any]:
        """Return what `run.json` says.

        Raises:
            RunError: there is no run here.
        """
        path = self.path / RUN_NAME
        if not path.is_file():
            raise RunError(
                f"{self.path}: no run here ({RUN_NAME} is missing); expected a folder made by `engine train`"
            )
        try:
            known = json_text.parse(path.read_bytes())
            missing = _KEYS - known.keys()
        except (ValueError, AttributeError) as error:
            raise RunError(f"{path}: not the note of a run; remove the folder and train again") from error
        if missing:
            raise RunError(f"{path}: no `{min(missing)}` in it; remove the folder and train again")
        told = known["manifest"]
        if not isinstance(told, dict) or not all(isinstance(told.get(key), str) for key in _NAMING):
            raise RunError(f"{path}: `manifest` names no data set; remove the folder and train again")
        return known

    def update(self, **values: Any) -> None:
        """Change some values of `run.json`.

        Raises:
            RunError: the folder was removed while the run was going on.
        """
        with self._changing:
            storage.write_bytes(str(self.path / RUN_NAME), _json(self.read() | values))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder to this process while the block runs; the kernel frees it when a process is killed.

        Raises:
            RunError: another process is training into it.
        """
        self._is_new = not self.path.exists()
        storage.make_folder(str(self.path))
        try:
            with (self.path / LOCK_NAME).open("w") as file:
                if not _take(file):
                    raise RunError(
                        f"{self.path}: another process is training into it; choose another --run-dir"
                    )
                self._recover()
                yield
        finally:
            self.remove_if_unused()

    def remove_if_unused(self) -> None:
        """Remove the folder if `locked` made it and nothing else stands in it."""
        if (
            self._is_new
            and self.path.is_dir()
            and {entry.name for entry in self.path.iterdir()} <= {LOCK_NAME}
        ):
            shutil.rmtree(self.path)

    def is_running(self) -> bool:
        """Tell whether a process is training into the folder now."""
        try:
            with (self.path / LOCK_NAME).open("r+") as file:
                return not _take(file)
        except OSError:
            return False

    def entries(self) -> list[Path]:
        """Return what stands in the folder, but for the lock and a run that is replaced."""
        if not self.path.is_dir():
            return []
        others = {LOCK_NAME, REPLACED_NAME, DISCARDED_NAME}
        return [entry for entry in self.path.iterdir() if entry.name not in others]

    def start(self, config: configs.Config, data: manifest.Manifest) -> None:
        """Begin a new run; an earlier one is set aside until `commit`, or put back by `roll_back`.

        Raises:
            RunError: the folder holds something else than a run.
        """
        if self.entries():
            self.read()
            self._set_aside()
        storage.write_bytes(str(self.config_path), config.to_yaml().encode())
        values = {
            "state": UNFINISHED,
            "command": command(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "process_id": os.getpid(),
            "epochs": config.train.epochs,
            "epochs_done": 0,
            "manifest": {"location": absolute(data.location), "sha256": data.sha256, "image": data.image},
            "git_commit": git_commit(),
            "versions": versions(),
        }
        storage.write_bytes(str(self.path / RUN_NAME), _json(values))

    def resume(self, config: configs.Config) -> None:
        """Begin to go on with the run that stands here, perhaps to more epochs or on another machine."""
        storage.write_bytes(str(self.config_path), config.to_yaml().encode())
        known = self.read()
        resumed = [*known.get("resumed", []), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())]
        self.update(
            state=UNFINISHED,
            epochs=config.train.epochs,
            process_id=os.getpid(),
            resumed=resumed,
            versions=versions(),
        )

    def commit(self) -> None:
        """Let go of the run that this one replaces, but for its record of who has read the test split."""
        aside = self.path / REPLACED_NAME
        if not aside.is_dir():
            return
        self._keep_test_reads(aside)
        # In one step, before which `_recover` puts all of it back, and after which none.
        self._discard()
        aside.rename(self.path / DISCARDED_NAME)
        self._discard()

    def _keep_test_reads(self, aside: Path) -> None:
        kept = aside / "evaluation" / "test_reads.json"
        if kept.is_file():
            target = self.path / "evaluation" / kept.name
            storage.write_bytes(str(target), kept.read_bytes())
            print(
                f"{target}: kept, since a replaced run has read the test split; "
                "`engine evaluate --reread-test` lets this one read it",
                file=sys.stderr,
            )

    def _discard(self) -> None:
        shutil.rmtree(self.path / DISCARDED_NAME, ignore_errors=True)

    def roll_back(self) -> None:
        """Undo `start`: remove what the new run left, put the earlier one back."""
        for entry in sorted(self.entries(), key=lambda entry: entry.name == RUN_NAME):
            _remove(entry)
        self._put_back()

    def _set_aside(self) -> None:
        aside = self.path / REPLACED_NAME
        aside.mkdir()
        # `run.json` goes first and comes back last, so that `_recover` can tell how far this came.
        for entry in sorted(self.entries(), key=lambda entry: entry.name != RUN_NAME):
            entry.rename(aside / entry.name)

    def _recover(self) -> None:
        """Put an earlier run back that a process set aside before it was killed."""
        self._discard()
        set_aside = (self.path / REPLACED_NAME / RUN_NAME).is_file()
        if set_aside and (self.path / RUN_NAME).is_file():
            self.roll_back()
        else:
            self._put_back()

    def _put_back(self) -> None:
        aside = self.path / REPLACED_NAME
        if not aside.is_dir():
            return
        for entry in sorted(aside.iterdir(), key=lambda entry: entry.name == RUN_NAME):
            if (target := self.path / entry.name).exists():
                _remove(target)
            entry.rename(target)
        aside.rmdir()

    def differences(self, config: configs.Config, data: manifest.Manifest) -> list[str]:
        """Say in what the run here was asked for otherwise than by this config and data set; empty: none."""
        told = self.read()["manifest"]
        found = [] if told["sha256"] == data.sha256 else [f"the data set there is {told.get('location')}"]
        if not self.config_path.is_file():
            return [*found, f"{CONFIG_NAME} is missing there"]
        return found + config.differences(self.config_path.read_text(encoding="utf-8"))


def summary(directory: RunDirectory, *, running: bool | None = None) -> str:
    """Say in a few words how far a run came.

    Args:
        directory: of the run.
        running: whether a process is training it; None: find out by its lock.
    """
    known = directory.read()
    state = known["state"]
    if state == UNFINISHED and not (directory.is_running() if running is None else running):
        state = "killed"
    done = f"{state} after {known.get('epochs_done', 0)} of {known.get('epochs', '?')} epochs"
    best = known.get("best_epoch")
    return f"{done}, best epoch {best}" if best else done


def _take(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()


def command() -> str:
    """Return the command line of this process, as it can be typed again, without credentials."""
    return without_credentials(shlex.join(["engine", *sys.argv[1:]]))


def absolute(location: str) -> str:
    """Return where a data set lies, whatever folder a later command is called from."""
    return location if storage.is_remote(location) else str(Path(location).resolve())


def git_commit() -> str | None:
    """Return this code's commit, with `-dirty` where files differ from it; None: it isn't known."""
    folder = Path(__file__).parent
    describe = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Return the release of Python and of each package that a result depends on."""
    found = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
