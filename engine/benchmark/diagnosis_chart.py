"""A diagnosis as a chart: the stages' rates as bars on a logarithmic scale, each with its ceiling."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from engine.benchmark.diagnosis import Diagnosis, Setting, Stage
from engine.benchmark.windows import Rate
from engine.report.plots import FIRST, INK, MARK, MUTED, SECOND, STYLE, to_png
from records import storage

_WIDTH_IN, _BAR_IN, _LINE_IN, _ABOVE_IN, _BELOW_IN = 8.4, 0.3, 0.17, 0.65, 0.5
_LEFT, _RIGHT = 0.19, 0.74
_GAP = 0.7
_TITLE_LETTERS = 104
# Right of the plot, in shares of its width: rates, and CPU-seconds.
_COLUMNS = (1.14, 1.4)


class _Bar(NamedTuple):
    place: float
    name: str
    rate: Rate
    colour: str


def write(path: str, diagnosis: Diagnosis) -> None:
    """Write the chart as a PNG file; it appears whole or not at all.

    Raises:
        StorageError: the file can't be written.
    """
    storage.write_bytes(path, to_png(draw(diagnosis)))


@mpl.rc_context(STYLE)
def draw(diagnosis: Diagnosis) -> Figure:
    """Draw a bar for each stage, ceiling and usual way; the stage that bounds stands out."""
    bars = _bars(diagnosis)
    verdict = textwrap.wrap(diagnosis.verdict.text, _TITLE_LETTERS)
    above_in = _ABOVE_IN + _LINE_IN * len(verdict)
    height_in = above_in + _BAR_IN * (bars[-1].place + 1.2) + _BELOW_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    # By hand: no layout engine leaves room for the columns of figures.
    top, bottom = 1 - above_in / height_in, _BELOW_IN / height_in
    ax = figure.add_axes((_LEFT, bottom, _RIGHT - _LEFT, top - bottom))
    for bar in bars:
        _draw_bar(ax, bar)
    _scale(ax, bars)
    _name_bars(ax, bars)
    _write_titles(figure, ax, "\n".join(verdict), diagnosis.setting)
    return figure


def _bars(diagnosis: Diagnosis) -> list[_Bar]:
    bars: list[_Bar] = []
    place = 0.0
    for kind, rates in (
        ("", diagnosis.stages),
        ("ceiling: ", diagnosis.ceilings),
        ("", diagnosis.rates),
    ):
        for rate in rates:
            if rate.images_per_s:
                bars.append(_Bar(place, kind + rate.name, rate, _colour(rate, diagnosis.verdict.bound)))
                place += 1
        place += _GAP
    return bars


def _colour(rate: Rate, bound: str) -> str:
    if not isinstance(rate, Stage):
        return MARK
    return SECOND if rate.name == bound else FIRST


def _draw_bar(ax: Axes, bar: _Bar) -> None:
    rate = bar.rate
    ax.barh(bar.place, rate.images_per_s or 0.0, color=bar.colour, height=0.66)
    spread = [rate.lowest_images_per_s, rate.highest_images_per_s]
    ax.plot(spread, [bar.place] * 2, color=INK, linewidth=0.8)
    if isinstance(rate, Stage) and rate.ceiling_share:
        ceiling = (rate.images_per_s or 0.0) / rate.ceiling_share
        ax.plot([ceiling] * 2, [bar.place - 0.45, bar.place + 0.45], color=INK, linewidth=1.4)
    cpu_s = f"{rate.cpu_s_per_1000:.3f}" if rate.cpu_s_per_1000 else "–"
    _write_beside(ax, bar.place, f"{rate.images_per_s:,.0f}", cpu_s, INK)


def _write_beside(ax: Axes, place: float, images_per_s: str, cpu_s_per_1000: str, ink: str) -> None:
    look = {"ha": "right", "va": "center", "color": ink, "fontsize": 8.2}
    for x, text in zip(_COLUMNS, (images_per_s, cpu_s_per_1000), strict=True):
        ax.text(x, place, text, transform=ax.get_yaxis_transform(), **look)


def _scale(ax: Axes, bars: Sequence[_Bar]) -> None:
    lowest = min(bar.rate.lowest_images_per_s or 0.0 for bar in bars)
    highest = max(bar.rate.highest_images_per_s or 0.0 for bar in bars)
    # The shortest bar, too, is one to be seen.
    first, last = np.floor(np.log10(0.7 * lowest)), np.ceil(np.log10(highest))
    ax.set_xscale("log")
    ax.set_xlim(10.0**first, 10.0**last)
    ax.xaxis.set_major_locator(FixedLocator((10.0 ** np.arange(first, last + 1)).tolist()))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    ax.set_xlabel("images/s (logarithmic); a thin line is the spread, an upright one the stage's ceiling")


def _name_bars(ax: Axes, bars: Sequence[_Bar]) -> None:
    ax.set_yticks([bar.place for bar in bars], [bar.name for bar in bars], color=INK)
    ax.set_ylim(max(bar.place for bar in bars) + 0.6, -0.6)
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)
    _write_beside(ax, -1.1, "images/s", "CPU-s per 1,000", MUTED)


def _write_titles(figure: Figure, ax: Axes, verdict: str, setting: Setting) -> None:
    side, _, channels = setting.image_shape
    figure.text(0.012, 1 - 0.1 / figure.get_figheight(), verdict, va="top", color=INK, fontsize=9.5)
    ax.set_title(
        f"{side} x {side} x {channels} {setting.encoding}, batches of {setting.batch}; {setting.machine}",
        color=MUTED,
        fontsize=8.2,
        pad=12,
    )
