from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from judged_runs import make_predictions

from engine.evaluation import predictions
from engine.evaluation.predictions import COLUMNS, Predictions
from records.errors import RunError


@pytest.fixture
def known() -> Predictions:
    return make_predictions(60)


@pytest.fixture
def path(tmp_path: Path, known: Predictions) -> Path:
    path = tmp_path / "predictions.csv"
    predictions.write(path, known)
    return path


def test_predictions_come_back_as_they_were_written(path: Path, known: Predictions) -> None:
    read = predictions.read(path)
    for name, values in vars(known).items():
        if name == "logits":
            np.testing.assert_array_equal(read.logits.astype(np.float32), values.astype(np.float32))
        else:
            np.testing.assert_array_equal(getattr(read, name), values, err_msg=name)
            assert getattr(read, name).dtype.kind == values.dtype.kind


def test_the_probabilities_of_the_file_are_exactly_those_of_its_logits(path: Path) -> None:
    read = predictions.read(path)
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    written = np.array([row[6:20] for row in rows], np.float64)
    np.testing.assert_array_equal(written, read.probabilities)


def test_logits_keep_apart_what_probabilities_cannot(tmp_path: Path, known: Predictions) -> None:
    logits = known.logits + 50.0
    predictions.write(tmp_path / "high.csv", dataclasses.replace(known, logits=logits))
    read = predictions.read(tmp_path / "high.csv")
    assert (read.probabilities == 1.0).all()
    assert len(np.unique(read.logits)) == len(np.unique(logits.astype(np.float32)))


def test_the_columns_are_whom_probabilities_labels_and_logits_in_the_pinned_order(path: Path) -> None:
    header = path.read_text().splitlines()[0].split(",")
    assert header[:6] == ["image_id", "patient_id", "sex", "view", "age_years", "follow_up"]
    assert header[6] == "probability_Infiltration"
    assert header[19:21] == ["probability_Hernia", "label_Infiltration"]
    assert header[33:35] == ["label_Hernia", "logit_Infiltration"]
    assert len(header) == 48


def test_an_image_id_with_commas_quotes_and_line_breaks_survives(tmp_path: Path, known: Predictions) -> None:
    names = known.image_ids.astype("U40")
    names[:3] = ['a,"b"\nc', "ä", "NA"]
    predictions.write(tmp_path / "names.csv", dataclasses.replace(known, image_ids=names))
    assert predictions.read(tmp_path / "names.csv").image_ids.tolist() == names.tolist()


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        (
            "probability_Mass",
            "nan",
            "row 2: probability_Mass is `nan`; expected the probability of its logit",
        ),
        ("probability_Mass", "1.001", "row 2: probability_Mass is `1.001`; expected the probability"),
        ("probability_Mass", "high", "row 2: probability_Mass is `high`; expected a number"),
        ("logit_Mass", "", "row 2: logit_Mass is ``; expected a number"),
        ("logit_Mass", "nan", "00000000_001.png: the logit of Mass is nan"),
        ("logit_Mass", "-inf", "00000000_001.png: the logit of Mass is -inf"),
        ("label_Mass", "0.5", "row 2: label_Mass is `0.5`; expected 0 or 1"),
        ("patient_id", "1.5", "row 2: patient_id is `1.5`; expected a whole number"),
        ("age_years", "old", "row 2: age_years is `old`; expected a number"),
        ("image_id", "00000000_000.png", "00000000_000.png stands twice"),
    ],
)
def test_a_wrong_cell_is_one_line_that_names_row_and_column(
    path: Path, column: str, cell: str, reason: str
) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    lines[2][COLUMNS.index(column)] = cell
    path.write_text("\n".join(",".join(line) for line in lines))
    with pytest.raises(RunError) as error:
        predictions.read(path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("label_Mass,", "", "no column `label_Mass`"),
        ("label_Mass", "label_Mass,label_Flu", "a strange column `label_Flu`"),
        ("label_Mass,label_Pneumothorax", "label_Pneumothorax,label_Mass", "columns in another order"),
        ("0000000_000.png,0,", "0000000_000.png,", "predictions.csv: row 1: "),
    ],
)
def test_a_table_of_another_shape_is_refused(path: Path, old: str, new: str, reason: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RunError, match=reason):
        predictions.read(path)


def test_missing_empty_and_binary_files_are_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(RunError, match="no predictions; make them with `engine evaluate`"):
        predictions.read(tmp_path / "none.csv")
    header = path.read_text().splitlines()[0]
    path.write_text(header + "\n")
    with pytest.raises(RunError, match="no row below the header"):
        predictions.read(path)
    for content in (b"", b"\x89PNG\r\n", f'{header}\n"open'.encode()):
        path.write_bytes(content)
        with pytest.raises(RunError, match="evaluate again"):
            predictions.read(path)


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_a_logit_that_is_no_number_is_not_written_and_its_image_is_named(
    tmp_path: Path, known: Predictions, strange: float
) -> None:
    known.logits[7, 2] = strange
    with pytest.raises(RunError, match=r"00000002_001\.png: the logit of Atelectasis .* train again"):
        predictions.write(tmp_path / "strange.csv", known)
    assert not (tmp_path / "strange.csv").exists()
