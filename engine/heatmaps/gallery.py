"""The gallery: a picture, its heat map, the boxes that were drawn and the region that the map predicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from engine.heatmaps.boxes import LEVEL, LEVELS
from engine.heatmaps.scores import Judged
from engine.report.contact_sheet import in_words
from records.labels import FINDINGS

# Perceptually uniform, and light where the map is high, as X-rays are.
COLOURS = "inferno"
_GROUND, _STRONG, _PLAIN, _RULE = "#121212", "#f2f0ea", "#a9a8a3", "#3a3936"
_DRAWN, _PREDICTED = "#4cc9f0", "#f2f0ea"
# So that the chest stays visible below the highest values.
_OPACITY = 0.75
_DPI = 100
_PANEL_PX, _GAP_PX, _HEAD_PX, _FOOT_PX = 440, 20, 64, 66


class Choice(NamedTuple):
    """A finding in a picture that is shown, and why: `best`, `median`, `worst` or `only`."""

    judged: Judged
    rank: str
    of: int


def choose(judged: Sequence[Judged], images: int) -> list[Choice]:
    """Choose for each finding the median, the worst and the best by IoU.

    Args:
        judged: what there is.
        images: at most so many; where that is too few, each finding's median comes first, the best last.

    Returns:
        By finding, the best first.
    """
    of_finding = [
        sorted((one for one in judged if one.boxed.finding == finding), key=_goodness, reverse=True)
        for finding in FINDINGS
    ]
    turns: dict[str, list[Choice]] = {"median": [], "worst": [], "best": []}
    for ranked in filter(None, of_finding):
        count = len(ranked)
        if count != 2:
            turns["median"].append(Choice(ranked[count // 2], "median" if count > 1 else "only", count))
        if count > 1:
            turns["worst"].append(Choice(ranked[-1], "worst", count))
            turns["best"].append(Choice(ranked[0], "best", count))
    chosen = [choice for turn in turns.values() for choice in turn][:images]
    order = ("best", "only", "median", "worst")
    return sorted(chosen, key=lambda choice: (choice.judged.boxed.column, order.index(choice.rank)))


def file_name(choice: Choice) -> str:
    """Return such as `atelectasis-best-00000011_006.png`."""
    boxed = choice.judged.boxed
    image = re.sub(r"[^\w-]", "_", boxed.image_id.removesuffix(".png"))
    return f"{boxed.finding.lower()}-{choice.rank}-{image}.png"


def draw(
    choice: Choice,
    picture: np.ndarray,
    heat_map: np.ndarray,
    cbam: tuple[np.ndarray, Sequence[np.ndarray]] | None = None,
) -> np.ndarray:
    """Draw one picture of the gallery.

    Args:
        choice: what is shown.
        picture: (S, S) uint8.
        heat_map: (S, S) from 0 to 1.
        cbam: spatial attention (S, S) and the channel weights of each member, (K,); None: not shown.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    width = panels(cbam=cbam is not None)[2] + 2 * _GAP_PX
    height = _HEAD_PX + _PANEL_PX + _FOOT_PX
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=_GROUND)
    canvas = FigureCanvasAgg(figure)
    page = _Page(figure, width, height)
    page.head(choice)
    axes = page.panel(0, picture)
    _outline(axes, choice.judged.boxed.stored, _DRAWN)
    page.caption(0, _boxes(len(choice.judged.boxed.stored)), _DRAWN)
    axes = page.panel(1, picture, heat_map)
    _outline(axes, choice.judged.boxed.stored, _DRAWN)
    _outline_region(axes, choice.judged)
    page.caption(1, _of_map(choice.judged), _PREDICTED)
    page.scale(1)
    if cbam:
        page.panel(2, picture, cbam[0])
        page.caption(2, f"CBAM: where, 0 to 1; below, {cbam[1][0].size:,} channels", _PREDICTED)
        page.channels(2, cbam[1])
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def panels(*, cbam: bool) -> list[int]:
    """Return x, y, width and height in pixels of the pictures in a drawing, without the words around."""
    count = 3 if cbam else 2
    return [_GAP_PX, _HEAD_PX, count * _PANEL_PX + (count - 1) * _GAP_PX, _PANEL_PX]


def describe(choice: Choice) -> dict[str, Any]:
    """Return the entry of `heatmaps.json`."""
    boxed, probability, found = choice.judged
    region = found.regions[LEVELS.index(LEVEL)]
    return {
        "file": f"gallery/{file_name(choice)}",
        "image_id": boxed.image_id,
        "split": boxed.split,
        "finding": boxed.finding,
        "choice": choice.rank,
        "probability": probability,
        "boxes": boxed.stored.tolist(),
        "region": region.tolist() if found.has_map else None,
        "iou": found.iou,
        "hit": found.hit,
    }


class _Page:
    """Places things on a figure by pixels from its upper left corner."""

    def __init__(self, figure: Figure, width: int, height: int) -> None:
        self._figure, self._width, self._height = figure, width, height

    def head(self, choice: Choice) -> None:
        """Write what is shown, and how good it is."""
        boxed, probability, found = choice.judged
        rank = f"{choice.rank} of {choice.of} by IoU" if choice.of > 1 else "the only one"
        verdict = ("hit" if found.hit else "miss") if found.has_map else "no map: a miss"
        self._text(_GAP_PX, 26, in_words(boxed.finding), _STRONG, 15, weight="bold")
        self._text(_GAP_PX, 50, f"{boxed.image_id} · {boxed.split} · {rank}", _PLAIN, 9.5)
        numbers = f"probability {probability:.2f} · IoU {found.iou:.2f} · {verdict}"
        self._text(self._width - _GAP_PX, 26, numbers, _STRONG, 11.5, ha="right")

    def panel(self, number: int, picture: np.ndarray, heat: np.ndarray | None = None) -> Axes:
        """Show a picture of (S, S) uint8, with a map from 0 to 1 over it."""
        side = len(picture)
        axes = self._axes(self._left(number), _HEAD_PX, _PANEL_PX, _PANEL_PX)
        shown = {"extent": (0, side, side, 0), "interpolation": "bicubic"}
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, **shown)
        if heat is not None:
            axes.imshow(heat, cmap=COLOURS, vmin=0, vmax=1, alpha=_OPACITY * heat, **shown)
        axes.set(xlim=(0, side), ylim=(side, 0))
        return axes

    def caption(self, number: int, text: str, colour: str) -> None:
        """Write below a panel, behind a dash of the colour that it speaks of."""
        left, y = self._left(number), _HEAD_PX + _PANEL_PX + 24
        self._text(left, y, "━", colour, 9)
        self._text(left + 18, y, text, _PLAIN, 9)

    def scale(self, number: int) -> None:
        """Draw the colours of a map, from 0 to its maximum."""
        left, top = self._left(number), _HEAD_PX + _PANEL_PX + 38
        axes = self._axes(left + 18, top, 160, 9)
        # Over the ground as over a dark place of the picture.
        values = np.linspace(0, 1, 160)
        rgb = colormaps[COLOURS](values)[:, :3]
        opacity = (_OPACITY * values)[:, None]
        axes.imshow((rgb * opacity + 0.07 * (1 - opacity))[None], aspect="auto")
        self._text(left, top + 8, "0", _PLAIN, 8)
        self._text(left + 186, top + 8, "the map's maximum", _PLAIN, 8)

    def channels(self, number: int, weights: Sequence[np.ndarray]) -> None:
        """Draw each channel's weight as a stripe, the members below each other."""
        left, top = self._left(number), _HEAD_PX + _PANEL_PX + 36
        high = 18 / len(weights)
        for member, values in enumerate(weights):
            axes = self._axes(left, top + member * high, _PANEL_PX, high)
            axes.imshow(
                values[None], cmap=COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="antialiased"
            )

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        place = (left / self._width, 1 - (top + height) / self._height, width / self._width)
        axes = self._figure.add_axes((*place, height / self._height), facecolor="black")
        axes.set(xticks=(), yticks=())
        for spine in axes.spines.values():
            spine.set_color(_RULE)
        return axes

    def _left(self, number: int) -> int:
        return _GAP_PX + number * (_PANEL_PX + _GAP_PX)

    def _text(self, x: float, y: float, text: str, colour: str, size: float, **more: Any) -> None:
        # The font has no other letters, and a warning for each would hide what matters.
        text = "".join(
            letter if letter.isprintable() and (ord(letter) < 0x250 or letter == "━") else "?"
            for letter in text
        )
        self._figure.text(
            x / self._width,
            1 - y / self._height,
            text,
            color=colour,
            fontsize=size,
            family="DejaVu Sans",
            parse_math=False,
            **more,
        )


def _goodness(judged: Judged) -> tuple[float, bool, float]:
    return judged.found.iou, judged.found.hit, judged.probability


def _outline(axes: Axes, boxes: np.ndarray, colour: str, style: str = "-") -> None:
    for x, y, width, height in boxes:
        edge = Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=1.8, linestyle=style)
        edge.set_path_effects([withStroke(linewidth=3.4, foreground=(0, 0, 0, 0.55))])
        axes.add_patch(edge)


def _outline_region(axes: Axes, judged: Judged) -> None:
    if judged.found.has_map:
        _outline(axes, judged.found.regions[LEVELS.index(LEVEL)][None], _PREDICTED, "--")
        edge = [withStroke(linewidth=3.4, foreground=(0, 0, 0, 0.55))]
        axes.plot(
            *judged.found.peak, marker="+", color=_PREDICTED, ms=11, mew=1.8, path_effects=edge, clip_on=False
        )


def _of_map(judged: Judged) -> str:
    if not judged.found.has_map:
        return "Grad-CAM: no place raises this finding"
    return f"Grad-CAM: + maximum, dashed: the region above {100 * LEVEL:.0f} % of it"


def _boxes(count: int) -> str:
    return "the drawn box" if count == 1 else f"the {count} drawn boxes"
