"""What heat maps are worth against drawn boxes: the numbers of `heatmaps.json`, the rows of `boxes.csv`.

The unit is one finding in one picture; where several boxes of it were drawn, any one counts for the pointing
game, and the one that fits best for IoU. A map that is all 0 points nowhere: a miss, with an IoU of 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.evaluation.summary import FEW_PATIENTS
from engine.heatmaps.boxed_images import BoxedFinding
from engine.heatmaps.boxes import IOU_THRESHOLDS, LEVEL, LEVELS, Found, covered_share
from engine.metrics import intervals
from engine.metrics.bootstrap import mean_interval
from records.labels import FINDINGS

SCHEMA = 2
_COLUMNS = (
    *("image_id", "patient_id", "split", "finding", "probability", "hit", "iou", "peak_x", "peak_y"),
    *(f"{what}_{side}" for what in ("region", "box", "drawn") for side in "xywh"),
)


class Judged(NamedTuple):
    """One finding in one picture, and what the model's heat map says of it."""

    boxed: BoxedFinding
    probability: float
    found: Found


def summarise(judged: Sequence[Judged], side_px: int, draws: int) -> dict[str, Any]:
    """Return `findings`, `total` and `splits` of `heatmaps.json`; findings without boxes are left out.

    Args:
        judged: at least one.
        side_px: of the stored pictures.
        draws: of patients, for the intervals.
    """
    findings = [finding for finding in FINDINGS if any(one.boxed.finding == finding for one in judged)]
    splits = dict.fromkeys(one.boxed.split for one in judged)
    return {
        "findings": {
            finding: _group([one for one in judged if one.boxed.finding == finding], side_px, draws)
            for finding in findings
        },
        "total": _group(judged, side_px, draws),
        "splits": {
            split: _group([one for one in judged if one.boxed.split == split], side_px, draws)
            for split in splits
        },
    }


def to_csv(judged: Sequence[Judged]) -> bytes:
    """Return `boxes.csv`: a row a box, all in stored pixels but for what was drawn; empty without a map."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    level = LEVELS.index(LEVEL)
    for boxed, probability, found in judged:
        what = (boxed.image_id, boxed.patient_id, boxed.split, boxed.finding, f"{probability:.6g}")
        places = [*found.peak, *found.regions[level]]
        predicted = [f"{place:g}" for place in places] if found.has_map else [""] * 6
        for number, (stored, drawn) in enumerate(zip(boxed.stored, boxed.drawn, strict=True)):
            box = [f"{value:.8g}" for value in (*stored, *drawn)]
            iou = f"{found.ious[level, number]:.6g}"
            writer.writerow([*what, int(found.hit), iou, *predicted, *box])
    return text.getvalue().encode()


def _group(judged: Sequence[Judged], side_px: int, draws: int) -> dict[str, Any]:
    patients = np.array([one.boxed.patient_id for one in judged])
    ious = np.array([one.found.ious.max(axis=1) for one in judged])
    iou = ious[:, LEVELS.index(LEVEL)]

    def mean(values: Any) -> dict[str, float | None]:
        return intervals.as_json(mean_interval(np.asarray(values, np.float64), patients, draws=draws))

    return {
        "boxes": sum(len(one.boxed.stored) for one in judged),
        "pairs": len(judged),
        "images": len({one.boxed.image_id for one in judged}),
        "patients": len(set(patients.tolist())),
        "few": len(set(patients.tolist())) < FEW_PATIENTS,
        "no_map": sum(not one.found.has_map for one in judged),
        "pointing": mean([one.found.hit for one in judged]),
        "by_chance": float(np.mean([covered_share(one.boxed.stored, side_px) for one in judged])),
        "iou": mean(iou),
        "iou_at": {f"{threshold:g}": mean(iou >= threshold) for threshold in IOU_THRESHOLDS},
        "iou_by_level": {f"{level:g}": mean(ious[:, place]) for place, level in enumerate(LEVELS)},
    }
