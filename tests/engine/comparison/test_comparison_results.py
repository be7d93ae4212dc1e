"""What a comparison tells: as JSON, as CSV, on the screen and as a picture."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import cv2
import pytest
from fabricated_comparison import compared, outcome, settings
from rich.console import Console

from engine.comparison import chart, results
from records.labels import FINDINGS
from records.manifest import Manifest


@pytest.fixture
def comparison(data_set: Manifest) -> results.Comparison:
    """`smoothed_bce` better than `bce`, `macro_f1` diverged with one seed; Hernia in no validation image."""
    data_set.splits["validation"].positives.update(dict.fromkeys(FINDINGS, 2), Hernia=0)
    config = settings("comparison.learning_rates=[0.001, 0.003, 0.01]")
    return compared(
        data_set,
        config,
        [
            [outcome(1.0, 1), outcome(1.0, 2)],
            [outcome(2.0, 1), outcome(2.0, 2)],
            [outcome(1.0, 1), outcome(1.0, 2, diverged=True)],
        ],
    )


def _printed(comparison: results.Comparison) -> str:
    console = Console(width=120, file=io.StringIO())
    results.print_table(comparison, console)
    return console.file.getvalue()


def test_the_table_says_who_is_better_what_intervals_are_of_and_what_is_not_defined(comparison) -> None:
    text = _printed(comparison)
    rows = [line.split()[:2] for line in text.splitlines()]
    ranked = [["1", "smoothed_bce"], ["2", "bce"], ["3", "macro_f1"]]
    assert [row for row in rows if row in ranked] == ranked
    assert "better" in text
    assert "baseline" in text
    assert "not defined" in text
    assert "diverged in 1 of 2" in text
    assert "draws of seeds and of validation patients" in text
    assert "AUROC not defined for Hernia" in text
    assert "1 of 1 pairs of losses are told apart" in text


def test_a_rate_at_the_edge_of_the_grid_is_marked(comparison) -> None:
    assert "0.001*" in _printed(comparison)
    assert "the lowest or highest of the rates" in _printed(comparison)


def test_json_and_csv_hold_the_same_and_what_all_losses_shared(comparison, tmp_path: Path) -> None:
    results.write(tmp_path, comparison)
    told = json.loads((tmp_path / "losses.json").read_text())
    with (tmp_path / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert told["seeds"] == {
        str(seed): {"initial_weights_sha256": f"weights {seed}", "record_order_sha256": f"order {seed}"}
        for seed in (1, 2)
    }
    assert (told["steps"], told["undefined_findings"]) == (10, ["Hernia"])
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert [row["loss"] for row in rows] == ["smoothed_bce,smoothing=0.1", "bce", "macro_f1"]
    for row, loss in zip(rows, told["losses"], strict=True):
        assert row["verdict"] == loss["verdict"]
        value = loss["macro_auroc"]["value"]
        assert row["macro_auroc"] == ("" if value is None else f"{value:.6f}")
        assert row["auroc_Hernia"] == ""
        assert loss["auroc"]["Hernia"] is None
    assert told["losses"][0]["tuning"] == {"0.001": 0.5, "0.003": 0.5, "0.01": 0.5}


def test_it_is_told_that_rates_were_chosen_on_the_same_patients_and_that_one_seed_is_one(
    data_set: Manifest, tmp_path: Path, comparison
) -> None:
    results.write(tmp_path, comparison)
    told = json.loads((tmp_path / "losses.json").read_text())
    assert told["choice_of_rates"] == (
        "each loss's rate was chosen by another seed on the same validation patients; the intervals leave "
        "that choice out"
    )
    assert told["choice_of_rates"] in _printed(comparison)
    single = compared(data_set, settings("comparison.seeds=[1]"), [[outcome(1.0, 1)]] * 3)
    assert "draws of validation patients" in _printed(single)
    assert "was chosen by another seed" not in _printed(single)
    results.write(tmp_path, single)
    assert json.loads((tmp_path / "losses.json").read_text())["choice_of_rates"] is None


def test_the_chart_shows_every_loss_and_names_those_that_diverged(comparison, tmp_path: Path) -> None:
    left, right = chart.draw(comparison).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["smoothed_bce", "bce", "macro_f1"]
    assert [text.get_text() for text in left.texts] == ["diverged in 1 of 2"]
    assert len(right.lines) == 1 + 2  # the line at 0; interval and value of smoothed_bce
    chart.write(tmp_path, comparison)
    assert cv2.imread(str(tmp_path / "losses.png")).shape[0] > 100
