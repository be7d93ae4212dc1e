"""Metrics of whole-epoch predictions, exact and in NumPy; nothing here imports TensorFlow.

What is undefined is NaN, never 0: a finding without positives has no recall, not a recall of zero. Training
needs what is named here; `bootstrap`, `thresholds`, `calibration` and `prevalence_shift` need SciPy and are
imported by name.
"""

from engine.metrics.counts import Averaged, Confusion, all_negative_baseline, confusion
from engine.metrics.ranking import auroc, average_precision, macro, micro_auroc, micro_average_precision

__all__ = [
    "Averaged",
    "Confusion",
    "all_negative_baseline",
    "auroc",
    "average_precision",
    "confusion",
    "macro",
    "micro_auroc",
    "micro_average_precision",
]
