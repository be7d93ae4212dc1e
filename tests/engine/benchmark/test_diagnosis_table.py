"""A diagnosis on a screen of 80 columns."""

from __future__ import annotations

import io

import fabricated_diagnosis as fabricated
from rich.console import Console

from engine.benchmark import diagnosis_table
from engine.benchmark.diagnosis import AUGMENT, GATHER, STAGES, STEP, Diagnosis


def printed(found: Diagnosis) -> str:
    screen = io.StringIO()
    Console(file=screen, width=80).print(*diagnosis_table.to_tables(found), sep="\n")
    return screen.getvalue()


def test_nothing_is_cut_off_at_80_columns() -> None:
    text = printed(fabricated.diagnosis(dict.fromkeys(STAGES, 234_567.0), network=245_678.0))
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert all(name in text for name in STAGES)


def test_stages_that_were_not_measured_stand_below_with_the_reason() -> None:
    text = printed(fabricated.diagnosis({GATHER: 80_000}))
    assert "decode: not measured: no decode here" in text


def test_reasons_that_are_the_same_are_told_once() -> None:
    reasons = diagnosis_table._reasons([fabricated.rate("a", None)] * 2)
    assert reasons == ["a, a: not measured: no a here"]


def test_the_device_s_time_at_work_is_held_against_what_is_wanted() -> None:
    found = fabricated.diagnosis(
        {GATHER: 80_000, STEP: 800}, step_ms=80, utilisation=fabricated.utilisation(0.97, 0.99)
    )
    text = printed(found)
    assert "first epoch, 60 of 60 steps: at work 0.970 of the time, wanted 0.98: missed" in text
    assert "after it, 125 steps: at work 0.990 of the time, wanted 0.98: met" in text


def test_an_epoch_that_was_cut_off_is_told() -> None:
    found = fabricated.diagnosis({GATHER: 80_000}, utilisation=fabricated.utilisation(0.99, None))
    assert "after it, not measured: the first epoch takes longer than --seconds" in printed(found)


def test_where_augmentation_ran_is_told() -> None:
    assert "augment: inside the step, on the CPU" in printed(
        fabricated.diagnosis({GATHER: 80_000, AUGMENT: 300})
    )


def test_the_usual_ways_are_compared_with_the_loop() -> None:
    table = diagnosis_table.rates_table(fabricated.diagnosis({GATHER: 80_000}))
    assert list(table.columns[4].cells) == ["300.0", "85.0", "1.0"]
    assert next(iter(table.columns[2].cells)) == "54,000–66,000"
