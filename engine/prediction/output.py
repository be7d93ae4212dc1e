"""What `engine predict` prints: a table an image, or one JSON document."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from engine.prediction.calls import Calls, raw_probabilities
from records.errors import CxrError
from records.labels import FINDINGS

NOTICE = "no medical device; labels mined from text"
_WITHOUT = "–"


class Failure(NamedTuple):
    """A file that couldn't be predicted, and why in one line."""

    file: str
    reason: str


class Tables:
    """Prints a table an image as soon as it is predicted."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._console = Console(markup=False, highlight=False, emoji=False)

    def add(self, files: list[str], logits: np.ndarray) -> None:
        """Print N tables.

        Args:
            files: N names.
            logits: (N, F).
        """
        rows = zip(files, self._calls.probabilities(logits), self._calls.called(logits), strict=True)
        for file, probabilities, called in rows:
            self._console.print(printable(file), style="bold", soft_wrap=True)
            self._console.print(self._table(probabilities, called))

    def end(self, failures: list[Failure]) -> None:  # noqa: ARG002 - the screen has them already
        """Say what the numbers are."""
        kind = "calibrated" if self._calls.is_calibrated else "raw, not calibrated"
        chosen = f"thresholds: {self._calls.name}" if self._calls.name else "no thresholds"
        self._console.print(f"probabilities: {kind}; {chosen}; {NOTICE}", soft_wrap=True)

    def _table(self, probabilities: np.ndarray, called: np.ndarray) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("finding")
        table.add_column("probability", justify="right")
        table.add_column("threshold", justify="right")
        table.add_column("called")
        thresholds = self._calls.shown_thresholds
        for place in np.argsort(-probabilities, kind="stable"):
            threshold = thresholds[place]
            table.add_row(
                FINDINGS[place],
                f"{probabilities[place]:.3f}",
                _WITHOUT if math.isnan(threshold) else f"{threshold:.3f}",
                "yes" if called[place] else _WITHOUT if math.isnan(threshold) else "no",
                style="bold" if called[place] else "",
            )
        return table


class Json:
    """Collects what is predicted and prints it as one document at the end."""

    def __init__(self, calls: Calls, run_dir: str, model_sha256: str) -> None:
        self._calls = calls
        self._head = {
            "run_dir": str(Path(run_dir)),
            "model_sha256": model_sha256,
            "calibrated": calls.is_calibrated,
            "thresholds": calls.name,
            "threshold_of": _by_finding(calls.shown_thresholds) if calls.name else None,
            "notice": NOTICE,
        }
        self._images: list[dict[str, Any]] = []

    def add(self, files: list[str], logits: np.ndarray) -> None:
        """Keep N images; arguments are those of `Tables.add`."""
        probabilities, raw = self._calls.probabilities(logits), raw_probabilities(logits)
        called = self._calls.called(logits)
        for row, file in enumerate(files):
            self._images.append(
                {
                    "file": file,
                    "probabilities": _by_finding(probabilities[row]),
                    "raw_probabilities": _by_finding(raw[row]),
                    "called": [FINDINGS[place] for place in np.flatnonzero(called[row])],
                }
            )

    def end(self, failures: list[Failure]) -> None:
        """Print the document."""
        document = self._head | {
            "images": self._images,
            "failed": [failure._asdict() for failure in failures],
        }
        json.dump(document, sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")


def printable(name: str) -> str:
    """Return a file's name as one line, whatever it holds."""
    return str(CxrError(name))


def _by_finding(values: np.ndarray) -> dict[str, float | None]:
    return {
        finding: None if math.isnan(value) else value
        for finding, value in zip(FINDINGS, values.tolist(), strict=True)
    }
