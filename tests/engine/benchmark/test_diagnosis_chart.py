"""The chart of a diagnosis."""

from __future__ import annotations

from pathlib import Path

import cv2
import fabricated_diagnosis as fabricated
import pytest

from engine.benchmark import diagnosis_chart
from engine.benchmark.diagnosis import DECODE, GATHER, STEP
from engine.report.plots import SECOND
from records.errors import StorageError


def test_every_measured_rate_has_a_bar_with_its_figures() -> None:
    (ax,) = diagnosis_chart.draw(
        fabricated.diagnosis({GATHER: 200_000, DECODE: 8_000, STEP: 800}, step_ms=80)
    ).axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[:3] == [GATHER, DECODE, STEP]
    assert "ceiling: memory" in names
    assert "ceiling: network" not in names
    assert len(ax.patches) == len(names)
    written = {text.get_text() for text in ax.texts}
    assert {"200,000", "8,000", "0.125"} <= written


def test_the_stage_that_bounds_stands_out() -> None:
    (ax,) = diagnosis_chart.draw(fabricated.diagnosis({GATHER: 200_000, DECODE: 8_000})).axes
    assert [bar.get_facecolor() == pytest.approx(_rgba(SECOND)) for bar in ax.patches[:2]] == [False, True]


def test_the_file_is_a_picture_or_one_clear_error(tmp_path: Path) -> None:
    found = fabricated.diagnosis({GATHER: 80_000})
    diagnosis_chart.write(str(tmp_path / "chart.png"), found)
    assert cv2.imread(str(tmp_path / "chart.png")).shape[1] > 1000
    with pytest.raises(StorageError, match=r"chart\.png"):
        diagnosis_chart.write(str(tmp_path / "chart.png" / "chart.png"), found)


def _rgba(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgba

    return to_rgba(colour)
