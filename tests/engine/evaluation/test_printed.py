from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from judged_runs import make_predictions
from rich.console import Console

from engine.evaluation import frozen, printed, summary

NAMED = {"split": "test", "split_strategy": "official", "test_reads": 1}


@pytest.fixture
def metrics() -> dict:
    known = make_predictions()
    chosen = frozen.choose(make_predictions(seed=11), {}, model_sha256="m", manifest_sha256="d")
    return NAMED | summary.summarise(known, {}, chosen, draws=40)


def _lines(metrics: dict, *, width: int = printed.WIDTH, **changes) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    printed.print_metrics(metrics, screen, **changes)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


def _row(lines: list[str], name: str, number: int = 0) -> str:
    return [line for line in lines if line.startswith(f" {name} ")][number]


def test_a_finding_has_its_intervals_prevalence_and_positives_by_images_and_patients(metrics: dict) -> None:
    row = _row(_lines(metrics), "Mass")
    found = metrics["findings"]["Mass"]
    for name in ("auroc", "auprc"):
        values = found[name]
        assert f"{values['value']:.3f} [{values['low']:.3f}, {values['high']:.3f}]" in row
    assert f"{found['prevalence']:.2%}" in row
    assert row.endswith(f"{found['positives']} / {found['positive_patients']}")


def test_what_is_not_defined_and_what_is_of_few_patients_is_said(metrics: dict) -> None:
    lines = _lines(metrics)
    assert " ".join(_row(lines, "Hernia").split()) == "Hernia not defined not defined 0.00% 0 / 0*"
    assert _row(lines, "Hernia", 1).split()[:3] == ["Hernia", "–", "/"]
    assert _row(lines, "Hernia", 1).split()[-2:] == ["–", "–"]
    assert any(line.startswith("* fewer than 30 patients") for line in lines)
    assert any(line.startswith("no threshold for Hernia: validation lacks") for line in lines)


def test_shares_found_are_shown_per_finding_and_in_total(metrics: dict) -> None:
    lines = _lines(metrics)
    half, youden, _ = metrics["operating_points"]
    found = youden["findings"]["Mass"]
    shown = f"{found['recall']:.2%} / {found['specificity']:.2%} [{found['threshold']:.2f}]"
    assert shown in _row(lines, "Mass", 1)
    total = half["total"]
    assert f"{total['recall']:.2%} / {total['specificity']:.2%}" in _row(lines, "in total")


def test_the_seven_metrics_stand_beside_those_of_calling_nothing_present(metrics: dict) -> None:
    lines = _lines(metrics)
    hamming = _row(lines, "Hamming loss").split()
    assert hamming[2] == f"{metrics['operating_points'][0]['total']['hamming_loss']:.3f}"
    assert hamming[-1] == f"{metrics['all_negative_baseline']['hamming_loss']:.3f}"
    assert _row(lines, "PPV").endswith("not defined")
    shown = f"{metrics['macro_auroc']['value']:.3f}"
    assert shown in _row(lines, "macro, 13 of 14")
    assert _row(lines, "multi-label AUC").split()[2:] == [shown, shown, shown, "0.500"]
    first = next(number for number, line in enumerate(lines) if line.startswith(" all findings together"))
    counted = _row(lines, "findings in the counts").split()[4:]
    assert " ".join(counted) == "of 14 of 13 of 13 of 14"
    assert [line.split()[0] for line in lines[first + 2 : first + 10]] == [
        "findings",
        "recall",
        "specificity",
        "multi-label",
        "PPV",
        "NPV",
        "F1",
        "Hamming",
    ]


def test_it_fits_into_100_columns_and_each_group_is_a_row(metrics: dict) -> None:
    lines = _lines(metrics)
    assert max(map(len, lines)) <= 100
    for group in metrics["subgroups"]:
        size = f"{group['images']} / {group['patients']}"
        assert any(group["group"] in line and size in line for line in lines)


@pytest.mark.parametrize("width", [80, 60])
def test_on_a_narrower_screen_columns_are_shown_in_turn_and_nothing_is_cut(metrics: dict, width: int) -> None:
    wide, narrow = _lines(metrics), _lines(metrics, width=width)
    assert max(map(len, narrow)) <= width
    assert not any("…" in line for line in narrow)
    shown = " ".join(narrow)
    for line in wide:
        # Cells are two spaces apart or more.
        for cell in (part.strip() for part in line.split("  ") if line.startswith(" ")):
            assert cell in shown or set(cell) == {"─"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.50"),
        (0.26449, "0.26"),
        (0.0478, "0.048"),
        (0.00031, "0.00031"),
        (0.0000213, "2.1e-05"),
        (0.99962, "0.99962"),
        (0.0, "0.0e+00"),
        (1.0, "1.00"),
    ],
)
def test_a_threshold_has_two_digits_that_say_something(value: float, shown: str) -> None:
    assert printed.threshold(value) == shown


def test_how_many_findings_are_counted_is_shown_only_where_it_differs() -> None:
    known = make_predictions()
    alone = NAMED | summary.summarise(known, {}, None, draws=40)
    assert not any(line.startswith(" findings in the counts") for line in _lines(alone))


def test_briefly_only_the_ranking_and_the_calibration_are_shown(metrics: dict) -> None:
    lines = _lines(metrics, brief=True)
    assert not any("subgroup" in line or "positives / negatives" in line for line in lines)
    assert any(line.startswith("calibration, mean of the findings: Brier score 0.") for line in lines)
    assert "  with temperatures fitted on validation for 13 of 14 findings:" in lines


def test_a_shifted_prevalence_and_a_second_reading_of_test_are_said(metrics: dict) -> None:
    shift = {"finding": "Pneumothorax", "validation": 0.0311, "test": 0.1042, "ratio": 3.35, "warned": True}
    rare = {"finding": "Hernia", "validation": 0.0, "test": 0.0, "ratio": None, "warned": False}
    lines = _lines(metrics | {"prevalence_shift": [shift, rare], "test_reads": 2})
    warnings = [line for line in lines if line.startswith(("warning", "note"))]
    assert warnings == [
        "warning: Pneumothorax is in 10.42% of the test images, but in 3.11% of validation's",
        "note: test was read 2 times in this run; see test_reads.json",
    ]


def test_one_patient_is_said_to_give_no_intervals() -> None:
    known = make_predictions()
    single = dataclasses.replace(known, patient_ids=np.zeros(len(known), np.int64))
    lines = _lines(NAMED | summary.summarise(single, {}, None, draws=40))
    assert any(line.startswith("one patient only: intervals are not defined") for line in lines)
    assert "[not defined]" in _row(lines, "Mass")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.5, 0.25, 0.75), "+0.500 [+0.250, +0.750]"),
        ((0.5, None, None), "+0.500 [not defined]"),
        ((None, None, None), "not defined"),
    ],
)
def test_an_interval_is_shown_as_far_as_it_is_defined(values: tuple, shown: str) -> None:
    assert printed.interval(dict(zip(("value", "low", "high"), values, strict=True)), "+") == shown
