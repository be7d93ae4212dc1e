from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import average_precision_score, f1_score, hamming_loss, recall_score, roc_auc_score

from engine.evaluation import tables
from engine.evaluation.tables import Predictions
from records.errors import RunError
from records.labels import FINDINGS

IMAGES = 60
HERNIA = FINDINGS.index("Hernia")


@pytest.fixture
def predictions() -> Predictions:
    """Two images a patient; nobody has a hernia, and some probabilities are equal."""
    random = np.random.default_rng(3)
    labels = (random.random((IMAGES, 14)) < 0.3).astype(np.uint8)
    labels[:, HERNIA] = 0
    probabilities = np.round(random.random((IMAGES, 14)), 2).astype(np.float32)
    image_ids = np.array([f"{number // 2:08d}_{number % 2:03d}.png" for number in range(IMAGES)])
    return Predictions(image_ids, np.arange(IMAGES) // 2, probabilities, labels)


@pytest.fixture
def path(tmp_path: Path, predictions: Predictions) -> Path:
    path = tmp_path / "predictions.csv"
    tables.write_predictions(path, *vars(predictions).values())
    return path


def test_predictions_come_back_as_they_were_written(path: Path, predictions: Predictions) -> None:
    read = tables.read_predictions(path)
    assert read.image_ids.tolist() == predictions.image_ids.tolist()
    assert read.patient_ids.tolist() == predictions.patient_ids.tolist()
    assert read.labels.tolist() == predictions.labels.tolist()
    assert (read.probabilities.astype(np.float32) == predictions.probabilities).all()


def test_the_columns_are_ids_then_probabilities_then_labels_in_the_pinned_order(path: Path) -> None:
    header = path.read_text().splitlines()[0].split(",")
    assert header[:3] == ["image_id", "patient_id", "probability_Infiltration"]
    assert header[15:17] == ["probability_Hernia", "label_Infiltration"]
    assert len(header) == 30


def test_an_image_id_with_commas_quotes_and_line_breaks_survives(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    tables.write_predictions(path, ['a,"b"\nc', "ä"], [1, 2], np.zeros((2, 14)), np.zeros((2, 14), np.uint8))
    assert tables.read_predictions(path).image_ids.tolist() == ['a,"b"\nc', "ä"]


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("probability_Mass", "nan", "row 2: probability_Mass is nan; expected 0 to 1"),
        ("probability_Mass", "1.001", "row 2: probability_Mass is 1.001; expected 0 to 1"),
        ("probability_Mass", "-0.1", "row 2: probability_Mass is -0.1; expected 0 to 1"),
        ("probability_Mass", "high", "row 2: could not convert string to float: 'high'"),
        ("label_Mass", "0.5", "row 2: label_Mass is 0.5; expected 0 or 1"),
        ("patient_id", "1.5", "row 2: invalid literal for int"),
        ("image_id", "00000000_000.png", "00000000_000.png stands twice"),
    ],
)
def test_a_wrong_cell_is_one_line_that_names_row_and_column(
    path: Path, column: str, cell: str, reason: str
) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    lines[2][tables.COLUMNS.index(column)] = cell
    path.write_text("\n".join(",".join(line) for line in lines))
    with pytest.raises(RunError) as error:
        tables.read_predictions(path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("label_Mass,", "", "no column `label_Mass`"),
        ("label_Mass", "label_Mass,label_Flu", "a strange column `label_Flu`"),
        ("label_Mass,label_Pneumothorax", "label_Pneumothorax,label_Mass", "columns in another order"),
        ("0000000_000.png,0,", "0000000_000.png,", "row 1: 29 cells; expected 30"),
    ],
)
def test_a_table_of_another_shape_is_refused(path: Path, old: str, new: str, reason: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RunError, match=reason):
        tables.read_predictions(path)


def test_missing_empty_and_binary_files_are_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(RunError, match="no predictions; make them with `engine evaluate`"):
        tables.read_predictions(tmp_path / "none.csv")
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(RunError, match="no row below the header"):
        tables.read_predictions(path)
    for content in (b"", b"\x89PNG\r\n"):
        path.write_bytes(content)
        with pytest.raises(RunError, match="evaluate again"):
            tables.read_predictions(path)


def test_the_summary_agrees_with_scikit_learn(predictions: Predictions) -> None:
    metrics = tables.summarise(predictions)
    labels, scores = predictions.labels[:, :HERNIA], predictions.probabilities[:, :HERNIA]
    assert metrics["macro_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert metrics["macro_auprc"] == pytest.approx(average_precision_score(labels, scores))
    assert metrics["micro_auroc"] == pytest.approx(
        roc_auc_score(predictions.labels.ravel(), predictions.probabilities.ravel())
    )
    mass = FINDINGS.index("Mass")
    expected = roc_auc_score(labels[:, mass], scores[:, mass])
    assert metrics["findings"]["Mass"]["auroc"] == pytest.approx(expected)
    called = predictions.probabilities >= 0.5
    counts = metrics["counts_at_threshold"]
    assert counts["recall"] == pytest.approx(recall_score(predictions.labels, called, average="micro"))
    assert counts["f1"] == pytest.approx(f1_score(predictions.labels, called, average="micro"))
    assert counts["hamming_loss"] == pytest.approx(hamming_loss(predictions.labels, called))


def test_positives_are_counted_by_images_and_by_patients(predictions: Predictions) -> None:
    metrics = tables.summarise(predictions)
    positive = np.flatnonzero(predictions.labels[:, 0])
    infiltration = metrics["findings"]["Infiltration"]
    assert infiltration["positives"] == len(positive)
    assert infiltration["positive_patients"] == len(set(predictions.patient_ids[positive].tolist()))
    assert infiltration["positive_patients"] < infiltration["positives"]
    assert infiltration["prevalence"] == len(positive) / IMAGES
    assert (metrics["images"], metrics["patients"]) == (IMAGES, IMAGES // 2)


def test_what_is_not_defined_is_null_in_json_and_counts_in_no_mean(predictions: Predictions) -> None:
    metrics = json.loads(json.dumps(tables.summarise(predictions), allow_nan=False))
    assert metrics["findings"]["Hernia"]["auroc"] is None
    assert metrics["findings"]["Hernia"]["auprc"] is None
    assert metrics["findings"]["Hernia"]["positives"] == 0
    assert metrics["defined_findings"] == 13
    assert metrics["all_negative_baseline"]["ppv"] is None
    assert metrics["all_negative_baseline"]["specificity"] == 1.0


def test_the_threshold_moves_the_counts_and_nothing_else(predictions: Predictions) -> None:
    low, high = (tables.summarise(predictions, threshold=threshold) for threshold in (0.1, 0.9))
    assert low["counts_at_threshold"]["recall"] > high["counts_at_threshold"]["recall"]
    assert low["findings"] == high["findings"]
    assert low["all_negative_baseline"] == high["all_negative_baseline"]


def test_the_printed_table_ends_with_the_macro_row_and_says_what_is_not_defined(
    predictions: Predictions,
) -> None:
    metrics = tables.summarise(predictions)
    console = Console(file=io.StringIO(), width=80, markup=False)
    tables.print_table(metrics, console)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    hernia, macro = (next(line for line in lines if line.startswith(f" {n}")) for n in ("Hernia", "macro"))
    assert hernia.split() == ["Hernia", "0", "/", "0", "0.00%", "not", "defined", "not", "defined"]
    assert macro.split()[-2:] == [f"{metrics['macro_auroc']:.3f}", f"{metrics['macro_auprc']:.3f}"]
    assert lines.index(macro) > lines.index(hernia)
    assert max(map(len, lines)) <= 80
