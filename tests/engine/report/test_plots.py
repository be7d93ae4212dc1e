from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from fabricated import history_csv
from matplotlib.figure import Figure

from engine.report import plots
from records.errors import RunError
from records.manifest import Manifest


def drawn(log: Path) -> Figure:
    """The last panel of a history, which has a legend."""
    return plots.history(plots.read_history(log))[-1][-1]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "history.csv"
    path.write_text(history_csv(6))
    return path


def test_the_history_has_six_panels_with_targets_and_the_best_epoch(log: Path) -> None:
    panels = plots.history(plots.read_history(log), best_epoch=4)
    assert [(title, target) for title, target, _ in panels] == [
        ("Loss", ""),
        ("Macro AUROC", "target 0.80"),
        ("Recall and specificity", ""),
        ("F1", "target 0.50"),
        ("Hamming loss", ""),
        ("PPV and NPV", ""),
    ]
    axes = [figure.axes[0] for _, _, figure in panels]
    dashed = [line for line in axes[1].get_lines() if line.is_dashed()]
    assert [line.get_ydata()[0] for line in dashed] == [0.80]
    for ax in axes:
        upright = [line for line in ax.get_lines() if list(line.get_ydata()) == [0, 1]]
        assert [list(line.get_xdata()) for line in upright] == [[4, 4]]
    assert axes[0].get_lines()[1].get_xydata()[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_without_a_word_from_the_run_the_best_epoch_is_that_of_the_highest_auroc(log: Path) -> None:
    _, _, figure = plots.history(plots.read_history(log))[0]
    assert list(figure.axes[0].get_lines()[0].get_xdata()) == [6, 6]


def test_columns_that_the_log_lacks_are_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_recall\n1,0.5,\n2,0.25,0.5\n")
    logged = plots.read_history(path)
    assert [title for title, _, _ in plots.history(logged)] == ["Loss", "Recall and specificity"]
    assert np.isnan(logged["val_recall"][0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no log of epochs; make it with `engine train`"),
        ("", "no epoch in it"),
        ("epoch,loss\n", "no epoch in it"),
        ("epoch,loss\n1,low\n", "could not convert string to float: 'low'"),
        ("epoch,loss\n1\n", "more or fewer cells than the header"),
    ],
)
def test_a_log_that_is_none_is_one_clear_line(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError, match=re.escape(reason)):
        plots.read_history(path)


def test_prevalence_shows_one_mark_for_each_finding_and_split(data_set: Manifest) -> None:
    (ax,) = plots.prevalence(data_set).axes
    assert [line.get_label() for line in ax.get_lines()] == ["train", "validation", "test"]
    expected = [100 * share for share in data_set.splits["train"].prevalence.values()]
    np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), expected)


def test_a_figure_becomes_one_svg_whose_ids_are_its_own(log: Path) -> None:
    first, second = (plots.to_svg(drawn(log), name) for name in ("a", "b"))
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
    svg = plots.to_svg(drawn(log), "a")
    assert "currentColor" in svg
    assert "var(--first)" in svg
    assert not re.findall(r"#[0-9a-f]{6}\b", svg)
    assert "DejaVu" not in svg


def test_equal_figures_give_equal_bytes(log: Path) -> None:
    assert plots.to_svg(drawn(log), "a") == plots.to_svg(drawn(log), "a")
    assert plots.to_png(drawn(log)).startswith(b"\x89PNG")
