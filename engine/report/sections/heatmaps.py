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
from records.manifest_check import is_inside

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
    if run.judged_sha256 and found.get("model_sha256") != run.judged_sha256:
        theirs = str(found.get("model_sha256"))[:12]
        said = f"The heat maps are of another model ({theirs}, the run’s is {run.judged_sha256[:12]})"
        return Section("heatmaps", title, [missing(said, command)])
    blocks: list[Block] = [Paragraph(_said(found, phantom=run.phantom)), _table(found)]
    blocks.append(_note(found, phantom=run.phantom))
    if found.get("gallery"):
        blocks.append(_gallery(run.path / "heatmaps", found))
    return Section("heatmaps", title, blocks)


_NOTE = (
    "All shares are of pictures with the finding, whatever the number of boxes in each. Pointing: the map’s "
    "highest point lies in one of the boxes; by chance: a point thrown at random, which hits as often as the "
    "boxes’ mean share of the picture. IoU: overlap of the box that fits best with the box around the "
    "map’s values above {level:.0f} % of its maximum; beside it the share of pictures that reach an overlap. "
    "In a total a picture counts once for each of its findings. Intervals are 95 % over patients; one from 0 "
    "to 0 says only that none of these few hit. A heat map shows what moved the answer, not that the model "
    "understood it."
)
_FEW = " † fewer than 30 patients: the number is uncertain."
_NOTE_ON_PATIENTS = " The boxes are few, drawn by one team, and of images chosen for it."


def _note(found: dict[str, Any], *, phantom: bool) -> Paragraph:
    said = _NOTE.format(level=100 * found["level"]) + ("" if phantom else _NOTE_ON_PATIENTS)
    few = any(values["few"] for values in found["findings"].values())
    return Paragraph(said + _FEW * few, look="note")


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
        Column("pairs", "Pictures"),
        Column("boxes", "Boxes"),
        Column("patients", "Patients"),
    ]
    rows = [
        _row(cells.finding(name, few=values["few"]), values, shown)
        for name, values in found["findings"].items()
    ]
    foot = [_row(cells.words("Total")._replace(value="total"), found["total"], shown)]
    splits = found["splits"] if len(found["splits"]) > 1 else {}
    for split, values in splits.items():
        foot.append(_row(cells.words(f"of {split}")._replace(value=split), values, shown))
    return Table("boxes", columns, rows, foot, look="stacked")


def _row(name: Any, values: dict[str, Any], shown: list[str]) -> dict[str, Any]:
    return {
        "finding": name,
        "pairs": cells.count(values["pairs"]),
        "boxes": cells.count(values["boxes"]),
        "patients": cells.count(values["patients"]),
        "pointing": cells.interval(values["pointing"]),
        "by_chance": cells.number(values.get("by_chance")),
        "iou": cells.interval(values["iou"]),
        **{f"iou_at_{key}": cells.interval(values["iou_at"][key]) for key in shown},
        "drawn": cells.track(values["pointing"]),
    }


def _gallery(folder: Path, found: dict[str, Any]) -> Gallery:
    entries = found["gallery"]
    pictures = [_picture(folder, entry, found["panels"]) for entry in entries[:PICTURES]]
    rest = len(entries) - len(pictures)
    said = [
        "Left the picture with the drawn boxes (blue), then the finding’s heat map over it: + its maximum, "
        f"dashed the region above {100 * found['level']:.0f} % of that. Each map has a scale of its own, "
        "from 0 (clear) to its maximum (light), so colours don’t compare between pictures. Of each finding "
        "the best, the median and the worst by IoU. Hit: the map’s highest point lies in a box. "
        "Probabilities are the model’s own, before any temperature."
    ]
    if found["asked"]["cbam"]:
        said.append("Last CBAM’s spatial attention, the same for all findings, from 0 to 1.")
    if rest > 0:
        said.append(f"{rest:,} more stand in `heatmaps/gallery`.")
    return Gallery("gallery", pictures, " ".join(said), look="maps")


def _picture(folder: Path, entry: dict[str, Any], panels: list[int]) -> Picture:
    if not is_inside(entry["file"]):
        raise RunError(
            f"{folder / 'heatmaps.json'}: names {entry['file']!r}, outside of its folder; make it again with "
            "`engine heatmaps`"
        )
    path = folder / entry["file"]
    picture = cv2.imread(str(path)) if path.is_file() else None
    if picture is None:
        what = "not a picture" if path.is_file() else "missing"
        raise RunError(f"{path}: {what}, but heatmaps.json names it; make it again with `engine heatmaps`")
    # The words beside them would be too small to read, and stand below in the page's own type.
    left, top, width, height = panels
    picture = picture[top : top + height, left : left + width]
    longest = max(picture.shape[:2])
    if longest > _LONGEST_PX:
        scale = _LONGEST_PX / longest
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    verdict = ("hit" if entry["hit"] else "missed") if entry["region"] else "no map: missed"
    said = (
        f"probability {cells.number(entry['probability'], 2).text}, IoU "
        f"{cells.number(entry['iou'], 2).text}, {verdict}"
    )
    title = f"{in_words(entry['finding'])}, {entry['choice']}"
    return Picture(template.picture_source(picture), title, (f"{entry['image_id']}, {entry['split']}", said))
