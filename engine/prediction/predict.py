"""`engine predict`: a run's model, or ensemble, on image files.

What becomes of one file's bytes is `pictures`', what a logit is called `calls`', what is printed `output`'s.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from engine import backend
from engine.prediction import calls, image_list
from engine.prediction.image_list import Named
from engine.prediction.output import Failure, Json, Tables, printable
from engine.prediction.pictures import as_stored, read_picture
from engine.training import run_data_set
from engine.training.run_directory import RunDirectory
from records.errors import CxrError, ImageError, RunError, UsageError
from records.labels import FINDINGS

BATCH = 32
_LINE_EVERY_S = 10.0
# How many of the locations an error names.
_SHOWN = 3


def run(run_dir: str, images: Sequence[str], *, as_json: bool = False, thresholds: str = "youden") -> int:
    """Predict images and print what is found.

    Args:
        run_dir: folder of the run.
        images: files, folders, objects or prefixes; PNG, JPEG or DICOM, as their content says.
        as_json: one JSON document in place of a table an image.
        thresholds: one of `calls.THRESHOLDS`.

    Returns:
        0, or 1 if a file couldn't be read; the others are predicted all the same.

    Raises:
        CxrError: the run is at fault, or there is no image at all.
    """
    calls.check_name(thresholds)
    known = RunDirectory(run_dir).read()
    named = _named(images)
    backend.load()
    from engine.evaluation.predictor import open_run

    predictor = open_run(run_dir)
    reading, note = calls.load(run_dir, predictor.sha256, thresholds)
    if note:
        print(f"note: {note}", file=sys.stderr)
    output = Json(reading, run_dir, predictor.sha256) if as_json else Tables(reading)
    jpeg_quality = run_data_set.jpeg_quality(known)
    failures: list[Failure] = []
    for files, pictures in _batches(_readable(named, predictor.side_px, failures)):
        stored = np.stack([as_stored(picture, predictor.channels, jpeg_quality) for picture in pictures])
        output.add(files, _finite(predictor.logits(stored), files, run_dir))
    output.end(failures)
    return 1 if failures else 0


def _named(images: Sequence[str]) -> list[Named]:
    if not images:
        raise UsageError("no image was named; expected files or folders of PNG, JPEG or DICOM")
    named = image_list.expand(images)
    if all(file.fault for file in named):
        faults = "; ".join(f"{file.location}: {file.fault}" for file in named[:_SHOWN])
        raise ImageError(f"no image to read: {faults}" + "; ..." * (len(named) > _SHOWN))
    return named


def _readable(named: list[Named], side_px: int, failures: list[Failure]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield file and (S, S, 1) picture of what can be read, say of the rest why not and note it."""
    next_line_s = time.monotonic() + _LINE_EVERY_S
    for number, file in enumerate(named):
        try:
            yield file.location, read_picture(image_list.read(file), side_px)
        except (CxrError, OSError) as error:
            reason = image_list.reason(file.location, error)
            failures.append(Failure(file.location, reason))
            print(f"{printable(file.location)}: {reason}", file=sys.stderr)
        if time.monotonic() >= next_line_s:
            print(f"{number + 1:,} of {len(named):,} files", file=sys.stderr, flush=True)
            next_line_s = time.monotonic() + _LINE_EVERY_S


def _batches(pictures: Iterator[tuple[str, np.ndarray]]) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    files: list[str] = []
    batch: list[np.ndarray] = []
    for file, picture in pictures:
        files.append(file)
        batch.append(picture)
        if len(files) == BATCH:
            yield files, batch
            files, batch = [], []
    if files:
        yield files, batch


def _finite(logits: np.ndarray, files: list[str], run_dir: str) -> np.ndarray:
    wrong = ~np.isfinite(logits)
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        raise RunError(
            f"{run_dir}: the model's logit of {FINDINGS[column]} for {files[row]} is {logits[row, column]}; "
            "expected a number: train again"
        )
    return logits
