"""A ranking as a picture: each loss's macro AUROC and its difference from the baseline, with intervals."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.comparison.ranking import Ranked
from engine.comparison.results import CHART_NAME, Comparison, verdict
from engine.config.comparison import BASELINE
from engine.report.plots import FIRST, INK, MARK, MUTED, SECOND, STYLE, to_png
from records import storage

_WIDTH_IN, _ROW_IN, _ABOVE_IN, _BELOW_IN = 9.6, 0.3, 0.95, 0.75
_COLOURS = {"better": FIRST, "worse": SECOND, "baseline": INK}
_NAME_LETTERS = 34


def write(folder: Path, comparison: Comparison) -> None:
    """Write the chart as a PNG file; it appears whole or not at all.

    Raises:
        StorageError: the file can't be written.
    """
    storage.write_bytes(str(folder / CHART_NAME), to_png(draw(comparison)))


@mpl.rc_context(STYLE)
def draw(comparison: Comparison) -> Figure:
    """Draw a row a loss, the best above."""
    rows = comparison.ranking.rows
    names = [textwrap.wrap(comparison.names[row.number], _NAME_LETTERS) for row in rows]
    # A name of two lines needs a row and a bit.
    places = np.cumsum([0.0, *(0.5 + 0.25 * (len(a) + len(b)) for a, b in itertools.pairwise(names))])
    height_in = _ABOVE_IN + _ROW_IN * (places[-1] + 1) + _BELOW_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    bottom, top = _BELOW_IN / height_in, 1 - _ABOVE_IN / height_in
    left = figure.add_axes((0.255, bottom, 0.37, top - bottom))
    right = figure.add_axes((0.655, bottom, 0.325, top - bottom))
    for place, row in zip(places.tolist(), rows, strict=True):
        _draw_row(left, right, place, row)
    for ax in (left, right):
        ax.set_ylim(places[-1] + 0.7, -0.7)
        ax.set_axisbelow(True)
        ax.grid(axis="x")
        ax.tick_params(length=0)
        ax.spines["left"].set_visible(False)
    left.set_yticks(places, ["\n".join(name) for name in names], color=INK)
    right.set_yticks([])
    right.axvline(0, color=MARK, linewidth=1, zorder=1)
    left.set_title("macro AUROC (small dots: each seed)", fontsize=9)
    right.set_title(f"minus {BASELINE} (paired; grey: not told apart)", fontsize=9)
    _write_notes(figure, comparison, height_in)
    return figure


def _draw_row(left: Axes, right: Axes, place: float, row: Ranked) -> None:
    colour = _COLOURS.get(verdict(row), MARK)
    if row.diverged:
        left.text(0.02, place, verdict(row), transform=left.get_yaxis_transform(), va="center", color=MUTED)
        return
    left.plot(row.of_seeds, np.full(len(row.of_seeds), place + 0.22), ".", color=colour, markersize=3)
    for ax, interval in ((left, row.macro_auroc), (right, row.minus_baseline)):
        if interval:
            ax.plot([interval.low, interval.high], [place, place], color=colour, linewidth=1.8)
            ax.plot(interval.value, place, "o", color=colour, markersize=5.5)


def _write_notes(figure: Figure, comparison: Comparison, height_in: float) -> None:
    title = f"{len(comparison.ranking.rows)} losses on {comparison.sizes}"
    figure.text(0.015, 1 - 0.24 / height_in, title, color=INK, fontsize=10.5, va="center")
    figure.text(0.015, 1 - 0.47 / height_in, comparison.pairs_note, color=MUTED, fontsize=8.5, va="center")
    note = comparison.interval_note.replace("[..]:", "Lines:")
    if comparison.undefined_findings:
        note += f". Not defined for {', '.join(comparison.undefined_findings)}"
    lines = "\n".join(textwrap.wrap(note, 140))
    figure.text(0.015, 0.12 / height_in, lines, color=MUTED, fontsize=8, va="bottom")
