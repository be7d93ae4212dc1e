"""A model judged apart by sex, age, view, and first or follow-up image. N = images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from engine.evaluation.predictions import Predictions
from engine.metrics import bootstrap
from engine.metrics.intervals import as_json
from records.labels import FINDINGS

UNKNOWN = "unknown"
AGE_BANDS = (("0-39", 0, 40), ("40-59", 40, 60), ("60+", 60, math.inf))


class Group(NamedTuple):
    """Some images of a split; `rows` is (N,) bool."""

    by: str
    name: str
    rows: np.ndarray


def groups(predictions: Predictions) -> Iterator[Group]:
    """Yield the groups that hold images; in each grouping every image is in one."""
    ages = predictions.age_years
    bands = [(name, (ages >= lowest) & (ages < end)) for name, lowest, end in AGE_BANDS]
    first = predictions.follow_up == 0
    groupings: dict[str, list[tuple[str, np.ndarray]]] = {
        "sex": [(name, predictions.sex == name) for name in ("F", "M")],
        "age": bands,
        "view": [(name, predictions.view == name) for name in ("PA", "AP")],
        "visit": [("first", first), ("follow-up", ~first)],
    }
    for by, named in groupings.items():
        rest = ~np.logical_or.reduce([rows for _, rows in named])
        for name, rows in [*named, (UNKNOWN, rest)]:
            if rows.any():
                yield Group(by, name, rows)


def judge(predictions: Predictions, *, draws: int, seed: int) -> list[dict[str, Any]]:
    """Return `subgroups` of `metrics.json`: AUROC, the patients of each group drawn from among themselves."""
    return [_judged(predictions, group, draws, seed) for group in groups(predictions)]


def _judged(predictions: Predictions, group: Group, draws: int, seed: int) -> dict[str, Any]:
    patient_ids = predictions.patient_ids[group.rows]
    ranked = bootstrap.ranking_intervals(
        predictions.labels[group.rows], predictions.logits[group.rows], patient_ids, draws=draws, seed=seed
    )
    return {
        "by": group.by,
        "group": group.name,
        "images": len(patient_ids),
        "patients": len(np.unique(patient_ids)),
        "macro_auroc": as_json(ranked.macro_auroc),
        "defined_findings": sum(not math.isnan(interval.value) for interval in ranked.auroc),
        "findings": dict(zip(FINDINGS, map(as_json, ranked.auroc), strict=True)),
    }
