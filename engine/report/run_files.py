"""What a run directory holds for a report: read once, checked to belong together, nothing computed.

A part that isn't there is None, and the report says which command makes it. A part that is damaged, of an
earlier version, of another data set or of another model is refused: a report on it could not be defended.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.evaluation import frozen, models, predictions, reads, summary
from engine.evaluation.predictions import Predictions
from engine.heatmaps import scores
from engine.training.run_directory import FINISHED, RunDirectory
from records import json_text, manifest
from records.errors import CxrError, RunError
from records.manifest import Manifest
from records.manifest_check import is_inside

# The split that a report is on: the first that was evaluated.
SHOWN_SPLITS = ("test", "validation")
_MODELS = ("best.keras", f"{models.MEMBERS_NAME}/*/best.keras")


@dataclass(frozen=True)
class Evaluation:
    """One split's metrics and predictions."""

    split: str
    metrics: dict[str, Any]
    predictions: Predictions


@dataclass(frozen=True)
class Trained:
    """One training: of a run, or of a member of an ensemble."""

    name: str
    known: dict[str, Any]
    config: dict[str, Any]
    history_path: Path


@dataclass(frozen=True)
class RunFiles:
    """All parts that were found.

    Attributes:
        path: of the run directory.
        known: `run.json`.
        trainings: the run's own, or one a member.
        data_set: its manifest, if it was found.
        no_data_set: why it wasn't.
        evaluations: by split.
        frozen: thresholds and temperatures, with the file's hash as `sha256`.
        test_reads: each reading of the test split.
        ensemble: `ensemble.json`.
        heatmaps: `heatmaps.json`.
        benchmark: `benchmark.json`.
        model_sha256: of what the run directory predicts with now; None where no model is there.
    """

    path: Path
    known: dict[str, Any]
    trainings: list[Trained]
    data_set: Manifest | None
    no_data_set: str
    evaluations: dict[str, Evaluation]
    frozen: dict[str, Any] | None
    test_reads: list[dict[str, Any]]
    ensemble: dict[str, Any] | None
    heatmaps: dict[str, Any] | None
    benchmark: dict[str, Any] | None
    model_sha256: str | None

    @property
    def shown(self) -> Evaluation | None:
        """The evaluation that the report is on: test, or validation before test was read."""
        return next((self.evaluations[split] for split in SHOWN_SPLITS if split in self.evaluations), None)

    @property
    def test_models(self) -> set[str]:
        """Hashes of the models that have read the test split."""
        return {read["model_sha256"] for read in self.test_reads}

    @property
    def judged_sha256(self) -> str | None:
        """Hash of the model that the report is on; None where neither a model nor an evaluation is there."""
        return self.model_sha256 or (self.shown.metrics["model_sha256"] if self.shown else None)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.known.get("state") == FINISHED

    @property
    def phantom(self) -> bool:
        """Whether the pictures were drawn."""
        return bool(self.data_set and self.data_set.source.get("phantom"))

    @property
    def kind_of_split(self) -> str:
        """`official`, `stratified`, `random` or `unknown`."""
        if self.shown:
            return str(self.shown.metrics.get("split_strategy") or "unknown")
        return str(self.data_set.split.get("strategy", "unknown")) if self.data_set else "unknown"

    def make(self, command: str, *flags: str) -> str:
        """Write the command that makes a part of this run, with the data set's place if it has moved."""
        known = self.known["manifest"].get("location")
        found = self.data_set.location if self.data_set else known
        where = ["--data", found] if found != known else []
        return " ".join(["engine", command, "--run-dir", str(self.path), *where, *flags])


def read(run_dir: str | Path, data: str | None = None) -> RunFiles:
    """Read all that a run directory holds.

    Args:
        run_dir: of a training or of an ensemble.
        data: location of the manifest, where it isn't where the run found it.

    Raises:
        CxrError: there is no run, `data` is no manifest, or a part is damaged, of another data set or
            of another model.
    """
    directory = RunDirectory(str(run_dir))
    known = directory.read()
    path = directory.path
    data_set, no_data_set = _data_set(known, data)
    ensemble = _read_json(path / models.ENSEMBLE_NAME, "ensemble")
    files = RunFiles(
        path=path,
        known=known,
        trainings=_trainings(directory, known, ensemble),
        data_set=data_set,
        no_data_set=no_data_set,
        evaluations={split: found for split in SHOWN_SPLITS if (found := _evaluation(directory, split))},
        frozen=_frozen(path / "evaluation" / frozen.FILE_NAME),
        test_reads=reads.read(path / "evaluation" / reads.FILE_NAME),
        ensemble=ensemble,
        heatmaps=_heatmaps(path / "heatmaps" / "heatmaps.json"),
        benchmark=_read_json(path / "benchmark.json", "benchmark input --json"),
        model_sha256=_model_sha256(path),
    )
    _check_one_data_set(files)
    _check_one_model(files)
    return files


def _data_set(known: dict[str, Any], data: str | None) -> tuple[Manifest | None, str]:
    """Return the manifest, or why there is none; one that was asked for must be there."""
    if data:
        return manifest.load(data), ""
    try:
        return manifest.load(known["manifest"]["location"]), ""
    except CxrError as error:
        return None, str(error)


def _trainings(
    directory: RunDirectory, known: dict[str, Any], ensemble: dict[str, Any] | None
) -> list[Trained]:
    if ensemble is None:
        return [_training(directory, known, directory.path.name)]
    named = ensemble.get("members")
    names = [m.get("name") if isinstance(m, dict) else None for m in named] if isinstance(named, list) else []
    inside = [name for name in names if isinstance(name, str) and is_inside(name) and "/" not in name]
    if not names or inside != names:
        path = directory.path / models.ENSEMBLE_NAME
        raise RunError(f"{path}: names no members; make it again with `engine ensemble`")
    members = [RunDirectory(str(directory.path / models.MEMBERS_NAME / name)) for name in inside]
    return [_training(member, member.read(), member.path.name) for member in members]


def _training(directory: RunDirectory, known: dict[str, Any], name: str) -> Trained:
    return Trained(name, known, _read_config(directory.config_path), directory.history_path)


def _evaluation(directory: RunDirectory, split: str) -> Evaluation | None:
    folder = directory.evaluation_path(split)
    path = folder / summary.FILE_NAME
    if not path.is_file():
        return None
    metrics = summary.read(path)
    predictions_path = folder / predictions.FILE_NAME
    found = predictions.read(predictions_path)
    if hashlib.sha256(predictions_path.read_bytes()).hexdigest() != metrics["predictions_sha256"]:
        raise RunError(
            f"{predictions_path}: not the predictions that {path.name} is of (SHA-256 differs); remove "
            f"{folder} and evaluate again"
        )
    return Evaluation(split, metrics, found)


def _frozen(path: Path) -> dict[str, Any] | None:
    chosen = frozen.read(path)
    if chosen is None:
        return None
    return dataclasses.asdict(chosen) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _check_one_data_set(files: RunFiles) -> None:
    """Refuse parts of several data sets."""
    expected = files.data_set.sha256 if files.data_set else files.known["manifest"]["sha256"]
    where = files.data_set.location if files.data_set else str(files.path)
    parts = {"run": files.known["manifest"].get("sha256")}
    parts |= {
        f"{split} evaluation": e.metrics.get("manifest_sha256") for split, e in files.evaluations.items()
    }
    parts["heat maps"] = files.heatmaps.get("manifest_sha256") if files.heatmaps else None
    for what, sha256 in parts.items():
        if sha256 not in (None, expected):
            raise RunError(
                f"{where}: not the data set of the {what} (manifest {expected[:12]}, theirs is "
                f"{sha256[:12]}); name the right one with --data, or make the {what} again"
            )


def _check_one_model(files: RunFiles) -> None:
    """Refuse the numbers of another model than the run directory holds."""
    for split, found in files.evaluations.items():
        judged = str(found.metrics["model_sha256"])
        if files.model_sha256 not in (None, judged):
            raise RunError(
                f"{files.path}: its {split} split was judged for another model ({judged[:12]}, the run's is "
                f"{str(files.model_sha256)[:12]}); judge the present one: `{files.make('evaluate')}`"
            )


def _heatmaps(path: Path) -> dict[str, Any] | None:
    found = _read_json(path, "heatmaps")
    if found is not None and found.get("schema") != scores.SCHEMA:
        raise RunError(
            f"{path}: schema {found.get('schema')}; expected {scores.SCHEMA}: make it again with "
            "`engine heatmaps`"
        )
    return found


def _model_sha256(path: Path) -> str | None:
    try:
        return models.find(path).sha256
    except RunError:
        # A run directory may have been copied without its models; what was judged is in the evaluation.
        if any(True for pattern in _MODELS for _ in path.glob(pattern)):
            raise
        return None


def _read_json(path: Path, command: str) -> Any:
    """Return the dictionary of a file, or None if it isn't there."""
    if not path.is_file():
        return None
    again = f"remove it and make it again with `engine {command}`"
    try:
        values = json_text.parse(path.read_bytes())
    except ValueError as error:
        raise RunError(f"{path}: not JSON: {error}; {again}") from error
    if not isinstance(values, dict):
        raise RunError(f"{path}: a {type(values).__name__}; expected a dictionary; {again}")
    return values


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RunError(f"{path}: not YAML: {' '.join(str(error).split())}; train again") from error
    if not isinstance(sections, dict) or not all(isinstance(keys, dict) for keys in sections.values()):
        raise RunError(f"{path}: no sections of keys; train again")
    return sections
