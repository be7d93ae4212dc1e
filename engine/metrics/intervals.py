"""A value with its 95 % interval, made from what the value is on many draws.

What is drawn, and how often, is `bootstrap`'s.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95
_PERCENTILES = (2.5, 97.5)
# An interval of the draws in which a value happens to be defined says little where those are the fewer.
_DEFINED_SHARE = 0.5


class Interval(NamedTuple):
    """A value and its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval is on one side of 0; an undefined one isn't."""
        return self.low > 0 or self.high < 0


def of_draws(value: float, drawn: ArrayLike) -> Interval:
    """Return a value with the 2.5th and the 97.5th percentile of what it is on draws.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile interval).

    Args:
        value: on all data.
        drawn: (D,); NaN where a draw doesn't define it. Those draws are left out, and if more than half of
            the draws are such, the interval is undefined.
    """
    values = np.asarray(drawn, np.float64)
    defined = values[~np.isnan(values)]
    if math.isnan(value) or not defined.size or defined.size < _DEFINED_SHARE * values.size:
        return Interval(float(value), math.nan, math.nan)
    low, high = np.percentile(defined, _PERCENTILES)
    return Interval(float(value), float(low), float(high))


def as_json(interval: Interval) -> dict[str, float | None]:
    """Return an interval as JSON has it: `value`, `low` and `high`, null where undefined."""
    return {name: None if math.isnan(number) else number for name, number in interval._asdict().items()}
