"""A value's interval is that of the draws that define it, and JSON has null for what is not."""

from __future__ import annotations

import json
import math

import numpy as np

from engine.metrics import intervals
from engine.metrics.intervals import Interval


def test_an_interval_goes_from_the_2_5th_to_the_97_5th_percentile() -> None:
    assert intervals.of_draws(500, np.random.default_rng(1).permutation(1001)) == (500, 25, 975)


def test_undefined_draws_are_left_out_up_to_a_half_of_them() -> None:
    drawn = np.array([0.0, 1, 2, 3, math.nan, math.nan, math.nan, math.nan])
    assert intervals.of_draws(1.5, drawn) == intervals.of_draws(1.5, drawn[:4])
    assert np.isnan(intervals.of_draws(1.5, drawn[1:])).tolist() == [False, True, True]
    assert np.isnan(intervals.of_draws(1.5, drawn[4:])).tolist() == [False, True, True]
    assert np.isnan(intervals.of_draws(1.5, [])).tolist() == [False, True, True]


def test_an_undefined_value_has_no_interval() -> None:
    assert np.isnan(intervals.of_draws(math.nan, np.ones(10))).all()


def test_json_has_null_for_what_is_undefined() -> None:
    undefined = intervals.as_json(Interval(0.5, math.nan, math.nan))
    assert json.dumps(undefined, allow_nan=False) == '{"value": 0.5, "low": null, "high": null}'
    found = intervals.as_json(intervals.of_draws(np.float64(500), np.arange(1001)))
    assert json.dumps(found) == '{"value": 500.0, "low": 25.0, "high": 975.0}'


def test_zero_is_excluded_by_a_defined_interval_on_one_side_of_it() -> None:
    assert Interval(2, 1, 3).excludes_zero
    assert Interval(-2, -3, -1).excludes_zero
    assert not Interval(0, -1, 1).excludes_zero
    assert not Interval(0, 0, 0).excludes_zero
    assert not Interval(2, math.nan, math.nan).excludes_zero
