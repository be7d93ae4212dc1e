"""The plots of a report: training history, ROC curves, prevalence; each a matplotlib figure of its own.

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
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, NullLocator

from engine.evaluation.tables import Predictions
from engine.metrics import ranking
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
# More points than a panel has pixels change nothing that can be seen.
MAX_CURVE_POINTS = 160
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


def history(history_csv: str | Path, *, best_epoch: int | None = None, columns: int = 3) -> Figure:
    """Plot how a run went, epoch by epoch; panels without a column in the file are left out.

    Args:
        history_csv: the run's log.
        best_epoch: to mark, from 1; None is that of the highest macro AUROC.
        columns: panels side by side.

    Raises:
        RunError: the file is missing, empty, holds none of the columns or a cell that is no number.
    """
    logged = read_history(history_csv)
    panels = [panel for panel in _PANELS if any(column in logged for column, _ in panel.lines)]
    if not panels:
        raise RunError(f"{history_csv}: none of the columns of a run's log; train again with --overwrite")
    if best_epoch is None:
        best_epoch = _best_epoch(logged)
    with mpl.rc_context(STYLE):
        rows = math.ceil(len(panels) / columns)
        figure, axes = _grid(rows, columns, width=3.1 * columns, height=2.25 * rows)
        for ax, panel in zip(axes, panels, strict=False):
            _draw_panel(ax, panel, logged, best_epoch)
        _drop(axes[len(panels) :])
        for ax in axes[max(0, len(panels) - columns) : len(panels)]:
            ax.set_xlabel("epoch")
    return figure


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


def roc(predictions: Predictions, *, columns: int = 5) -> Figure:
    """Plot a small ROC chart for each finding, the micro average behind each and on its own at the end."""
    labels, scores = predictions.labels, predictions.probabilities
    areas = ranking.auroc(labels, scores)
    every = labels.reshape(-1), scores.reshape(-1)
    micro = roc_curve(*every)
    with mpl.rc_context(STYLE):
        rows = math.ceil((len(FINDINGS) + 1) / columns)
        figure, axes = _grid(rows, columns, width=1.9 * columns, height=2.3 * rows)
        for column, finding in enumerate(FINDINGS):
            positives = int(labels[:, column].sum())
            _draw_roc_frame(axes[column], in_words(finding), areas[column], positives)
            axes[column].plot(*_thinned(*micro), color=MARK, linewidth=0.9)
            if math.isfinite(areas[column]):
                curve = roc_curve(labels[:, column], scores[:, column])
                axes[column].plot(*_thinned(*curve), color=FIRST)
        last = axes[len(FINDINGS)]
        area = ranking.auroc(every[0][:, None], every[1][:, None])[0]
        _draw_roc_frame(last, "Micro average", area, int(labels.sum()))
        last.plot(*_thinned(*micro), color=INK)
        _drop(axes[len(FINDINGS) + 1 :])
        axes[columns * (rows - 1)].set(xlabel="1 − specificity", ylabel="recall")
    return figure


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a ROC curve from (0, 0) to (1, 1); equal scores make one step.

    Args:
        labels: (N,) of 0 or 1.
        scores: (N,) floats, higher means more likely.

    Returns:
        false positive rate and true positive rate, (K,) float64 each, NaN where a class is missing.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, sorted_scores = labels[order].astype(bool), scores[order]
    # The last of each run of equal scores.
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(ranked) - 1)
    true = np.append(0, np.cumsum(ranked)[ends]).astype(np.float64)
    false = np.append(0, np.cumsum(~ranked)[ends]).astype(np.float64)
    return _share(false), _share(true)


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
    # The view box keeps the proportions; the page decides on the width.
    return re.sub(r'(?<=\s)(width|height)="[\d.]+pt"\s', "", svg)


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Return a figure as a PNG file on white."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=dpi, facecolor="white", format="png")
    return buffer.getvalue()


def _grid(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of `width` x `height` inches and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _drop(axes: list[Axes]) -> None:
    for ax in axes:
        ax.remove()


def _best_epoch(logged: dict[str, np.ndarray]) -> int | None:
    values = logged.get("val_macro_auroc", np.array([np.nan]))
    return int(logged["epoch"][np.nanargmax(values)]) if np.isfinite(values).any() else None


def _draw_panel(ax: Axes, panel: _Panel, logged: dict[str, np.ndarray], best_epoch: int | None) -> None:
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
    # In the title, where no curve can cross it.
    ax.set_title(panel.title if panel.target is None else f"{panel.title}, target {panel.target:.2f}")
    ax.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
    ax.margins(y=0.18)
    ax.grid(axis="y")
    ax.tick_params(length=0)
    if len(drawn) > 1:
        ax.legend(loc="best", handlelength=1.2)


def _mark_best(ax: Axes, epochs: np.ndarray, values: np.ndarray, best_epoch: int | None, colour: str) -> None:
    at = np.flatnonzero(epochs == best_epoch)
    if len(at) and math.isfinite(values[at[0]]):
        ax.plot(epochs[at], values[at], color=colour, marker="o", markersize=6, linestyle="none")


def _draw_roc_frame(ax: Axes, title: str, area: float, positives: int) -> None:
    ax.plot([0, 1], [0, 1], color=RULE, linewidth=0.8)
    ax.set_title(title, fontsize=9)
    text = f"{area:.3f}" if math.isfinite(area) else "not defined"
    ax.text(0.97, 0.17, text, ha="right", color=INK, fontsize=10)
    ax.text(0.97, 0.05, f"n = {positives:,}", ha="right", color=MUTED, fontsize=8)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.xaxis.set_major_locator(NullLocator())
    ax.yaxis.set_major_locator(NullLocator())
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep at most `MAX_CURVE_POINTS` corners, evenly along the curve's length, both ends among them."""
    if len(x) <= MAX_CURVE_POINTS:
        return x, y
    length = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MAX_CURVE_POINTS)))
    return x[kept], y[kept]


def _share(counts: np.ndarray) -> np.ndarray:
    return counts / counts[-1] if counts[-1] else np.full(len(counts), np.nan)
