"""The figures of the input benchmark held against what the project wants of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from operator import attrgetter

from input_candidates import (
    CANDIDATES,
    COLD,
    LIBJPEG_TURBO,
    NUMPY_TAKE,
    OURS,
    PLAIN_READ,
    PNG_LOOP,
    TUNED,
)
from input_turns import Figures
from rate_report import Goal

# Of one encoding or of cold files, by the candidates' names.
Measured = Mapping[str, Figures]
STREAMING = tuple(candidate.name for candidate in CANDIDATES if candidate.streams)


def goals(results: Mapping[str, Measured]) -> list[Goal]:
    """Return every ratio and figure that is wanted, in the order of the table.

    A ratio is the median of the turns' ratios, so that what else the machine does falls on both sides.

    Args:
        results: by `raw`, `jpeg` and `cold`.
    """
    found = [*_of_raw(results["raw"])]
    if "jpeg" in results:
        found += _of_jpeg(results["jpeg"])
    if COLD in results:
        found += _of_cold(results[COLD])
    return found


def best_streaming(measured: Measured) -> str | None:
    """Return the name of the fastest peer that streams or shuffles from files of its own."""
    names = [name for name in STREAMING if _stands(measured, name)]
    return max(names, key=lambda name: statistics.median(measured[name].images_per_s), default=None)


def _of_raw(measured: Measured) -> list[Goal]:
    best = best_streaming(measured)
    wanted = [
        _ratio("raw: rate over tuned TFRecordDataset's", measured, TUNED, 2.2),
        _ratio("raw: CPU-s over tuned TFRecordDataset's", measured, TUNED, 0.35, cpu=True),
        _ratio(f"raw: rate over the best streaming peer's ({best})", measured, best, 1.3),
        _ratio("raw: rate over NumPy take's", measured, NUMPY_TAKE, 0.5),
        _ratio("raw: rate over the PNG loop's", measured, PNG_LOOP, 100),
    ]
    return [goal for goal in wanted if goal] + _alone("raw", measured[OURS])


def _of_jpeg(measured: Measured) -> list[Goal]:
    best = best_streaming(measured)
    wanted = [
        _ratio("JPEG: rate over libjpeg-turbo's alone", measured, LIBJPEG_TURBO, 0.9),
        _ratio("JPEG: rate over tuned TFRecordDataset's", measured, TUNED),
        _ratio(f"JPEG: rate over the best streaming peer's ({best})", measured, best),
    ]
    return [goal for goal in wanted if goal] + _alone("JPEG", measured[OURS])


def _of_cold(measured: Measured) -> list[Goal]:
    best = best_streaming(measured)
    wanted = [
        _ratio("cold: rate over tuned TFRecordDataset's", measured, TUNED),
        _ratio(f"cold: rate over the best streaming peer's ({best})", measured, best),
        _ratio("cold: rate over a plain read's", measured, PLAIN_READ),
    ]
    return [goal for goal in wanted if goal]


def _stands(measured: Measured, name: str) -> bool:
    return name in measured and bool(measured[name].images_per_s) and not measured[name].not_measured


def _alone(what: str, ours: Figures) -> list[Goal]:
    return [
        Goal(f"{what}: utilisation at 80 ms a step", statistics.median(ours.utilisation), 0.98),
        Goal(f"{what}: s to the first batch", statistics.median(ours.first_batch_s), 1.0, at_most=True),
        Goal(f"{what}: MB beside the page cache", ours.peak_bytes / 1e6, 1000, at_most=True),
    ]


def _ratio(
    name: str, measured: Measured, other: str | None, limit: float | None = None, *, cpu: bool = False
) -> Goal | None:
    """Return our figure over another candidate's, or None where that one wasn't measured."""
    of = attrgetter("cpu_s_per_1000" if cpu else "images_per_s")
    if other is None or not _stands(measured, other):
        return None
    pairs = zip(of(measured[OURS]), of(measured[other]), strict=False)
    return Goal(name, statistics.median(ours / others for ours, others in pairs), limit, at_most=cpu)
