"""The small plots of one finding: ROC, precision-recall, reliability.

Their numbers are computed elsewhere. All are squares on which both axes run over the same range.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.report import plots
from engine.report.curves import GRID, Band
from engine.report.plots import FIRST, INK, MARK, RULE, SECOND

# More points than a panel has pixels change nothing that can be seen.
MAX_POINTS = 160
# Where the axes of a reliability plot may end.
_ENDS = (0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)

Points = tuple[np.ndarray, np.ndarray]


def roc(curves: Sequence[tuple[Points, Band | None]], name: str) -> Markup:
    """Draw recall over the false positive rate: the first curve with its band, a second one in another ink.

    Args:
        curves: false positive rate and recall as `curves.roc_corners` gives them, with a band or none.
        name: of the figure, by which its ids are told apart.
    """
    with mpl.rc_context(plots.STYLE):
        figure, ax = _unit_square()
        ax.plot([0, 1], [0, 1], color=RULE, linewidth=0.8)
        for ink, ((false, true), band) in zip((FIRST, SECOND), curves, strict=False):
            if band is not None:
                _fill(ax, band, ink)
            ax.plot(*_thinned(false, true), color=ink, linewidth=1.5)
    return _markup(figure, name)


def precision_recall(band: Band, prevalence: float, name: str) -> Markup:
    """Draw precision over recall with its band; a dashed line is chance, which is the prevalence."""
    with mpl.rc_context(plots.STYLE):
        figure, ax = _unit_square()
        ax.axhline(prevalence, color=MARK, linewidth=0.9, linestyle=(0, (4, 3)))
        _fill(ax, band, FIRST)
        ax.plot(GRID, band.middle, color=FIRST, linewidth=1.5)
    return _markup(figure, name)


def reliability(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], name: str) -> Markup:
    """Draw observed shares over mean probabilities, before and after a temperature.

    Args:
        before: (mean probability, observed share, count) of each bin.
        after: the same of calibrated probabilities, or nothing.
        name: of the figure.
    """
    points = [point for bins in (before, after) for point in bins if point[2]]
    longest = max([max(point[0], point[1]) for point in points], default=1.0)
    end = next((end for end in _ENDS if end >= longest), 1.0)
    with mpl.rc_context(plots.STYLE):
        figure, ax = _square(end)
        ax.plot([0, end], [0, end], color=RULE, linewidth=0.8)
        for bins, ink, marker in ((before, SECOND, "s"), (after, FIRST, "o")):
            held = np.array([point[:2] for point in bins if point[2]], np.float64).reshape(-1, 2)
            ax.plot(*held.T, color=ink, marker=marker, markersize=3, linewidth=1.1)
    return _markup(figure, name)


def _unit_square() -> tuple[Figure, Axes]:
    return _square(1.0)


def _square(end: float) -> tuple[Figure, Axes]:
    figure, ax = plots.panel_figure(1.9, 1.9, left=0.13, bottom=0.11)
    margin = 0.015 * end
    ax.set(xlim=(-margin, end + margin), ylim=(-margin, end + margin))
    ticks = [0, end / 2, end]
    written = [f"{tick:.3g}" for tick in ticks]
    ax.set_xticks(ticks, written)
    ax.set_yticks(ticks, written)
    ax.tick_params(length=2, width=0.6, pad=2)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.spines[["left", "bottom"]].set_linewidth(0.6)
    return figure, ax


def _fill(ax: Axes, band: Band, ink: str) -> None:
    if np.isfinite(band.low).all():
        ax.fill_between(GRID, band.low, band.high, color=ink, alpha=0.18, linewidth=0)


def _thinned(x: np.ndarray, y: np.ndarray) -> Points:
    """Keep at most `MAX_POINTS` corners, evenly along the curve's length, both ends among them."""
    if len(x) <= MAX_POINTS or not np.isfinite(x).all() or not np.isfinite(y).all():
        return x, y
    length = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MAX_POINTS)))
    return x[kept], y[kept]


def _markup(figure: Figure, name: str) -> Markup:
    # matplotlib escapes what it writes into an SVG.
    return Markup(plots.to_svg(figure, name))
