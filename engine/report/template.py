"""What the HTML pages share: how templates are filled, how numbers and pictures are written into them."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup, escape

from engine.report.contact_sheet import in_words
from records.manifest import Manifest

_JPEG_QUALITY = 88
_KINDS = {
    "official": "official split",
    "stratified": "stratified split by patient",
    "random": "random split by patient",
}
_SHORT_KINDS = {"official": "official", "stratified": "stratified", "random": "random"}


def render(name: str, filters: dict[str, Callable[..., str]] | None = None, **values: Any) -> str:
    """Fill a template of this package; whatever isn't `Markup` is escaped.

    Args:
        name: such as `data.html.j2`.
        filters: beside `count`, `percent`, `words` and `inline`.
        values: what the template names.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(groupby_runs=_runs_of_groups)
    environment.filters.update(count=count, percent=percent, words=in_words, inline=inline, **(filters or {}))
    return environment.get_template(name).render(**values)


def inline(text: str) -> Markup:
    """Write a sentence with its `code` and its **strong** words; all else is escaped."""
    escaped = str(escape(text))
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped))


def count(value: Any) -> str:
    """Write a whole number with commas; a dash where there is none."""
    return f"{value:,}" if isinstance(value, int) else "–"


def percent(share: float) -> str:
    """Write a share as a percentage with two decimals."""
    return f"{100 * share:.2f}"


def picture_source(picture: np.ndarray) -> str:
    """Turn a (rows, columns) grey or (rows, columns, 3) BGR uint8 picture into a JPEG in the page itself."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def kind_of_split(data_set: Manifest) -> str:
    """Say how a data set was split: `official split`."""
    return said_kind(data_set.split.get("strategy", ""))


def said_kind(strategy: str) -> str:
    """Say a strategy of splitting in words: `official split`."""
    return _KINDS.get(strategy, "split of unknown kind")


def short_kind(strategy: str) -> str:
    """Say a strategy of splitting in a word."""
    return _SHORT_KINDS.get(strategy, "split not stated")


def training_pixels(data_set: Manifest) -> str:
    """Say mean and deviation of the training pixels (0 to 255), if there are any."""
    mean, deviation = (data_set.statistics.get(key) for key in ("mean", "deviation"))
    if mean is None or deviation is None:
        return "none"
    return f"mean {mean:.2f}, deviation {deviation:.2f} (0 to 255)"


def data_facts(data_set: Manifest) -> list[tuple[str, str]]:
    """Return (name, value) of what a manifest says on table, split and pictures."""
    source, image, split = data_set.source, data_set.image, data_set.split
    side_px = image.get("side_px", "?")
    # The strategy first; what it is made of comes sorted from the manifest.
    others = {key: value for key, value in split.items() if key != "strategy" and not isinstance(value, dict)}
    return [
        ("Table", f"{source.get('table', '?')}, release {source.get('release', '?')}"),
        ("Split", ", ".join([split.get("strategy", "?"), *(f"{k} {_list(v)}" for k, v in others.items())])),
        ("Pictures", f"{side_px} × {side_px} px, {image.get('encoding', '?')}"),
        ("Reduced by", str(image.get("resize_kernel", "?"))),
        ("Training pixels", training_pixels(data_set)),
        ("Missing images", count(source.get("missing"))),
        ("Unreadable images", count(len(data_set.quarantined))),
        ("Excluded images", count(len(data_set.excluded))),
    ]


def _runs_of_groups(columns: Iterable[Any]) -> list[tuple[str, int]]:
    """Return (heading, columns below it) for each run of neighbours of one group; one without stands "
    "alone."""
    runs: list[tuple[str, int]] = []
    for group, members in itertools.groupby(columns, key=lambda column: column.group):
        width = len(list(members))
        runs += [(group, width)] if group else [("", 1)] * width
    return runs


def _list(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value).replace("_", " ")
