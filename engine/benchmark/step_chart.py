"""A benchmark of the training step as a chart: a bar for each variant, split into the step's parts."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from engine.benchmark.step_figures import Milliseconds, StepRates, VariantRates
from engine.report.plots import FIRST, INK, MARK, MUTED, SECOND, STYLE, to_png
from records import storage

_WIDTH_IN, _BAR_IN, _ABOVE_IN, _BELOW_IN = 8.4, 0.34, 0.95, 0.5
_LEFT, _RIGHT = 0.24, 0.72
# Right of the plot, in shares of its width: rates on synthetic batches, and on real input.
_COLUMNS = (1.22, 1.5)
_COLOURS = {"forward": FIRST, "backward": SECOND, "optimiser": INK, "step": MARK}


def write(path: str, found: StepRates) -> None:
    """Write the chart as a PNG file; it appears whole or not at all.

    Raises:
        StorageError: the file can't be written.
    """
    storage.write_bytes(path, to_png(draw(found)))


@mpl.rc_context(STYLE)
def draw(found: StepRates) -> Figure:
    """Draw a bar for each variant that was measured: milliseconds of an image, in the step's parts."""
    variants = [variant for variant in found.variants if not variant.not_measured]
    height_in = _ABOVE_IN + _BAR_IN * max(1, len(variants)) + _BELOW_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    # By hand: no layout engine leaves room for the columns of figures.
    top, bottom = 1 - _ABOVE_IN / height_in, _BELOW_IN / height_in
    ax = figure.add_axes((_LEFT, bottom, _RIGHT - _LEFT, top - bottom))
    drawn = {part for place, variant in enumerate(variants) for part in _draw_bar(ax, place, variant)}
    ax.set_yticks(range(len(variants)), [variant.name for variant in variants], color=INK)
    ax.set_ylim(len(variants) - 0.4, -0.6)
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    ax.set_xlabel("milliseconds of a training step for each image")
    _write_row(ax, -0.85, "images/s", "real input", MUTED)
    handles = [Patch(color=colour, label=part) for part, colour in _COLOURS.items() if part in drawn]
    figure.legend(handles=handles, loc="upper right", ncols=len(handles) or 1, bbox_to_anchor=(1, 0.99))
    title = f"{found.model} at {found.image_side_px} px"
    figure.text(0.012, 1 - 0.1 / height_in, title, va="top", color=INK, fontsize=9.5)
    where = f"{found.device}; {found.machine}"
    figure.text(0.012, 1 - 0.35 / height_in, where, va="top", color=MUTED, fontsize=8.2)
    return figure


def _draw_bar(ax: Axes, place: int, variant: VariantRates) -> list[str]:
    """Draw one bar; return the parts that it shows."""
    parts: dict[str, Milliseconds | None] = {
        "forward": variant.forward,
        "backward": variant.backward,
        "optimiser": variant.optimizer,
    }
    known = {name: part for name, part in parts.items() if part}
    if not known and variant.step:
        known = {"step": variant.step}
    left = 0.0
    for name, part in known.items():
        # A difference of two measurements may come out below nothing.
        length = max(0.0, part.median / variant.batch)
        ax.barh(place, length, left=left, color=_COLOURS[name], height=0.66)
        left += length
    synthetic = variant.synthetic.images_per_s if variant.synthetic else None
    real = variant.real.images_per_s if variant.real else None
    _write_row(ax, place, _rate(synthetic), _rate(real), INK)
    return list(known)


def _write_row(ax: Axes, place: float, images_per_s: str, real: str, ink: str) -> None:
    look = {"ha": "right", "va": "center", "color": ink, "fontsize": 8.2}
    for x, text in zip(_COLUMNS, (images_per_s, real), strict=True):
        ax.text(x, place, text, transform=ax.get_yaxis_transform(), **look)


def _rate(images_per_s: float | None) -> str:
    if images_per_s is None:
        return "–"
    return f"{images_per_s:,.0f}" if images_per_s >= 100 else f"{images_per_s:.3g}"
