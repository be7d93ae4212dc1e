"""What `/api/model` says of a model: what it is, on what and how well it was judged, its limits."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from engine.evaluation import summary
from engine.evaluation.models import Models
from engine.evaluation.summary import NotJudgedError
from engine.prediction.output import NOTICE
from engine.report.sections import limits
from engine.serving.answers import Interval, JudgedSplit, Member, Model, Thresholds
from engine.serving.served_model import ServedModel
from engine.training.run_directory import RunDirectory
from records.labels import FINDINGS

SPLIT = "test"


def make(run_dir: str, model: ServedModel, *, phantom: bool, has_samples: bool, upload_bytes: int) -> Model:
    """Put together what is known of a served run.

    Args:
        run_dir: folder of the run or ensemble.
        model: of it.
        phantom: whether the pictures it learned from were drawn.
        has_samples: whether there are samples to look at.
        upload_bytes: that an upload may have.

    Raises:
        RunError: what `engine evaluate` wrote is damaged.
    """
    models = model.predictor.models
    judged = judgement(run_dir, model.predictor.sha256)
    chosen = model.calls.name
    return Model(
        name=Path(run_dir).resolve().name,
        kind="ensemble" if models.is_ensemble else "run",
        members=_members(models),
        findings=list(FINDINGS),
        split=_split(judged),
        auroc=_auroc(judged),
        macro_auroc=Interval(**judged["macro_auroc"]) if judged else None,
        thresholds=Thresholds(name=chosen, of=model.thresholds) if chosen else None,
        calibrated=model.calls.is_calibrated,
        side_px=model.predictor.side_px,
        phantom=phantom,
        limits=_limits(phantom),
        has_samples=has_samples,
        has_heatmaps=model.has_heatmaps,
        max_upload_bytes=upload_bytes,
        notice=NOTICE,
        version=metadata.version("cxr-engine"),
        sha256=model.predictor.sha256,
    )


def judgement(run_dir: str, model_sha256: str) -> dict[str, Any] | None:
    """Return the metrics of this very model on test, if it was judged there."""
    path = RunDirectory(run_dir).evaluation_path(SPLIT) / summary.FILE_NAME
    try:
        metrics = summary.read(path)
    except NotJudgedError:
        return None
    return metrics if metrics["model_sha256"] == model_sha256 else None


def _members(models: Models) -> list[Member]:
    weights = models.weights or [1.0] * len(models.members)
    shares = (np.array(weights) / np.sum(weights)).tolist()
    return [
        Member(name=member.name, weight=share) for member, share in zip(models.members, shares, strict=True)
    ]


def _split(judged: dict[str, Any] | None) -> JudgedSplit | None:
    if judged is None:
        return None
    return JudgedSplit(
        strategy=str(judged.get("split_strategy", "unknown")),
        name=judged["split"],
        images=judged["images"],
        patients=judged["patients"],
    )


def _auroc(judged: dict[str, Any] | None) -> dict[str, Interval] | None:
    if judged is None:
        return None
    return {finding: Interval(**judged["findings"][finding]["auroc"]) for finding in FINDINGS}


def _limits(phantom: bool) -> list[str]:
    return [line.replace("**", "") for line in limits.lines(phantom=phantom)]
