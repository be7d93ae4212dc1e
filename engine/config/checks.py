"""Checks of single settings; each raises ConfigError with the key, what was found and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from records.errors import ConfigError


def choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        close = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
        nearest = f"; did you mean `{close[0]}`?" if close else ""
        raise ConfigError(f"{name} is `{value}`; expected one of {', '.join(choices)}{nearest}")


def below_one(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} is {value}; expected at least 0 and below 1")


def at_least(name: str, value: float, low: float) -> None:
    if not value >= low:
        raise ConfigError(f"{name} is {value}; expected at least {low}")


def between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}; expected {low} to {high}")
