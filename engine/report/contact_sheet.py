"""A contact sheet: pictures of records side by side, each with what the table says of it below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from records import labels, picture, storage
from records.example import Record

FINDING_LINES = 2
_GROUND = 0x12
_STRONG, _PLAIN, _MARKED = "#f2f0ea", "#a9a8a3", "#f0b866"
# A power of two, so that sizes in inches come back as the same whole pixels.
_DPI = 64


class _Layout(NamedTuple):
    """Sizes of a sheet in pixels."""

    columns: int
    rows: int
    tile_px: int
    gap_px: int
    line_px: int

    @property
    def caption_px(self) -> int:
        return (2 + FINDING_LINES) * self.line_px + self.gap_px

    @property
    def width_px(self) -> int:
        return self.gap_px + self.columns * (self.tile_px + self.gap_px)

    @property
    def height_px(self) -> int:
        return self.gap_px + self.rows * (self.tile_px + self.caption_px + self.gap_px)

    def corner(self, number: int) -> tuple[int, int]:
        """Return x and y of the upper left corner of a tile."""
        row, column = divmod(number, self.columns)
        return (
            self.gap_px + column * (self.tile_px + self.gap_px),
            self.gap_px + row * (self.tile_px + self.caption_px + self.gap_px),
        )


def draw(records: Sequence[Record], columns: int = 4, tile_px: int = 320) -> np.ndarray:
    """Draw a sheet, row by row in the order of the records.

    Args:
        records: at least one.
        columns: tiles a row.
        tile_px: side of a tile.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        RecordError: a picture can't be decoded.
    """
    columns = min(columns, len(records))
    # The smallest type that stays legible bounds the lines from below.
    line_px = max(14, tile_px // 17)
    layout = _Layout(columns, math.ceil(len(records) / columns), tile_px, tile_px // 24, line_px)
    sheet = np.full((layout.height_px, layout.width_px), _GROUND, np.uint8)
    for number, record in enumerate(records):
        x, y = layout.corner(number)
        sheet[y : y + tile_px, x : x + tile_px] = _fit(picture.decode(record)[..., 0], tile_px)
    return _write_captions(sheet, records, layout)


def write_png(path: str | Path, sheet: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB sheet as a PNG file; it appears whole or not at all."""
    _, data = cv2.imencode(".png", sheet[..., ::-1])
    storage.write_bytes(str(path), data.tobytes())


def circumstances(record: Record) -> str:
    """Say age, sex and view: `58 y · F · PA`."""
    if math.isnan(record.age_years):
        age = "age unknown"
    elif record.age_years < 2:
        age = f"{record.age_years * 12:.0f} months"
    else:
        age = f"{record.age_years:.0f} y"
    return f"{age} · {record.sex} · {record.view}"


def findings(record: Record) -> str:
    """List the findings in words: `Pleural thickening, Mass`."""
    return ", ".join(in_words(name) for name in labels.decode(record.labels).split("|"))


def in_words(finding: str) -> str:
    """Turn `Pleural_Thickening` into `Pleural thickening`."""
    return finding.replace("_", " ").capitalize()


def _fit(image: np.ndarray, side_px: int) -> np.ndarray:
    if image.shape == (side_px, side_px):
        return image
    smaller = max(image.shape) > side_px
    return cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def _write_captions(sheet: np.ndarray, records: Sequence[Record], layout: _Layout) -> np.ndarray:
    """Write the captions onto an (H, W) sheet; return it as (H, W, 3)."""
    height, width = sheet.shape
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    # As colours: a colour map would move some grey values by one.
    figure.figimage(np.repeat(sheet[..., None], 3, axis=2))
    pen = _Pen(figure, canvas, layout)
    for number, record in enumerate(records):
        pen.caption(record, *layout.corner(number))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class _Pen:
    """Writes lines of type onto a figure, in pixels from its upper left corner."""

    def __init__(self, figure: Figure, canvas: FigureCanvasAgg, layout: _Layout) -> None:
        self._figure, self._renderer, self._layout = figure, canvas.get_renderer(), layout
        size_points = layout.line_px * 0.7 * 72 / _DPI
        self._plain = FontProperties(family="DejaVu Sans", size=size_points)
        self._strong = FontProperties(family="DejaVu Sans", size=size_points, weight="bold")

    def caption(self, record: Record, x: int, y: int) -> None:
        line_px = self._layout.line_px
        y += self._layout.tile_px + self._layout.gap_px // 2
        self._line(self._cut(_printable(record.image_id), self._strong), x, y, self._strong, _STRONG)
        self._line(circumstances(record), x, y + line_px, self._plain, _PLAIN)
        colour = _MARKED if record.labels.any() else _PLAIN
        for number, line in enumerate(self._wrap(findings(record)), start=2):
            self._line(line, x, y + number * line_px, self._plain, colour)

    def _line(self, text: str, x: int, y: int, font: FontProperties, colour: str) -> None:
        height_px = self._figure.bbox.height
        self._figure.text(
            x / self._figure.bbox.width,
            1 - (y + self._layout.line_px * 0.8) / height_px,
            text,
            fontproperties=font,
            color=colour,
            va="baseline",
            parse_math=False,
        )

    def _wrap(self, text: str) -> list[str]:
        """Break at spaces into at most `FINDING_LINES` lines; what is left over becomes an ellipsis."""
        lines: list[str] = []
        words = text.split(" ")
        while words and len(lines) < FINDING_LINES - 1:
            taken = 1
            while taken < len(words) and self._fits(" ".join(words[: taken + 1]), self._plain):
                taken += 1
            lines.append(self._cut(" ".join(words[:taken]), self._plain))
            words = words[taken:]
        return [*lines, self._cut(" ".join(words), self._plain)] if words else lines

    def _cut(self, text: str, font: FontProperties) -> str:
        if self._fits(text, font):
            return text
        while text and not self._fits(text + "…", font):
            text = text[:-1]
        return text.rstrip(" ,") + "…"

    def _fits(self, text: str, font: FontProperties) -> bool:
        width_px, _, _ = self._renderer.get_text_width_height_descent(text, font, False)
        return width_px <= self._layout.tile_px


def _printable(text: str) -> str:
    # The font has no other letters, and a warning for each would hide what matters.
    return "".join(letter if letter.isprintable() and ord(letter) < 0x250 else "?" for letter in text)
