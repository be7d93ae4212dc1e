"""The trainings of a comparison: which there are, and the file that each leaves when it is done.

A file is written whole and says what it is of, so that a comparison that was cut off goes on where it was.
Training itself is `units`'. N = validation records, F = 14 findings.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import config as configs
from engine.config.comparison import LossComparison
from engine.config.loss import LossConfig
from records import storage
from records.errors import RunError

FOLDER_NAME = "trainings"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one training gave.

    Attributes:
        logits: (N, F) float32 of the validation records in the index's order; NaN where it diverged.
        auroc: (F,) float64, NaN where a finding has no positives or no negatives, or the training diverged.
        initial_weights: hash of the weights before the first step.
        record_order: hash of the records' rows, and of the labels that came with them, step by step.
        steps: of the whole training; fewer where it diverged.
        last_loss: of its last step.
        seconds: that it took.
        versions: of the libraries that trained it.
        device: that it ran on.
    """

    logits: np.ndarray
    auroc: np.ndarray
    initial_weights: str
    record_order: str
    steps: int
    last_loss: float
    seconds: float
    versions: dict[str, str]
    device: str

    @property
    def diverged(self) -> bool:
        """Whether the loss was no number any more."""
        return not math.isfinite(self.last_loss)


@dataclass(frozen=True)
class Training:
    """One loss, with one learning rate and one seed."""

    config: configs.Config

    @property
    def name(self) -> str:
        """Of its file, without the ending: the loss with all its keys, the rate and the seed."""
        parts = [keyed(self.config.loss), f"rate={exact(self.config.optimizer.learning_rate)}"]
        return ",".join([*parts, f"seed={self.config.train.seed}"])


def tuning(config: LossComparison) -> list[Training]:
    """Return the trainings that choose each loss's rate: none where there is one rate."""
    if len(config.learning_rates) < 2:
        return []
    return [
        Training(config.training(loss, rate, config.comparison.tuning_seed))
        for loss in config.comparison.losses
        for rate in config.learning_rates
    ]


def counted(config: LossComparison, rates: Sequence[float]) -> list[Training]:
    """Return the trainings that are compared, seed by seed.

    Args:
        config: of the comparison.
        rates: of each loss.
    """
    return [
        Training(config.training(loss, rate, seed))
        for seed in config.comparison.seeds
        for loss, rate in zip(config.comparison.losses, rates, strict=True)
    ]


def keyed(loss: LossConfig) -> str:
    """Name a loss with its keys, such as `smoothed_bce,smoothing=0.1`."""
    keys = {key: value for key, value in vars(loss).items() if key != "name"}
    return ",".join([loss.name, *(f"{key}={exact(value)}" for key, value in keys.items())])


def labels_of(losses: Sequence[LossConfig]) -> list[str]:
    """Name losses as briefly as tells them apart: with the keys by which two of one name differ."""
    names = []
    for loss in losses:
        namesakes = [vars(other) for other in losses if other.name == loss.name]
        told = [key for key, value in vars(loss).items() if any(other[key] != value for other in namesakes)]
        keys = ", ".join(f"{key} {exact(vars(loss)[key])}" for key in told)
        names.append(f"{loss.name} ({keys})" if keys else loss.name)
    return names


class Outcomes:
    """The folder of a comparison's trainings.

    Args:
        folder: of the comparison.
        manifest_sha256: of the data set.
    """

    def __init__(self, folder: Path, manifest_sha256: str) -> None:
        self._folder, self._manifest_sha256 = folder / FOLDER_NAME, manifest_sha256

    def write(self, training: Training, outcome: Outcome) -> None:
        """Keep what a training gave.

        Raises:
            StorageError: the file can't be written.
        """
        note = {name: value for name, value in vars(outcome).items() if name not in ("logits", "auroc")}
        note |= {"config": training.config.to_yaml(), "manifest_sha256": self._manifest_sha256}
        data = io.BytesIO()
        np.savez(data, note=np.array(json.dumps(note)), logits=outcome.logits, auroc=outcome.auroc)
        storage.write_bytes(str(self._path(training)), data.getvalue())

    def read(self, training: Training) -> Outcome | None:
        """Return what a training gave; None where it has yet to be done.

        Raises:
            RunError: the file is damaged, or of another comparison.
        """
        path = self._path(training)
        if not path.is_file():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                note: dict[str, Any] = json.loads(str(stored["note"]))
                recipe, manifest_sha256 = note.pop("config"), note.pop("manifest_sha256")
                outcome = Outcome(stored["logits"], stored["auroc"], **note)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{path}: damaged ({error}); remove it to have it trained again") from error
        if manifest_sha256 != self._manifest_sha256:
            raise RunError(f"{path}: a training on another data set; choose another --out")
        if training.config.differences(recipe):
            raise RunError(f"{path}: a training of a comparison with another config; choose another --out")
        return outcome

    def _path(self, training: Training) -> Path:
        return self._folder / f"{training.name}.npz"


def exact(value: Any) -> str:
    """Write a value out, a number as briefly as no other is written."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)
