"""How the numbers of a report are written: three digits, an interval beside, a word where undefined."""

from __future__ import annotations

import math
from typing import Any

from engine.report.contact_sheet import in_words
from engine.report.document import Cell

UNDEFINED = "not defined"
_MOST_DECIMALS = 6
FEW_NOTE = "† fewer than 30 patients have the finding in this split."

Interval = dict[str, float | None]


def number(value: float | None, digits: int = 3) -> Cell:
    """Write a metric."""
    return _undefined() if value is None else Cell(f"{value:.{digits}f}", value)


def threshold(value: float | None) -> Cell:
    """Write a probability with three decimals, and a small one with two digits that say something."""
    if value is None or not 0 < value < 0.01:
        return number(value)
    digits = 1 - math.floor(math.log10(value))
    return Cell(f"{value:.{digits}f}" if digits <= _MOST_DECIMALS else f"{value:.1e}", value)


def signed(value: Interval | None, look: str = "") -> Cell:
    """Write a difference with its interval and its sign; strong where the interval leaves out 0."""
    if value is None or value["value"] is None:
        return _undefined()
    low, high = value["low"], value["high"]
    beside = f"[{low:+.3f}, {high:+.3f}]" if low is not None and high is not None else ""
    sure = low is not None and high is not None and (low > 0 or high < 0)
    return Cell(_sign(f"{value['value']:+.3f}"), value, _sign(beside), look or ("strong" if sure else ""))


def interval(value: Interval | None, look: str = "") -> Cell:
    """Write a metric with its interval."""
    if value is None or value["value"] is None:
        return _undefined()
    return Cell(f"{value['value']:.3f}", value, bounds(value), look)


def bounds(value: Interval | None) -> str:
    """Write an interval's ends: `[0.790, 0.833]`; nothing where there are none."""
    if value is None or value["low"] is None or value["high"] is None:
        return ""
    return f"[{value['low']:.3f}, {value['high']:.3f}]"


def in_line(value: Interval | None) -> str:
    """Write a metric with its interval in a sentence; no line breaks within."""
    return _unbroken(interval(value))


def difference_in_line(value: Interval | None) -> str:
    """Write a difference with its interval in a sentence; no line breaks within."""
    return _unbroken(signed(value))


def track(value: Interval | None, look: str = "") -> Cell:
    """Draw a metric with its interval."""
    if value is None or value["value"] is None:
        return Cell("")
    return Cell("", look=look, track=(value["low"], value["value"], value["high"]))


def percent(share: float | None, digits: int = 1) -> Cell:
    """Write a share as a percentage; the JSON keeps the share."""
    return _undefined() if share is None else Cell(f"{100 * share:.{digits}f}", share)


def percent_interval(value: Interval) -> Cell:
    """Write a share with its interval as percentages; the JSON keeps shares."""
    if value["value"] is None:
        return _undefined()
    low, high = value["low"], value["high"]
    beside = "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"
    return Cell(f"{100 * value['value']:.1f}", value, beside)


def count(value: int | None) -> Cell:
    """Write a whole number."""
    return Cell("–") if value is None else Cell(f"{value:,}", value)


def words(text: Any, look: str = "") -> Cell:
    """Write words."""
    return Cell("–" if text is None else str(text), text, look=look)


def finding(name: str, *, few: bool = False, look: str = "") -> Cell:
    """Write a finding's name; a dagger marks one of few patients."""
    return Cell(in_words(name) + (" †" if few else ""), name, look=look)


def _unbroken(cell: Cell) -> str:
    return f"{cell.text} {cell.beside}".strip().replace(" ", "\N{NO-BREAK SPACE}")


def _undefined() -> Cell:
    return Cell(UNDEFINED, None, look="undefined")


def _sign(text: str) -> str:
    # A hyphen is too short to be seen as a minus.
    return text.replace("-", "−")
