from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from fabricated import make_data_set, write_run
from page_reader import read
from rendered_report import Report

from engine.report import page, published
from records.labels import FINDINGS
from records.manifest import Manifest

# Means and deviations as published in Fisher's table, not computed from its columns.
PUBLISHED = {
    "fisher_2025": (0.842, 0.061),
    "rajpurkar_2017_as_quoted": (0.852, 0.067),
    "bhusal_panday_2024": (0.811, 0.062),
    "hasanah_2024": (0.827, 0.068),
    "ahmad_2023": (0.829, 0.054),
}


@pytest.fixture(scope="module")
def studies() -> dict[str, published.Study]:
    return {study.key: study for study in published.load()[1]}


def test_each_study_has_all_findings(studies: dict[str, published.Study]) -> None:
    findings = published.load()[0]
    assert sorted(findings) == sorted(FINDINGS)
    assert len(studies) == 6
    for study in studies.values():
        assert list(study.auroc) == findings


def test_the_columns_have_the_means_and_deviations_that_were_published(
    studies: dict[str, published.Study],
) -> None:
    for key, (mean, deviation) in PUBLISHED.items():
        column = np.array(list(studies[key].auroc.values()))
        assert column.mean() == pytest.approx(mean, abs=6e-4)
        assert column.std(ddof=1) == pytest.approx(deviation, abs=1.1e-3)
        assert studies[key].mean == mean
    assert np.mean(list(studies["chexnet"].auroc.values())) == pytest.approx(0.841, abs=6e-4)


def test_the_misquoted_column_differs_from_the_papers_own_where_it_says(
    studies: dict[str, published.Study],
) -> None:
    quoted, own = studies["rajpurkar_2017_as_quoted"], studies["chexnet"]
    differing = {name for name in own.auroc if own.auroc[name] != quoted.auroc[name]}
    assert len(differing) == 8
    assert "eight findings" in quoted.note
    assert quoted.auroc["Consolidation"] - own.auroc["Consolidation"] == pytest.approx(0.103)
    assert quoted.misquoted
    assert not quoted.comparable("random")


@pytest.mark.parametrize(
    ("split", "comparable"),
    [("official", set()), ("stratified", {"fisher_2025"}), ("random", {"chexnet"}), ("unknown", set())],
)
def test_only_one_kind_of_split_is_compared(
    studies: dict[str, published.Study], split: str, comparable: set[str]
) -> None:
    assert {key for key, study in studies.items() if study.comparable(split)} == comparable


def test_the_table_holds_the_published_numbers_and_greys_other_kinds_of_split(
    full_report: Report, studies: dict[str, published.Study]
) -> None:
    rows = json.loads(full_report.json.read_text())["sections"]["published"]["auroc"]
    for row in rows[:-1]:
        for key, study in studies.items():
            assert row[key] == study.auroc[row["finding"]]
    metrics = json.loads((full_report.run_dir / "evaluation/test/metrics.json").read_text())
    assert rows[-1]["own"] == metrics["macro_auroc"]
    source = full_report.html.read_text(encoding="utf-8")
    section = source[source.index('id="published"') : source.index('id="losses"')]
    # The data set is split at random, as CheXNet's was.
    assert f'<td class="">{studies["chexnet"].auroc["Hernia"]:.3f}</td>' in section
    assert section.count('class="grey struck"') == 15
    # Four studies, and the anchors of the official split.
    assert section.count('class="grey"') == 15 * 4 + 7
    assert "Only CheXNet (its own paper) has a split of this kind" in read(full_report.html).text


def test_anchors_of_both_kinds_of_split_are_listed(full_report: Report) -> None:
    rows = json.loads(full_report.json.read_text())["sections"]["published"]["anchors"]
    assert {row["split"] for row in rows} == {"official", "random"}
    assert {row["macro_auroc"] for row in rows} >= {"0.745", "0.818 [0.813, 0.824]", "0.854"}


def test_phantoms_are_compared_with_no_patient(run_report: Report) -> None:
    found = read(run_report.html)
    assert "published" not in found.tables
    assert "to compare phantoms with patients means nothing" in found.text


def test_phantoms_carry_a_banner_and_patients_their_citation_and_limits(
    run_report: Report, full_report: Report
) -> None:
    drawn, patients = read(run_report.html).text, read(full_report.html).text
    banner = "Phantom data: drawn, not patients."
    assert banner in drawn
    assert banner not in patients
    assert "ChestX-ray8" in patients
    assert "ChestX-ray8" not in drawn
    # What limits a report on patients is stated in every report.
    for said in ("mined from the text", "Chest drains give pneumothorax away.", "no medical device"):
        assert said in patients
        assert said in drawn


def test_a_part_of_the_data_set_is_compared_with_nothing(
    tmp_path: Path, records: dict, real_data_set: Manifest
) -> None:
    used = sum(split.images for split in real_data_set.splits.values())
    text = _all_grey(page.write(write_run(tmp_path / "part", real_data_set, records)))
    assert f"Only {used} of the 112,120 images of the data set were used" in text
    official = make_data_set(tmp_path / "data", records, phantom=False, strategy="official")
    text = _all_grey(page.write(write_run(tmp_path / "official", official, records)))
    assert "Only 30 of the 25,596 images of the official test list were used" in text
    assert "30 of the 25,596 images of the official test list. Numbers of a part don’t compare" in text


def test_a_data_set_that_misses_one_image_says_so_and_is_compared_with_nothing(
    tmp_path: Path, records: dict, real_data_set: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "ALL_IMAGES", real_data_set.records + 1)
    (tmp_path / "data").mkdir()
    whole = dataclasses.replace(real_data_set, source=real_data_set.source | {"missing": 1})
    part = dataclasses.replace(whole, location=str(tmp_path / "data/manifest.json"))
    Path(part.location).write_bytes(part.to_json())
    text = _all_grey(page.write(write_run(tmp_path / "run", part, records)))
    assert text.count(f"{part.records} of the {part.records + 1} images of the data set") == 2


def test_validation_images_are_compared_with_nothing(
    tmp_path: Path, records: dict, real_data_set: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "ALL_IMAGES", 1)
    run_dir = write_run(tmp_path / "run", real_data_set, records, splits=("validation",))
    assert "These are validation images" in _all_grey(page.write(run_dir))


def _all_grey(written: list[Path]) -> str:
    """Check that every published number is grey; return the page's text."""
    source = written[0].read_text(encoding="utf-8")
    section = source[source.index('id="published"') : source.index('id="losses"')]
    assert section.count('class="grey"') == 15 * 5 + 10
    return read(written[0]).text
