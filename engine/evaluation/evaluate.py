"""`engine evaluate`: a run's best model on one split; predictions, metrics and a table."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from engine import backend
from engine import config as configs
from engine.evaluation import tables
from engine.input.cache import CacheSettings, default_folder
from engine.training import run_directory
from engine.training.run_directory import RunDirectory
from records import manifest, storage
from records.errors import CxrError, RunError

METRICS_NAME = "metrics.json"
PREDICTIONS_NAME = "predictions.csv"
BATCH = 32


def run(run_dir: str, split: str, data: str | None) -> int:
    """Judge the best model of a run on one split.

    Args:
        run_dir: folder of the run.
        split: `train`, `validation` or `test`.
        data: location of the manifest, where it isn't where the run found it.

    Returns:
        0.

    Raises:
        CxrError: run directory, model or data set are at fault.
    """
    directory = RunDirectory(run_dir)
    known = directory.read()
    if known["state"] != run_directory.FINISHED:
        print(f"note: {run_dir}: {run_directory.summary(directory)}", file=sys.stderr)
    if not directory.checkpoint_path.is_file():
        raise RunError(
            f"{directory.checkpoint_path}: no model; the run ended before its first epoch did: "
            "go on with `engine train --resume auto`"
        )
    data_set = _data_set(known, data)
    subject = _subject(directory, data_set, split)
    metrics_path = directory.evaluation_path(split) / METRICS_NAME
    metrics = _done(metrics_path, subject)
    if metrics is None:
        metrics = _evaluate(directory, data_set, split) | subject
        storage.write_bytes(str(metrics_path), (json.dumps(metrics, indent=1) + "\n").encode())
    else:
        print(f"{metrics_path}: this model was evaluated already", file=sys.stderr)
    tables.print_table(metrics)
    print(f"{metrics_path.parent / PREDICTIONS_NAME}\n{metrics_path}")
    return 0


def _data_set(known: dict[str, Any], data: str | None) -> manifest.Manifest:
    try:
        data_set = manifest.load(data or known["manifest"]["location"])
    except CxrError as error:
        raise type(error)(f"{error}; if the data set has moved, say where with --data") from error
    if data_set.sha256 != known["manifest"]["sha256"]:
        raise RunError(
            f"{data_set.location}: not the data set of this run (manifest {data_set.sha256[:12]}, "
            f"the run's is {known['manifest']['sha256'][:12]}); name the right one with --data"
        )
    manifest.check_files(data_set)
    return data_set


def _subject(directory: RunDirectory, data_set: manifest.Manifest, split: str) -> dict[str, Any]:
    """Name what is judged, so that the same is not judged again."""
    model = hashlib.sha256(directory.checkpoint_path.read_bytes()).hexdigest()
    return {
        "split": split,
        "split_strategy": data_set.split["strategy"],
        "manifest_sha256": data_set.sha256,
        "model_sha256": model,
    }


def _done(path: Path, subject: dict[str, Any]) -> dict[str, Any] | None:
    if not path.is_file() or not path.with_name(PREDICTIONS_NAME).is_file():
        return None
    try:
        metrics = json.loads(path.read_bytes())
    except ValueError:
        return None
    return metrics if isinstance(metrics, dict) and subject.items() <= metrics.items() else None


def _evaluate(directory: RunDirectory, data_set: manifest.Manifest, split: str) -> dict[str, Any]:
    if not data_set.splits[split].images:
        raise RunError(f"{data_set.location}: the {split} split is empty; nothing to judge")
    backend.load()
    from engine.evaluation.predict import predict_split

    print(f"predicting the {split} split ...", file=sys.stderr, flush=True)
    limit_bytes = configs.load(str(directory.config_path)).input.cache_bytes
    cached = CacheSettings(default_folder(), limit_bytes)
    predictions = predict_split(directory.checkpoint_path, data_set, split, BATCH, cached)
    folder = directory.evaluation_path(split)
    tables.write_predictions(folder / PREDICTIONS_NAME, *predictions)
    return tables.summarise(tables.read_predictions(folder / PREDICTIONS_NAME))
