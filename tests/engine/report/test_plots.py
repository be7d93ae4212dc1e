from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from fabricated import history_csv
from sklearn.metrics import roc_curve

from engine.evaluation.tables import Predictions
from engine.report import plots
from records.errors import RunError
from records.manifest import Manifest


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "history.csv"
    path.write_text(history_csv(6))
    return path


@pytest.fixture
def predictions() -> Predictions:
    random = np.random.default_rng(3)
    labels = (random.random((3000, 14)) < 0.3).astype(np.uint8)
    labels[:, 13] = 0
    scores = random.random((3000, 14)) * 0.6 + labels * 0.3
    return Predictions(np.arange(3000).astype(str), np.arange(3000), scores, labels)


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_the_roc_curve_is_scikit_learns_ties_included(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    labels = (random.random(400) < 0.2).astype(np.uint8)
    scores = np.round(random.random(400) + 0.2 * labels, decimals)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    ours = plots.roc_curve(labels, scores)
    np.testing.assert_allclose(ours[0], false)
    np.testing.assert_allclose(ours[1], true)


def test_a_roc_curve_without_positives_is_not_a_number() -> None:
    _, true = plots.roc_curve(np.zeros(5), np.arange(5.0))
    assert np.isnan(true).all()


def test_each_finding_has_a_panel_with_its_curve_and_area(predictions: Predictions) -> None:
    figure = plots.roc(predictions)
    assert len(figure.axes) == 15
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[7] == "Pleural thickening"
    assert titles[-1] == "Micro average"
    false, true = figure.axes[0].get_lines()[-1].get_data()
    assert len(false) <= plots.MAX_CURVE_POINTS
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    said = float(figure.axes[0].texts[0].get_text())
    assert np.trapezoid(true, false) == pytest.approx(said, abs=2e-3)
    assert figure.axes[13].texts[0].get_text() == "not defined"
    assert len(figure.axes[13].get_lines()) == 2


def test_the_history_has_six_panels_with_targets_and_the_best_epoch(log: Path) -> None:
    axes = plots.history(log, best_epoch=4).axes
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles == [
        "Loss",
        "Macro AUROC, target 0.80",
        "Recall and specificity",
        "F1, target 0.50",
        "Hamming loss",
        "PPV and NPV",
    ]
    dashed = [line for line in axes[1].get_lines() if line.is_dashed()]
    assert [line.get_ydata()[0] for line in dashed] == [0.80]
    for ax in axes:
        upright = [line for line in ax.get_lines() if list(line.get_ydata()) == [0, 1]]
        assert [list(line.get_xdata()) for line in upright] == [[4, 4]]
    assert axes[0].get_lines()[1].get_xydata()[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_without_a_word_from_the_run_the_best_epoch_is_that_of_the_highest_auroc(log: Path) -> None:
    upright = plots.history(log).axes[0].get_lines()[0]
    assert list(upright.get_xdata()) == [6, 6]


def test_columns_that_the_log_lacks_are_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_recall\n1,0.5,\n2,0.25,0.5\n")
    axes = plots.history(path, columns=1).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["Loss", "Recall and specificity"]
    assert np.isnan(plots.read_history(path)["val_recall"][0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no log of epochs; make it with `engine train`"),
        ("", "no epoch in it"),
        ("epoch,loss\n", "no epoch in it"),
        ("epoch,loss\n1,low\n", "could not convert string to float: 'low'"),
        ("epoch,loss\n1\n", "more or fewer cells than the header"),
        ("epoch,rate\n1,2\n", "none of the columns"),
    ],
)
def test_a_log_that_is_none_is_one_clear_line(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError, match=re.escape(reason)):
        plots.history(path)


def test_prevalence_shows_one_mark_for_each_finding_and_split(data_set: Manifest) -> None:
    (ax,) = plots.prevalence(data_set).axes
    assert [line.get_label() for line in ax.get_lines()] == ["train", "validation", "test"]
    expected = [100 * share for share in data_set.splits["train"].prevalence.values()]
    np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), expected)


def test_a_figure_becomes_one_svg_whose_ids_are_its_own(log: Path) -> None:
    first, second = (plots.to_svg(plots.history(log), name) for name in ("a", "b"))
    root = ElementTree.fromstring(first)
    assert root.tag.endswith("svg")
    assert root.get("viewBox")
    assert root.get("width") is None
    ids = [
        {e.get("id") for e in ElementTree.fromstring(svg).iter() if e.get("id")} for svg in (first, second)
    ]
    assert not ids[0] & ids[1]
    referred = set(re.findall(r'(?:href="|url\()#([^")]+)', first))
    assert referred
    assert referred <= ids[0]


def test_an_svg_takes_colour_and_type_from_the_page(log: Path) -> None:
    svg = plots.to_svg(plots.history(log), "a")
    assert "currentColor" in svg
    assert "var(--first)" in svg
    assert not re.findall(r"#[0-9a-f]{6}\b", svg)
    assert "DejaVu" not in svg


def test_equal_figures_give_equal_bytes(log: Path) -> None:
    assert plots.to_svg(plots.history(log), "a") == plots.to_svg(plots.history(log), "a")
    assert plots.to_png(plots.history(log)).startswith(b"\x89PNG")
