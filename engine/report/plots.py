"""The plots of a report: training history and prevalence, each a matplotlib figure; how figures become SVG.

Few inks, told apart by lightness as well as by hue; `to_svg` hands them over as CSS variables, so that a page
sets them for light and for dark.
"""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from engine.report.contact_sheet import in_words
from records.errors import RunError
from records.labels import FINDINGS
from records.manifest import Manifest
from records.splits import SPLITS

INK, MUTED, RULE = "#1d1f22", "#6b6e72", "#dcdad4"
FIRST, SECOND, MARK = "#1f5f99", "#d07a1c", "#8c8f93"
_CSS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    MARK: "var(--mark)",
}
STYLE = {
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.labelsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


class _Panel(NamedTuple):
    """One panel of the history: columns with what to call them, and a target."""

    title: str
    lines: tuple[tuple[str, str], ...]
    target: float | None = None


_PANELS = (
    _Panel("Loss", (("loss", "training"), ("val_loss", "validation"))),
    _Panel("Macro AUROC", (("val_macro_auroc", "validation"),), 0.80),
    _Panel("Recall and specificity", (("val_recall", "recall"), ("val_specificity", "specificity"))),
    _Panel("F1", (("val_f1", "validation"),), 0.50),
    _Panel("Hamming loss", (("val_hamming_loss", "validation"),)),
    _Panel("PPV and NPV", (("val_ppv", "PPV"), ("val_npv", "NPV"))),
)


def history(
    logged: dict[str, np.ndarray], *, best_epoch: int | None = None, compact: bool = False
) -> list[tuple[str, str, Figure]]:
    """Plot how a training went, epoch by epoch; panels without a column in the log are left out.

    Args:
        logged: as `read_history` gives it.
        best_epoch: to mark, from 1; None is that of the highest macro AUROC.
        compact: smaller, without legends.

    Returns:
        (title, what its target is or nothing, figure) of each panel.
    """
    if best_epoch is None:
        best_epoch = _best_epoch(logged)
    drawn = []
    for panel in _PANELS:
        if any(column in logged for column, _ in panel.lines):
            with mpl.rc_context(STYLE):
                figure, ax = (
                    panel_figure(1.8, 1.45, left=0.22, bottom=0.16)
                    if compact
                    else panel_figure(2.75, 1.75, left=0.15, bottom=0.14)
                )
                _draw_panel(ax, panel, logged, best_epoch, compact=compact)
            target = "" if panel.target is None else f"target {panel.target:.2f}"
            drawn.append((panel.title, target, figure))
    return drawn


def read_history(history_csv: str | Path) -> dict[str, np.ndarray]:
    """Read a run's log: (E,) float64 by column, NaN for an empty cell; the time stamps are left out.

    Raises:
        RunError: the file is missing, holds no epoch, or a cell that is no number.
    """
    path = Path(history_csv)
    if not path.is_file():
        raise RunError(f"{path}: no log of epochs; make it with `engine train`")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    if not rows or "epoch" not in rows[0]:
        raise RunError(f"{path}: no epoch in it; train again with --overwrite")
    if any(None in row.values() or None in row for row in rows):
        raise RunError(
            f"{path}: a row with more or fewer cells than the header; train again with --overwrite"
        )
    try:
        return {
            name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0] if name != "time"
        }
    except ValueError as error:
        raise RunError(f"{path}: {error}; train again with --overwrite") from error


def prevalence(data_set: Manifest) -> Figure:
    """Plot the share of images with each finding, one mark for each split that holds images."""
    looks = dict(
        zip(
            SPLITS,
            (
                {"marker": "o", "color": FIRST},
                {"marker": "D", "color": MUTED, "fillstyle": "none"},
                {"marker": "s", "color": SECOND},
            ),
            strict=True,
        )
    )
    places = np.arange(len(FINDINGS))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.2), layout="constrained")
        ax = figure.subplots()
        for name in SPLITS:
            split = data_set.splits[name]
            if split.images:
                shares = [100 * split.prevalence[finding] for finding in FINDINGS]
                ax.plot(shares, places, linestyle="none", markersize=5, label=name, **looks[name])
        ax.set_yticks(places, [in_words(finding) for finding in FINDINGS], color=INK)
        ax.invert_yaxis()
        ax.set_xlim(left=0)
        ax.set_xlabel("images with the finding, %")
        ax.grid(axis="y")
        ax.tick_params(length=0)
        if ax.get_lines():
            ax.legend(loc="lower right")
    return figure


def to_svg(figure: Figure, name: str) -> str:
    """Return a figure as an `<svg>` element for a page; `name` keeps its ids apart from other figures'.

    Colours become CSS variables and type the page's own, so that it follows the page into the dark.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(?<=[ "])(id=")|(xlink:href="#)|(url\(#)', lambda found: f"{found[0]}{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    for colour, variable in _CSS.items():
        svg = svg.replace(colour, variable)
    # A hundredth of a point is finer than any screen.
    svg = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", svg)
    # The view box keeps the proportions; the page decides on the width.
    return re.sub(r'(?<=\s)(width|height)="[\d.]+pt"\s', "", svg)


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Return a figure as a PNG file on white."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=dpi, facecolor="white", format="png")
    return buffer.getvalue()


def panel_figure(width: float, height: float, *, left: float, bottom: float) -> tuple[Figure, Axes]:
    """Return a small figure of `width` x `height` inches and its axes; margins are shares of it."""
    figure = Figure(figsize=(width, height))
    return figure, figure.add_axes((left, bottom, 0.985 - left, 0.97 - bottom))


def _best_epoch(logged: dict[str, np.ndarray]) -> int | None:
    values = logged.get("val_macro_auroc", np.array([np.nan]))
    return int(logged["epoch"][np.nanargmax(values)]) if np.isfinite(values).any() else None


def _draw_panel(
    ax: Axes, panel: _Panel, logged: dict[str, np.ndarray], best_epoch: int | None, *, compact: bool
) -> None:
    epochs = logged["epoch"]
    marker = "o" if len(epochs) <= 20 else None
    drawn = [(column, label) for column, label in panel.lines if column in logged]
    if best_epoch is not None:
        ax.axvline(best_epoch, color=MARK, linewidth=0.9, zorder=0)
    if panel.target is not None:
        ax.axhline(panel.target, color=SECOND, linewidth=1, linestyle=(0, (4, 3)))
    for (column, label), colour in zip(drawn, (FIRST, SECOND), strict=False):
        ax.plot(epochs, logged[column], color=colour, marker=marker, markersize=3, label=label)
        _mark_best(ax, epochs, logged[column], best_epoch, colour)
    ax.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4 if compact else 6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4 if compact else 5))
    ax.margins(y=0.18)
    ax.grid(axis="y")
    ax.tick_params(length=0)
    if len(drawn) > 1 and not compact:
        ax.legend(loc="best", handlelength=1.2)


def _mark_best(ax: Axes, epochs: np.ndarray, values: np.ndarray, best_epoch: int | None, colour: str) -> None:
    at = np.flatnonzero(epochs == best_epoch)
    if len(at) and math.isfinite(values[at[0]]):
        ax.plot(epochs[at], values[at], color=colour, marker="o", markersize=6, linestyle="none")
