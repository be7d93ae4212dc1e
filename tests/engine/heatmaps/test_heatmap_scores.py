"""The numbers of `heatmaps.json`, from maps that are known."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from engine.heatmaps import boxes, gallery, scores
from engine.heatmaps.boxed_images import BoxedFinding
from engine.heatmaps.scores import Judged
from records.labels import FINDINGS

SIDE = 20


def judge(number: int, finding: str, given: list[list[float]], spot: list[int] | None, **more) -> Judged:
    """A map that is 1 in `spot` (x, y, width, height) and 0 elsewhere; None: 0 throughout."""
    heat = np.zeros((SIDE, SIDE))
    if spot:
        heat[spot[1] : spot[1] + spot[3], spot[0] : spot[0] + spot[2]] = 1
    stored = np.array(given, float)
    who = {"image_id": f"{number:08d}_000.png", "patient_id": number, "split": "test", "row": number}
    boxed = BoxedFinding(**(who | more), finding=finding, drawn=stored * 51.2, stored=stored)
    return Judged(boxed, 0.25, boxes.find(heat, stored))


@pytest.fixture
def judged() -> list[Judged]:
    return [
        judge(1, "Mass", [[0, 0, 10, 10]], [0, 0, 10, 10]),  # IoU 1
        judge(2, "Mass", [[0, 0, 10, 10], [10, 10, 5, 5]], [10, 10, 5, 4]),  # IoU 0.8, of the second box
        judge(3, "Mass", [[0, 0, 10, 10]], None),
        judge(4, "Nodule", [[0, 0, 2, 2]], [10, 10, 4, 4]),  # IoU 0
    ]


def test_each_finding_in_a_picture_counts_once_with_its_best_box(judged):
    summary = scores.summarise(judged, SIDE, 50)
    mass, total = summary["findings"]["Mass"], summary["total"]
    assert list(summary["findings"]) == ["Nodule", "Mass"]
    assert (mass["boxes"], mass["pairs"], mass["images"], mass["patients"]) == (4, 3, 3, 3)
    assert mass["iou"]["value"] == pytest.approx((1 + 0.8 + 0) / 3)
    assert [mass["iou_at"][at]["value"] for at in ("0.1", "0.7")] == [pytest.approx(2 / 3)] * 2
    assert mass["by_chance"] == pytest.approx((100 + 125 + 100) / 3 / 400)
    assert total["iou"]["value"] == pytest.approx(1.8 / 4)
    assert (total["boxes"], total["pairs"]) == (5, 4)


def test_a_finding_without_a_map_is_a_miss_and_counted(judged):
    mass = scores.summarise(judged, SIDE, 50)["findings"]["Mass"]
    assert mass["no_map"] == 1
    assert mass["pointing"]["value"] == pytest.approx(2 / 3)


def test_intervals_are_drawn_by_patient_and_undefined_for_one():
    one = [judge(7, "Mass", [[0, 0, 9, 9]], [0, 0, n, 9], row=n) for n in (3, 6, 9)]
    group = scores.summarise(one, SIDE, 50)["total"]
    assert group["patients"] == 1
    assert group["few"]
    assert group["iou"] == {"value": pytest.approx(2 / 3), "low": None, "high": None}
    many = [judge(n, "Mass", [[0, 0, 9, 9]], [0, 0, n % 9 + 1, 9]) for n in range(30)]
    total = scores.summarise(many, SIDE, 50)["total"]
    assert not total["few"]
    told = total["iou"]
    assert told["low"] < told["value"] < told["high"]


def test_splits_are_told_apart(judged):
    seen = judge(9, "Mass", [[0, 0, 10, 10]], [0, 0, 10, 10], split="train")
    splits = scores.summarise([seen, *judged], SIDE, 50)["splits"]
    assert {split: group["pairs"] for split, group in splits.items()} == {"train": 1, "test": 4}


def test_the_table_has_a_row_for_each_box(judged):
    rows = list(csv.DictReader(io.StringIO(scores.to_csv(judged).decode())))
    assert len(rows) == 5
    assert [float(row["iou"]) for row in rows] == pytest.approx([1, 0, 0.8, 0, 0])
    assert [row["hit"] for row in rows] == ["1", "1", "1", "0", "0"]
    assert [float(rows[2][f"region_{side}"]) for side in "xywh"] == [10, 10, 5, 4]
    assert [float(rows[2][f"drawn_{side}"]) for side in "xywh"] == [512, 512, 256, 256]
    assert rows[3]["peak_x"] == rows[3]["region_w"] == ""


def test_the_gallery_shows_best_median_and_worst_of_each_finding():
    many = [judge(n, "Mass", [[0, 0, 10, 10]], [0, 0, n, 10]) for n in range(1, 8)]
    lone = judge(9, "Hernia", [[0, 0, 9, 9]], None)
    pair = [judge(10 + n, "Nodule", [[0, 0, 10, 10]], [0, 0, n, 10]) for n in (2, 5)]
    chosen = gallery.choose([*many, lone, *pair], 24)
    told = [(one.judged.boxed.finding, one.rank, one.judged.boxed.patient_id) for one in chosen]
    assert told == [
        ("Nodule", "best", 15),
        ("Nodule", "worst", 12),
        ("Mass", "best", 7),
        ("Mass", "median", 4),
        ("Mass", "worst", 1),
        ("Hernia", "only", 9),
    ]
    assert len({gallery.file_name(one) for one in chosen}) == 6


def test_a_small_gallery_is_no_gallery_of_the_best():
    many = [judge(n, finding, [[0, 0, 10, 10]], [0, 0, n, 10]) for finding in FINDINGS for n in (1, 5, 9)]
    assert [one.rank for one in gallery.choose(many, 14)] == ["median"] * 14
    assert sorted({one.rank for one in gallery.choose(many, 28)}) == ["median", "worst"]
    assert gallery.choose(many, 0) == []


def test_a_drawing_shows_the_boxes_whatever_the_map(judged):
    picture = np.full((SIDE, SIDE), 90, np.uint8)
    for number, one in enumerate(judged):
        choice = gallery.Choice(one, "best", 4)
        plain = gallery.draw(choice, picture, np.zeros((SIDE, SIDE)))
        assert plain.shape == (570, 940, 3)
        blue = (np.abs(plain.astype(int) - (0x4C, 0xC9, 0xF0)).max(axis=-1) < 40).sum()
        assert blue > 100, number
    cbam = np.random.default_rng(0).random((SIDE, SIDE)), [np.linspace(0, 1, 64)]
    assert gallery.draw(choice, picture, np.ones((SIDE, SIDE)), cbam).shape == (570, 1400, 3)
    assert gallery.describe(choice)["file"] == "gallery/nodule-best-00000004_000.png"
