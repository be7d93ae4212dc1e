"""`engine heatmaps`: where a run's model looks, against the boxes that radiologists drew.

    heatmaps/gallery/*.png
    heatmaps/boxes.csv
    heatmaps/heatmaps.json   last: with it the maps are done

Pictures of the test split are read only after `engine evaluate` has judged this model on it, and that reading
is recorded beside the others.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine import backend
from engine.evaluation import frozen, lock, models, reads
from engine.heatmaps import boxed_images, gallery, scores, table
from engine.heatmaps import boxes as geometry
from engine.heatmaps.boxed_images import Selection
from engine.metrics.draws import check_draws
from engine.report import contact_sheet
from engine.training import run_data_set, run_directory
from engine.training.run_directory import RunDirectory
from records import json_text, manifest, storage
from records.errors import RunError, UsageError
from records.labels import BOX_ALIASES, FINDINGS
from records.manifest import Manifest
from records.table import read_boxes

FOLDER, FILE_NAME, BOXES_NAME, GALLERY = "heatmaps", "heatmaps.json", "boxes.csv", "gallery"
METHOD = "grad-cam"


class _Asked(NamedTuple):
    """All that decides on the files, as `heatmaps.json` keeps it."""

    model_sha256: str
    manifest_sha256: str
    boxes_sha256: str
    findings: list[str]
    attention: bool
    cbam: bool
    images: int
    draws: int
    splits: list[str]


def run(
    run_dir: str,
    boxes: str,
    *,
    data: str | None = None,
    findings: str | Sequence[str] | None = None,
    attention: bool = False,
    cbam: bool = False,
    images: int = 24,
    draws: int = 1000,
) -> int:
    """Make the heat maps of all boxed findings and hold them against the boxes.

    Args:
        run_dir: folder of the run or ensemble.
        boxes: location of `BBox_List_2017.csv`, gzipped or plain.
        data: location of the manifest, where it isn't where the run found it.
        findings: names, some or all in one text with commas between them; None: all that have boxes.
        attention: weigh the features after CBAM, not the last convolution's.
        cbam: show CBAM's own maps in the gallery.
        images: of the gallery, at most.
        draws: of patients, for the intervals.

    Returns:
        0.

    Raises:
        UsageError: an unknown finding, or a number below what makes sense.
        CxrError: run directory, model, data set or box list are at fault.
    """
    wanted = _findings(findings)
    if images < 0:
        raise UsageError(f"--images is {images}; expected at least 0")
    check_draws(draws)
    directory = RunDirectory(run_dir)
    listed = read_boxes(boxes)
    boxes_sha256 = hashlib.sha256(storage.read_bytes(boxes)).hexdigest()
    known = directory.read()
    if known["state"] != run_directory.FINISHED:
        _say(f"note: {directory.path}: {run_directory.summary(directory)}")
    data_set = run_data_set.find(known, data)
    manifest.check_files(data_set)
    # The record of what read test has one writer at a time, and so has the gallery.
    with lock.held(directory.path):
        names = models.find(run_dir).sha256, data_set.sha256, boxes_sha256
        splits = _readable(directory, data_set, names[0])
        asked = _Asked(*names, wanted, attention, cbam, images, draws, splits)
        _show(directory.path / FOLDER, _known_or_made(directory, data_set, listed, asked, boxes))
    return 0


def _known_or_made(
    directory: RunDirectory, data_set: Manifest, listed: Sequence[Any], asked: _Asked, location: str
) -> dict[str, Any]:
    folder = directory.path / FOLDER
    known = _done(folder, asked)
    if known is not None:
        _say(f"{folder}: of this model, these boxes and settings; not made again")
        return known
    selection = _select(data_set, listed, asked, location)
    return _make(directory, data_set, selection, asked, len(listed))


def _findings(asked: str | Sequence[str] | None) -> list[str]:
    if asked is None:
        return list(FINDINGS)
    names = (asked if isinstance(asked, str) else ",".join(asked)).split(",")
    names = [name.strip() for name in names]
    names = [BOX_ALIASES.get(name, name) for name in names if name]
    strange = [name for name in names if name not in FINDINGS]
    if strange or not names:
        what = f"unknown finding `{strange[0]}`" if strange else "no finding"
        raise UsageError(f"--findings: {what}; expected some of {', '.join(FINDINGS)}")
    return [finding for finding in FINDINGS if finding in names]


def _readable(directory: RunDirectory, data_set: Manifest, model_sha256: str) -> list[str]:
    """Return the splits whose pictures may be read: test once this model was judged on it."""
    path = directory.evaluation_path("test") / "metrics.json"
    try:
        judged = json_text.parse(path.read_bytes()) if path.is_file() else {}
        is_judged = (judged.get("model_sha256"), judged.get("manifest_sha256")) == (
            model_sha256,
            data_set.sha256,
        )
    except (ValueError, AttributeError) as error:
        raise RunError(f"{path}: damaged ({error}); remove {path.parent} and evaluate again") from error
    return ["train", "validation", "test"] if is_judged else ["train", "validation"]


def _done(folder: Path, asked: _Asked) -> dict[str, Any] | None:
    """Return what `heatmaps.json` holds if it is of the same and all of its files stand."""
    try:
        known = json_text.parse((folder / FILE_NAME).read_bytes())
        files = [BOXES_NAME, *(entry["file"] for entry in known["gallery"])]
        is_same = known["schema"] == scores.SCHEMA and known["asked"] == asked._asdict()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if is_same and all((folder / name).is_file() for name in files) else None


def _record_reading(directory: RunDirectory, asked: _Asked) -> None:
    folder = directory.path / "evaluation"
    chosen = folder / frozen.FILE_NAME
    entry = {
        "model_sha256": asked.model_sha256,
        "manifest_sha256": asked.manifest_sha256,
        "frozen_sha256": hashlib.sha256(chosen.read_bytes()).hexdigest() if chosen.is_file() else None,
    }
    reads.append(folder / reads.FILE_NAME, entry)


def _select(data_set: Manifest, listed: Sequence[Any], asked: _Asked, location: str) -> Selection:
    if not listed:
        raise RunError(f"{location}: no boxes in it; expected the NIH's BBox_List_2017.csv")
    if "test" not in asked.splits:
        _say("test was not judged yet: only boxes in train and validation (`engine evaluate` judges it)")
    _say(f"looking for the boxed images in {', '.join(asked.splits)} ...")
    selection = boxed_images.select(data_set, listed, asked.splits, asked.findings)
    if not selection.boxed:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in selection.left_out.items())
        raise RunError(f"{location}: none of its {len(listed):,} boxes can be judged: {reasons}")
    return selection


def _make(
    directory: RunDirectory,
    data_set: Manifest,
    selection: Selection,
    asked: _Asked,
    boxes_in_list: int,
) -> dict[str, Any]:
    backend.load()
    from engine.heatmaps import passes
    from engine.heatmaps.run_maps import open_maps

    maps = open_maps(directory.path, attention=asked.attention, cbam=asked.cbam)
    if any(one.split == "test" for one in selection.boxed):
        _record_reading(directory, asked)
    judged = passes.judge(maps, data_set, selection.boxed)
    chosen = gallery.choose(judged, asked.images)
    pictures = passes.draw(maps, data_set, chosen, asked.cbam)
    layers = set(maps.layers.values())
    numbers = {
        "schema": scores.SCHEMA,
        "model_sha256": asked.model_sha256,
        "manifest_sha256": asked.manifest_sha256,
        "method": METHOD,
        "layer": layers.pop() if len(layers) == 1 else maps.layers,
        "attention": asked.attention,
        "level": geometry.LEVEL,
        "levels": list(geometry.LEVELS),
        "thresholds": list(geometry.IOU_THRESHOLDS),
        "bootstrap": {"draws": asked.draws, "seed": 0, "unit": "patient", "interval": 0.95},
        "boxes_in_list": boxes_in_list,
        "boxes_used": sum(len(one.stored) for one in selection.boxed),
        "left_out": selection.left_out,
        **scores.summarise(judged, data_set.image["side_px"], asked.draws),
        "gallery": [gallery.describe(choice) for choice in chosen],
        "panels": gallery.panels(cbam=asked.cbam),
        "asked": asked._asdict(),
    }
    _write(directory.path / FOLDER, numbers, scores.to_csv(judged), pictures)
    return numbers


def _write(folder: Path, numbers: dict[str, Any], rows: bytes, pictures: dict[str, np.ndarray]) -> None:
    """Write all files; without `heatmaps.json`, which goes first and comes last, none of them counts."""
    (folder / FILE_NAME).unlink(missing_ok=True)
    for stale in (folder / GALLERY).glob("*.png"):
        stale.unlink()
    for name, picture in pictures.items():
        contact_sheet.write_png(folder / GALLERY / name, picture)
    storage.write_bytes(str(folder / BOXES_NAME), rows)
    text = json.dumps(numbers, indent=1, allow_nan=False) + "\n"
    storage.write_bytes(str(folder / FILE_NAME), text.encode())


def _show(folder: Path, numbers: dict[str, Any]) -> None:
    table.show(numbers)
    print(f"{folder / GALLERY}: {len(numbers['gallery'])} pictures")
    print(folder / BOXES_NAME, folder / FILE_NAME, sep="\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
