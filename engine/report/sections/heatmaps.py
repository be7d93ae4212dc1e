"""Where the model looks: Grad-CAM against the radiologists' boxes, in numbers and in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2

from engine.report import cells, template
from engine.report.contact_sheet import in_words
from engine.report.document import Block, Column, Gallery, Paragraph, Picture, Section, Table, missing
from engine.report.run_files import RunFiles
from records.errors import RunError

PICTURES = 24
_LONGEST_PX = 720
_SHOWN_THRESHOLDS = ("0.1", "0.3", "0.5")


def section(run: RunFiles) -> Section:
    """Build the section.

    Raises:
        RunError: a picture of the gallery is missing or damaged.
    """
    title = "Where the model looks"
    command = run.make("heatmaps", "--boxes BBox_List_2017.csv")
    if run.heatmaps is None:
        return Section("heatmaps", title, [missing("No heat maps yet", command)])
    found = run.heatmaps
    blocks: list[Block] = []
    if run.shown and found.get("model_sha256") not in (None, run.shown.metrics.get("model_sha256")):
        blocks.append(
            Paragraph(
                f"**The heat maps are of another model** than the evaluation: `{command}`.", look="warning"
            )
        )
    note = _NOTE if run.phantom else _NOTE + _NOTE_ON_PATIENTS
    blocks += [Paragraph(_said(found, phantom=run.phantom)), _table(found), Paragraph(note, look="note")]
    if found.get("gallery"):
        blocks.append(_gallery(run.path / "heatmaps", found["gallery"]))
    return Section("heatmaps", title, blocks)


_NOTE = (
    "Pointing: the share of boxes in which the map’s highest point lies; by chance: a point thrown at "
    "random, which is the boxes’ mean share of the picture. IoU: overlap of the box with the box around "
    "the map’s highest values; beside it the share of boxes that reach an overlap. A heat map shows what "
    "moved the answer, not that the model understood it."
)
_NOTE_ON_PATIENTS = " The boxes are few, drawn by one team, and of images chosen for it."


def _said(found: dict[str, Any], *, phantom: bool) -> str:
    layers = found["layer"]
    layers = sorted(set(layers.values())) if isinstance(layers, dict) else [layers]
    named = " and ".join(f"`{layer}`" for layer in layers)
    weighed = ", weighed by CBAM’s attention" if found.get("attention") else ""
    drawn = "that the signs were drawn into" if phantom else "that radiologists drew"
    said = [
        f"Grad-CAM of the layer {named}{weighed}, against {found['boxes_used']:,} of "
        f"{found['boxes_in_list']:,} boxes {drawn}."
    ]
    if reasons := [
        f"{number:,} ({reason})" for reason, number in found.get("left_out", {}).items() if number
    ]:
        said.append(f"Left out: {'; '.join(reasons)}.")
    if without := found["total"].get("no_map"):
        said.append(f"{without:,} have no map, as no place raises the finding; they count as misses.")
    if learnt := found.get("splits", {}).get("train", {}).get("boxes"):
        said.append(f"{learnt:,} boxes are of training pictures, which the model has learnt from.")
    return " ".join(said)


def _table(found: dict[str, Any]) -> Table:
    shown = [key for key in _SHOWN_THRESHOLDS if key in found["total"]["iou_at"]]
    shown = shown or list(found["total"]["iou_at"])[:4]
    columns = [
        Column("finding", "Finding", "text"),
        Column("pointing", "Pointing"),
        Column("drawn", "", "drawn", scale=(0.0, 1.0)),
        Column("by_chance", "By chance"),
        Column("iou", "Mean IoU"),
        *(Column(f"iou_at_{key}", f"IoU ≥ {key}") for key in shown),
        Column("boxes", "Boxes"),
        Column("patients", "Patients"),
    ]
    rows = [_row(cells.finding(name), values, shown) for name, values in found["findings"].items()]
    total = _row(cells.words("Total")._replace(value="total"), found["total"], shown)
    return Table("boxes", columns, rows, [total], look="stacked")


def _row(name: Any, values: dict[str, Any], shown: list[str]) -> dict[str, Any]:
    return {
        "finding": name,
        "boxes": cells.count(values["boxes"]),
        "patients": cells.count(values["patients"]),
        "pointing": cells.interval(values["pointing"]),
        "by_chance": cells.number(values.get("by_chance")),
        "iou": cells.interval(values["iou"]),
        **{f"iou_at_{key}": cells.interval(values["iou_at"][key]) for key in shown},
        "drawn": cells.track(values["pointing"]),
    }


def _gallery(folder: Path, entries: list[dict[str, Any]]) -> Gallery:
    pictures = [_picture(folder, entry) for entry in entries[:PICTURES]]
    rest = len(entries) - len(pictures)
    return Gallery(
        "gallery",
        pictures,
        "The picture with the boxes, and the finding’s heat map over it; of each finding the best, the "
        "median and the worst by IoU. Hit: the map’s highest point lies in a box."
        + (f" {rest:,} more stand in `heatmaps/gallery`." if rest > 0 else ""),
        look="maps",
    )


def _picture(folder: Path, entry: dict[str, Any]) -> Picture:
    path = folder / entry["file"]
    picture = cv2.imread(str(path)) if path.is_file() else None
    if picture is None:
        what = "not a picture" if path.is_file() else "missing"
        raise RunError(f"{path}: {what}, but heatmaps.json names it; make it again with `engine heatmaps`")
    longest = max(picture.shape[:2])
    if longest > _LONGEST_PX:
        scale = _LONGEST_PX / longest
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    said = (
        f"probability {cells.number(entry.get('probability'), 2).text}, IoU "
        f"{cells.number(entry.get('iou'), 2).text}, {'hit' if entry.get('hit') else 'missed'}"
    )
    title = in_words(entry["finding"]) + (f", {entry['choice']}" if entry.get("choice") else "")
    return Picture(template.picture_source(picture), title, (str(entry["image_id"]), said))
