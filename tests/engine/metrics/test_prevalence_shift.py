"""A shift of prevalence is warned of where it is both large and beyond chance."""

from __future__ import annotations

import math

import pytest

from engine.metrics import prevalence_shift
from records.errors import RunError
from records.labels import FINDINGS


def _shift(validation: int, of: int, test: int, test_of: int) -> prevalence_shift.Shift:
    (found,) = prevalence_shift.shifts([validation], of, [test], test_of, ["Hernia"])
    return found


def test_shares_and_their_ratio_come_by_finding_in_order() -> None:
    found = prevalence_shift.shifts([10] * 14, 100, [30] * 14, 200)
    assert [shift.finding for shift in found] == list(FINDINGS)
    assert found[0][1:4] == (0.1, 0.15, pytest.approx(1.5))


def test_the_official_splits_shift_of_pneumothorax_is_warned_of() -> None:
    # 2,637 of 86,524 images in train_val, 2,665 of 25,596 in test.
    found = _shift(2637, 86524, 2665, 25596)
    assert found.ratio == pytest.approx(3.4, abs=0.1)
    assert found.warned


@pytest.mark.parametrize(
    ("counts", "warned"),
    [
        ((1000, 10000, 1300, 10000), False),  # sure, but small
        ((1000, 10000, 1600, 10000), True),
        ((1600, 10000, 1000, 10000), True),
        ((2, 1000, 5, 1000), False),  # large, but may be chance
        ((0, 10000, 50, 10000), True),
        ((50, 10000, 0, 10000), True),
        ((0, 10, 1, 10), False),
        ((0, 10, 0, 10), False),
    ],
)
def test_a_shift_is_warned_of_where_it_is_both_large_and_beyond_chance(counts, warned: bool) -> None:
    assert _shift(*counts).warned is warned


def test_the_more_findings_are_compared_the_surer_a_warning_has_to_be() -> None:
    alone = prevalence_shift.shifts([5], 1000, [18], 1000, ["Hernia"])
    among = prevalence_shift.shifts([5] * 14, 1000, [18] * 14, 1000)
    assert alone[0].warned
    assert not among[0].warned


def test_without_a_positive_in_validation_or_without_images_there_is_no_ratio() -> None:
    assert math.isnan(_shift(0, 10, 5, 10).ratio)
    nobody = _shift(0, 0, 5, 10)
    assert math.isnan(nobody.validation)
    assert not nobody.warned


def test_counts_that_fit_no_finding_or_no_split_are_refused() -> None:
    with pytest.raises(RunError, match=r"shape \(2,\) for 14 findings"):
        prevalence_shift.shifts([1, 2], 10, [1] * 14, 10)
    with pytest.raises(RunError, match="counts from 11 to 11 of 10 images"):
        _shift(11, 10, 1, 10)
