"""A run directory: what a run was asked for, how far it came, and where its parts lie.

`run.json` says `unfinished` from the first moment until the run ends, so that a run that was killed is
recognised by what it left. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from engine import config as configs
from records import manifest, storage
from records.errors import RunError

RUN_NAME = "run.json"
CONFIG_NAME = "config.yaml"
HISTORY_NAME = "history.csv"
CHECKPOINT_NAME = "best.keras"

UNFINISHED, FINISHED, INTERRUPTED, FAILED = "unfinished", "finished", "interrupted", "failed"

_PACKAGES = ("cxr-engine", "tensorflow", "tensorflow-cpu", "keras", "numpy")


class RunDirectory:
    """The folder of one run; every file in it is replaced whole."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.path / CONFIG_NAME

    @property
    def history_path(self) -> Path:
        """The CSV log, one row an epoch."""
        return self.path / HISTORY_NAME

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
            return json.loads(path.read_bytes())
        except ValueError as error:
            raise RunError(f"{path}: not JSON: {error}; remove the folder and train again") from error

    def update(self, **values: Any) -> None:
        """Change some values of `run.json`."""
        path = self.path / RUN_NAME
        known = json.loads(path.read_bytes()) if path.is_file() else {}
        storage.write_bytes(str(path), (json.dumps(known | values, indent=1) + "\n").encode())

    def start(self, config: configs.Config, data: manifest.Manifest) -> None:
        """Make the directory for a new run; what an earlier run left is removed.

        Raises:
            RunError: the folder holds something else than a run.
        """
        if self.path.is_dir() and any(self.path.iterdir()):
            self.read()
            shutil.rmtree(self.path)
        storage.write_bytes(str(self.config_path), config.to_yaml().encode())
        self.update(
            state=UNFINISHED,
            command=" ".join(sys.argv),
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            process_id=os.getpid(),
            epochs=config.train.epochs,
            epochs_done=0,
            manifest={"location": _absolute(data.location), "sha256": data.sha256},
            git_commit=_git_commit(),
            versions=_versions(),
        )

    def describes(self, config: configs.Config, data: manifest.Manifest) -> bool:
        """Tell whether the run here was asked for with this config and data set."""
        known = self.read()
        return (
            known["manifest"]["sha256"] == data.sha256
            and self.config_path.is_file()
            and self.config_path.read_text(encoding="utf-8") == config.to_yaml()
        )


def summary(known: dict[str, Any]) -> str:
    """Say in a few words how far a run came."""
    state = known["state"]
    if state == UNFINISHED and not _is_running(known["process_id"]):
        state = "killed"
    done = f"{state} after {known['epochs_done']} of {known['epochs']} epochs"
    best = known.get("best_epoch")
    return f"{done}, best epoch {best}" if best else done


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _absolute(location: str) -> str:
    return location if storage.is_s3(location) else str(Path(location).resolve())


def _git_commit() -> str | None:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
