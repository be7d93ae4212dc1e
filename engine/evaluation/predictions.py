"""`predictions.csv`: what a model says of each image of a split, who it is of, and what the table says.

All numbers of an evaluation are computed from this file, so that anyone can repeat them from it. N = images,
F = 14 findings in `labels.FINDINGS` order.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from records import storage
from records.errors import RunError
from records.labels import FINDINGS

FILE_NAME = "predictions.csv"
_WHO = ("image_id", "patient_id", "sex", "view", "age_years", "follow_up")
_PROBABILITIES, _LABELS, _LOGITS = (
    tuple(f"{kind}_{finding}" for finding in FINDINGS) for kind in ("probability", "label", "logit")
)
COLUMNS = (*_WHO, *_PROBABILITIES, *_LABELS, *_LOGITS)
_MADE_BY = "expected the predictions.csv of `engine evaluate`; evaluate again"
# Of a probability against that of its logit: far above rounding, far below what matters.
_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of each image of a split.

    Attributes:
        image_ids: (N,) str, unique.
        patient_ids: (N,) int64.
        logits: (N, F) float64, finite; ranking uses these, for probabilities near 1 are equal.
        labels: (N, F) uint8, 1 where the finding is reported.
        sex: (N,) str, F, M or empty.
        view: (N,) str, PA, AP or empty.
        age_years: (N,) float64, NaN where the table's age is impossible.
        follow_up: (N,) int64, 0 for a patient's first image.
    """

    image_ids: np.ndarray
    patient_ids: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    sex: np.ndarray
    view: np.ndarray
    age_years: np.ndarray
    follow_up: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def probabilities(self) -> np.ndarray:
        """(N, F) float64 from 0 to 1, the sigmoid of the logits."""
        return _sigmoid(self.logits)


def write(path: str | Path, predictions: Predictions) -> str:
    """Write one row an image; the file appears whole or not at all.

    Args:
        path: of the file.
        predictions: logits are kept as float32, of which each value comes back.

    Returns:
        The SHA-256 of the file's bytes.

    Raises:
        RunError: a logit is NaN or infinite; the line names its image.
    """
    data = to_csv(predictions)
    storage.write_bytes(str(path), data)
    return hashlib.sha256(data).hexdigest()


def to_csv(predictions: Predictions, model: str | Path = "the model") -> bytes:
    """Return the bytes of the file; see `write`. An error names `model` as who gave the logits."""
    _check_finite(str(model), predictions.image_ids, predictions.logits)
    logits = predictions.logits.astype(np.float32).astype(str)
    # Of the logits as they stand in the file, in all their digits, so that thresholds apply to them exactly.
    probabilities = _sigmoid(logits.astype(np.float64))
    who = {
        "image_id": predictions.image_ids,
        "patient_id": predictions.patient_ids,
        "sex": predictions.sex,
        "view": predictions.view,
        "age_years": predictions.age_years.astype(np.float32),
        "follow_up": predictions.follow_up,
    }
    parts = [
        pd.DataFrame(who),
        pd.DataFrame(probabilities, columns=list(_PROBABILITIES)),
        pd.DataFrame(predictions.labels, columns=list(_LABELS)),
        pd.DataFrame(logits, columns=list(_LOGITS)),
    ]
    return pd.concat(parts, axis=1).to_csv(index=False, lineterminator="\n").encode()


def read(path: str | Path) -> Predictions:
    """Read what `write` wrote.

    Raises:
        RunError: missing or empty, other columns, a cell that is no number, a logit that isn't finite, a
            probability that isn't its logit's, a label other than 0 and 1, or an image named twice.
    """
    if not Path(path).is_file():
        raise RunError(f"{path}: no predictions; make them with `engine evaluate`")
    return from_csv(storage.read_bytes(str(path)), path)


def from_csv(data: bytes, path: str | Path) -> Predictions:
    """Parse the bytes of the file; see `read`."""
    frame = _frame(data, path)
    logits, probabilities = (_floats(frame, names, path) for names in (_LOGITS, _PROBABILITIES))
    image_ids = frame["image_id"].to_numpy(str)
    _check_unique(path, image_ids)
    _check_finite(str(path), image_ids, logits)
    strange = ~(np.abs(probabilities - _sigmoid(logits)) <= _TOLERANCE)
    _refuse(frame, _PROBABILITIES, strange, "the probability of its logit", path)
    ages = frame["age_years"].where(frame["age_years"] != "", "nan")
    return Predictions(
        image_ids=image_ids,
        patient_ids=_integers(frame, "patient_id", path),
        logits=logits,
        labels=_checked_labels(frame, path),
        sex=frame["sex"].to_numpy(str),
        view=frame["view"].to_numpy(str),
        age_years=_floats(frame.assign(age_years=ages), ("age_years",), path)[:, 0],
        follow_up=_integers(frame, "follow_up", path),
    )


def _frame(data: bytes, path: str | Path) -> pd.DataFrame:
    """Every cell as text, with the columns checked."""
    try:
        frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.EmptyDataError) as error:  # also ParserError and UnicodeDecodeError
        raise RunError(f"{path}: not a CSV file: {error}; {_MADE_BY}") from error
    found = list(frame.columns)
    if found != list(COLUMNS):
        strange = next((name for name in found if name not in COLUMNS), None)
        lacking = next((name for name in COLUMNS if name not in found), None)
        what = f"no column `{lacking}`" if lacking else f"a strange column `{strange}`"
        what = what if lacking or strange else "columns in another order"
        raise RunError(f"{path}: {what}; {_MADE_BY}")
    if not len(frame):
        raise RunError(f"{path}: no row below the header; {_MADE_BY}")
    return frame


def _floats(frame: pd.DataFrame, names: tuple[str, ...], path: str | Path) -> np.ndarray:
    """(N, columns) float64 of cells of text."""
    values = np.empty((len(frame), len(names)))
    for column, name in enumerate(names):
        try:
            values[:, column] = frame[name].to_numpy(str).astype(np.float64)
        except ValueError as error:
            numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64)
            wrong = np.isnan(numbers) & (frame[name] != "nan").to_numpy()
            _refuse(frame, (name,), wrong[:, None], "a number", path)
            raise RunError(f"{path}: {name}: {error}; {_MADE_BY}") from error
    return values


def _integers(frame: pd.DataFrame, name: str, path: str | Path) -> np.ndarray:
    values = _floats(frame, (name,), path)
    whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)
    _refuse(frame, (name,), ~whole, "a whole number", path)
    return values[:, 0].astype(np.int64)


def _checked_labels(frame: pd.DataFrame, path: str | Path) -> np.ndarray:
    text = frame[list(_LABELS)].to_numpy(str)
    positive = text == "1"
    _refuse(frame, _LABELS, ~positive & (text != "0"), "0 or 1", path)
    return positive.astype(np.uint8)


def _refuse(
    frame: pd.DataFrame, names: tuple[str, ...], wrong: np.ndarray, expected: str, path: str | Path
) -> None:
    """Name the first cell that is wrong; rows are counted from 1 below the header."""
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        cell = frame[names[column]].iloc[row]
        raise RunError(
            f"{path}: row {row + 1}: {names[column]} is `{cell}`; expected {expected}; evaluate again"
        )


def _check_unique(path: str | Path, image_ids: np.ndarray) -> None:
    names, counts = np.unique(image_ids, return_counts=True)
    if (counts > 1).any():
        twice = names[counts > 1][0]
        raise RunError(f"{path}: {twice} stands twice; expected each image once; evaluate again")


def _check_finite(where: str, image_ids: np.ndarray, logits: np.ndarray) -> None:
    wrong = ~np.isfinite(logits)
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        raise RunError(
            f"{where}: {image_ids[row]}: the logit of {FINDINGS[column]} is {logits[row, column]} (such are "
            f"{wrong.sum():,} of {wrong.size:,}); the model gives numbers that are none: train again, with a "
            "lower train.learning_rate if it diverged"
        )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # exp(-softplus(-x)) is the sigmoid that overflows nowhere.
    return np.exp(-np.logaddexp(0.0, -logits))
