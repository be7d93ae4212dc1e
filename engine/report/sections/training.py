"""How the run, or each member of an ensemble, was trained: the history plots of the log, the settings."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from engine.report import cells, plots, template
from engine.report.document import Block, Facts, Figures, Panel, Paragraph, Section
from engine.report.run_files import RunFiles, Trained

_CAPTION = (
    "Validation by epoch; the loss also on training data (blue training, orange validation), recall and "
    "PPV in blue beside specificity and NPV in orange, at a threshold of 0.5. Upright line and large dots: "
    "the best epoch, whose model is kept. Dashed: the published recipe's targets. The training loss "
    "includes the L2 penalty and dropout, the validation loss neither."
)


def section(run: RunFiles) -> Section:
    """Build the section."""
    if run.known.get("kind") == "soup":
        said = "A soup has no training of its own: its weights are the mean of its members’."
        return Section("training", "Training", [Paragraph(said, look="note")])
    blocks: list[Block] = []
    for number, training in enumerate(run.trainings):
        blocks += _training(training, number, alone=len(run.trainings) == 1)
    return Section("training", "Training", blocks)


def _training(training: Trained, number: int, *, alone: bool) -> list[Block]:
    if not training.history_path.is_file():
        what = "No log of epochs" if alone else f"{training.name}: no log of epochs"
        return [
            Paragraph(f"{what} ({training.history_path.name}): `engine train` writes it.", look="missing")
        ]
    logged = plots.read_history(training.history_path)
    best_epoch = training.known.get("best_epoch")
    panels = [
        # matplotlib escapes what it writes into an SVG.
        Panel(
            ", ".join(filter(None, (title, target))),
            Markup(plots.to_svg(figure, f"history-{number}-{place}")),
        )
        for place, (title, target, figure) in enumerate(
            plots.history(logged, best_epoch=best_epoch, compact=not alone)
        )
    ]
    key = "history" if alone else f"history_{training.name}"
    heading = "" if alone else training.name
    figures = Figures(
        key,
        panels,
        _said_best(training) + (" " + _CAPTION if number == 0 else ""),
        heading=heading,
        look="history" if alone else "history compact",
        data={name: _numbers(values) for name, values in logged.items()},
    )
    settings = Facts(
        "settings" if alone else f"settings_{training.name}",
        _settings(training.config),
        heading="Settings" if alone else f"Settings of {training.name}",
        folded=True,
    )
    return [figures, settings] if training.config else [figures]


def _said_best(training: Trained) -> str:
    known = training.known
    said = []
    if known.get("best_epoch"):
        monitored = training.config.get("train", {}).get("monitor", "the monitored value")
        best = cells.number(known.get("best_val_macro_auroc")).text
        said.append(f"Best epoch {known['best_epoch']} by {monitored} (macro AUROC {best} on validation)")
    said.append(f"{template.count(known.get('epochs_done'))} epochs in {duration(known.get('seconds'))}")
    return ", ".join(said) + "."


def duration(seconds: float | None) -> str:
    """Say a time in its two largest units: `3 h 12 min`."""
    if seconds is None:
        return "an unknown time"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _settings(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return one line a section of the config."""
    return [
        (section, ", ".join(f"{key} {_said(value)}" for key, value in keys.items()))
        for section, keys in config.items()
    ]


def _said(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
