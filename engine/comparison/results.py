"""A ranking as files and on the screen: `losses.json`, `losses.csv` and the table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from engine.comparison import trainings
from engine.comparison.ranking import Ranked, Ranking
from engine.comparison.trainings import Outcome
from engine.config.comparison import BASELINE, LossComparison
from engine.evaluation.printed import UNDEFINED
from engine.metrics import intervals
from engine.metrics.intervals import Interval
from records import storage
from records.labels import FINDINGS
from records.manifest import Manifest

_NAME_LETTERS, _FILE_LETTERS = 20, 120
JSON_NAME, CSV_NAME, CHART_NAME = "losses.json", "losses.csv", "losses.png"


@dataclass(frozen=True, eq=False)
class Comparison:
    """All that is told of a comparison.

    Attributes:
        config: its settings.
        data_set: its train and validation split.
        manifest_sha256: of the data set with all splits.
        rates: of each loss of the config.
        tuned: of each loss: macro AUROC by rate, with the tuning seed; empty where there is one rate.
        outcomes: of each loss and seed.
        ranking: of the losses.
    """

    config: LossComparison
    data_set: Manifest
    manifest_sha256: str
    rates: Sequence[float]
    tuned: Sequence[dict[float, float]]
    outcomes: Sequence[Sequence[Outcome]]
    ranking: Ranking

    @property
    def names(self) -> list[str]:
        """Of the losses, as briefly as tells them apart."""
        return trainings.labels_of(self.config.comparison.losses)

    @property
    def steps(self) -> int:
        """Of each training."""
        return max(outcome.steps for of_loss in self.outcomes for outcome in of_loss)

    @property
    def undefined_findings(self) -> list[str]:
        """Findings that all or none of the validation images have, so that they have no AUROC."""
        split = self.data_set.splits["validation"]
        return [name for name in FINDINGS if not 0 < split.positives[name] < split.images]

    @property
    def sizes(self) -> str:
        """What the losses are judged on."""
        split, seeds = self.data_set.splits["validation"], len(self.config.comparison.seeds)
        return (
            f"{split.images:,} images of {split.patients:,} validation patients, mean of "
            f"{seeds} {'seeds' if seeds > 1 else 'seed'}, {self.steps:,} steps each"
        )

    @property
    def interval_note(self) -> str:
        """What the intervals are over."""
        draws = f"[..]: 95 %, from {self.config.comparison.bootstrap_draws:,} draws"
        if len(self.config.comparison.seeds) == 1:
            return (
                f"{draws} of validation patients, with replacement and the same for all losses; what another "
                "seed would give is not in them"
            )
        return (
            f"{draws} of seeds and of validation patients, both with replacement and the same for all losses"
        )

    @property
    def choice_note(self) -> str:
        """What the intervals leave out; empty: nothing was chosen."""
        if not self.tuned:
            return ""
        return (
            "each loss's rate was chosen by another seed on the same validation patients; the intervals "
            "leave that choice out"
        )

    @property
    def pairs_note(self) -> str:
        """How well the losses are told apart."""
        ranking = self.ranking
        return (
            f"{ranking.pairs_apart} of {ranking.pairs} pairs of losses are told apart: their paired "
            "difference has an interval without 0 (of equal losses, 5 in 100 pairs; with few seeds, more)"
        )

    def at_edge(self, row: Ranked) -> bool:
        """Whether a loss's rate is the lowest or highest there was, so that another may suit it better."""
        rates = self.config.learning_rates
        return len(rates) > 1 and self.rates[row.number] in (min(rates), max(rates))


def verdict(row: Ranked) -> str:
    """Say in words how a loss compares with the baseline."""
    if row.diverged:
        return f"diverged in {row.diverged} of {len(row.of_seeds)}"
    if row.minus_baseline is None:
        return "baseline"
    if not row.minus_baseline.excludes_zero:
        return "not told apart"
    return "better" if row.minus_baseline.value > 0 else "worse"


def write(folder: Path, comparison: Comparison) -> None:
    """Write JSON and CSV; each file appears whole or not at all.

    Raises:
        StorageError: a file can't be written.
    """
    text = json.dumps(_values(comparison), indent=1) + "\n"
    storage.write_bytes(str(folder / JSON_NAME), text.encode())
    storage.write_bytes(str(folder / CSV_NAME), _csv(comparison).encode())


def print_table(comparison: Comparison, console: Console | None = None) -> None:
    """Show the ranking: a row a loss, the best first."""
    # A file has room for the names.
    console = console or Console(
        markup=False, highlight=False, width=None if sys.stdout.isatty() else _FILE_LETTERS
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("loss", min_width=_NAME_LETTERS)
    for heading in ("rate", "macro AUROC", f"minus {BASELINE}"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for place, row in enumerate(comparison.ranking.rows, start=1):
        table.add_row(
            str(place),
            comparison.names[row.number],
            f"{trainings.exact(comparison.rates[row.number])}{'*' if comparison.at_edge(row) else ''}",
            _text(row.macro_auroc),
            _text(row.minus_baseline, sign="+") if row.minus_baseline else "",
            verdict(row),
        )
    console.print(f"\n{comparison.sizes}", soft_wrap=True)
    console.print(table)
    console.print(_notes(comparison), soft_wrap=True)


def _notes(comparison: Comparison) -> str:
    told = (comparison.interval_note, comparison.choice_note, comparison.pairs_note)
    notes = [note for note in told if note]
    if any(comparison.at_edge(row) for row in comparison.ranking.rows):
        notes.append("*: the lowest or highest of the rates; one beyond may suit the loss better")
    if comparison.undefined_findings:
        count = len(FINDINGS) - len(comparison.undefined_findings)
        names = ", ".join(comparison.undefined_findings)
        notes.append(f"AUROC {UNDEFINED} for {names}: macro is of the other {count} findings")
    return "\n".join(notes)


def _text(interval: Interval, sign: str = "") -> str:
    if math.isnan(interval.value):
        return UNDEFINED
    value, low, high = (f"{part:{sign}.3f}" for part in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    seeds = [f"macro_auroc_seed_{seed}" for seed in comparison.config.comparison.seeds]
    columns = ["rank", "loss", "learning_rate", *_columns("macro_auroc"), *seeds]
    columns += [*_columns(f"minus_{BASELINE}"), "verdict", "seconds"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *(f"auroc_{finding}" for finding in FINDINGS)])
    for place, row in enumerate(comparison.ranking.rows, start=1):
        values = [row.macro_auroc.value, row.macro_auroc.low, row.macro_auroc.high, *row.of_seeds.tolist()]
        difference = row.minus_baseline
        values += [difference.value, difference.low, difference.high] if difference else [math.nan] * 3
        writer.writerow(
            [
                place,
                trainings.keyed(comparison.config.comparison.losses[row.number]),
                trainings.exact(comparison.rates[row.number]),
                *map(_cell, values),
                verdict(row),
                f"{row.seconds:.2f}",
                *map(_cell, row.auroc.tolist()),
            ]
        )
    return text.getvalue()


def _columns(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _values(comparison: Comparison) -> dict[str, Any]:
    config, split = comparison.config, comparison.data_set.splits["validation"]
    outcomes = [outcome for of_loss in comparison.outcomes for outcome in of_loss]
    return {
        "config": dataclasses.asdict(config),
        "manifest": {"location": comparison.data_set.location, "sha256": comparison.manifest_sha256},
        "validation": {"images": split.images, "patients": split.patients},
        "undefined_findings": comparison.undefined_findings,
        "steps": comparison.steps,
        "intervals": comparison.interval_note,
        "choice_of_rates": comparison.choice_note or None,
        "pairs": comparison.ranking.pairs,
        "pairs_apart": comparison.ranking.pairs_apart,
        "seeds": {
            str(seed): _same_for_all([of_loss[place] for of_loss in comparison.outcomes])
            for place, seed in enumerate(config.comparison.seeds)
        },
        "versions": _distinct([outcome.versions for outcome in outcomes]),
        "devices": _distinct([outcome.device for outcome in outcomes]),
        "losses": [
            _row(comparison, row, place) for place, row in enumerate(comparison.ranking.rows, start=1)
        ],
    }


def _same_for_all(of_seed: Sequence[Outcome]) -> dict[str, str]:
    """The hashes of what all losses shared, as `ranking.check_fair` has found."""
    shared = next((outcome for outcome in of_seed if not outcome.diverged), of_seed[0])
    return {"initial_weights_sha256": shared.initial_weights, "record_order_sha256": shared.record_order}


def _row(comparison: Comparison, row: Ranked, place: int) -> dict[str, Any]:
    tuned = comparison.tuned[row.number] if comparison.tuned else {}
    difference = intervals.as_json(row.minus_baseline) if row.minus_baseline else None
    return {
        "rank": place,
        "loss": vars(comparison.config.comparison.losses[row.number]),
        "learning_rate": comparison.rates[row.number],
        "tuning": {trainings.exact(rate): _defined(value) for rate, value in tuned.items()},
        "macro_auroc": intervals.as_json(row.macro_auroc),
        "macro_auroc_of_seeds": [_defined(value) for value in row.of_seeds.tolist()],
        f"minus_{BASELINE}": difference,
        "verdict": verdict(row),
        "seconds": round(row.seconds, 2),
        "auroc": {name: _defined(value) for name, value in zip(FINDINGS, row.auroc.tolist(), strict=True)},
    }


def _defined(value: float) -> float | None:
    # JSON has no NaN.
    return float(value) if np.isfinite(value) else None


def _distinct(values: Sequence[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value not in values[:place]]
