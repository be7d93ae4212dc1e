from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from fabricated import HOSTILE_ID
from page_reader import read
from rendered_report import Report

from engine.report import page
from engine.report.sections import images
from records.labels import FINDINGS
from records.manifest import Manifest

ANCHORS = (
    "summary",
    "data",
    "training",
    "findings",
    "operating",
    "calibration",
    "published",
    "losses",
    "subgroups",
    "images",
    "heatmaps",
    "limits",
    "reproduce",
)


@pytest.fixture(params=["run", "full"])
def report(request: pytest.FixtureRequest) -> Report:
    return request.getfixturevalue(f"{request.param}_report")


def test_the_page_is_well_formed_and_its_ids_are_unique(report: Report) -> None:
    found = read(report.html)
    assert not found.faults
    assert not found.open
    assert len(found.ids) == len(set(found.ids))


def test_the_page_asks_the_network_for_nothing(report: Report) -> None:
    found = read(report.html)
    assert found.addresses
    for tag, name, value in found.addresses:
        assert value.startswith(("data:image/", "#")), (tag, name, value)
    assert not found.tags & {"script", "link", "iframe", "object", "embed", "form", "a:external"}
    assert not re.search(r"@import|@font-face|url\((?!#)", report.html.read_text(encoding="utf-8"))


def test_the_contents_lead_to_every_section(report: Report) -> None:
    found = read(report.html)
    linked = [value.removeprefix("#") for tag, _, value in found.addresses if tag == "a"]
    assert linked == list(ANCHORS)
    assert set(ANCHORS) <= set(found.ids)
    assert list(json.loads(report.json.read_text())["sections"]) == list(ANCHORS)


def test_a_page_with_all_that_there_can_be_is_small(full_report: Report) -> None:
    assert full_report.html.stat().st_size < 3_000_000


def test_every_number_of_a_table_is_that_of_the_json(report: Report) -> None:
    sections = json.loads(report.json.read_text())["sections"]
    compared = 0
    for section, tables in read(report.html).tables.items():
        keys = [key for key, value in sections[section].items() if _is_table(value)]
        assert len(tables) == len(keys), section
        for key, rows in zip(keys, tables, strict=True):
            assert len(rows) == len(sections[section][key]), (section, key)
            for cells, values in zip(rows, sections[section][key], strict=True):
                expected = [text for value in values.values() for text in _written(value)]
                said = [cell for cell in cells if _is_number(cell)]
                assert set(said) <= set(expected), (section, key, said, expected)
                compared += len(said)
    assert compared > 450


def test_the_markdown_has_the_tables_of_the_page(report: Report) -> None:
    text = report.markdown.read_text(encoding="utf-8")
    for rows in (rows for tables in read(report.html).tables.values() for rows in tables):
        for cells in rows:
            line = " | ".join(cell for cell in cells if cell).replace("&", "&amp;").replace("<", "&lt;")
            numbers = [cell for cell in line.split(" | ") if _is_number(cell)]
            assert all(number in text for number in numbers)
    assert text.count("\n## ") == len(ANCHORS)


def test_the_json_holds_the_numbers_of_the_evaluation(run_report: Report) -> None:
    metrics = json.loads((run_report.run_dir / "evaluation/test/metrics.json").read_text())
    said = json.loads(run_report.json.read_text())
    assert said["macro_auroc"] == metrics["macro_auroc"]
    rows = {row["finding"]: row for row in said["sections"]["findings"]["findings"]}
    for finding, values in metrics["findings"].items():
        for name in ("prevalence", "positives", "positive_patients"):
            assert rows[finding][name] == values[name]
        for name in ("auroc", "auprc"):
            assert rows[finding][name] == (values[name] if values[name]["value"] is not None else None)
    assert rows["macro"]["auroc"] == metrics["macro_auroc"]
    assert f"<b>{metrics['macro_auroc']['value']:.3f}</b>" in run_report.html.read_text()


def test_what_is_undefined_is_said_so_and_small_numbers_are_flagged(run_report: Report) -> None:
    (rows,) = (rows for rows in read(run_report.html).tables["findings"])
    hernia = next(cells for cells in rows if cells[0].startswith("Hernia"))
    assert hernia.count("not defined") == 2
    assert all(cells[0].endswith("†") for cells in rows[: len(FINDINGS)])


def test_hostile_text_is_shown_and_never_obeyed(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PICTURES", 1000)
    run = json.loads((run_dir / "run.json").read_text())
    run["command"] = "engine train <img src=x onerror=alert(1)> **`"
    (run_dir / "run.json").write_text(json.dumps(run))
    (run_dir / "config.yaml").write_text("model:\n  name: '<b onclick=alert(2)>`**|'\n")
    written = page.write(run_dir)
    found = read(written[0])
    assert HOSTILE_ID in found.text
    assert "<img src=x onerror=alert(1)>" in found.text
    assert "<b onclick=alert(2)>" in found.text
    assert "script" not in found.tags
    assert html.escape("<script>", quote=False) in written[0].read_text(encoding="utf-8")
    assert not re.search(
        r"^(?! {4}).*<(b|img|script)\b", written[1].read_text(encoding="utf-8"), re.MULTILINE
    )


def test_the_page_says_what_was_trained_on_what_and_where_it_comes_from(
    run_report: Report, data_set: Manifest
) -> None:
    text = read(run_report.html).text
    for expected in (
        "8,228,081",
        "1 h 2 min",
        "stratified split by patient",
        "learning_rate 0.0001",
        "head_units 128 64",
        data_set.sha256,
        "0123456789abcdef",
        "python 3.11.9, keras 3.15.1",
        "0 patients stand in two splits",
        "This is no medical device.",
        f"engine evaluate --run-dir {run_report.run_dir}",
    ):
        assert expected in text


def test_the_command_prints_where_the_files_are(run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert page.run(str(run_dir)) == 0
    paths = capsys.readouterr().out.split()
    assert paths == [str(run_dir / name) for name in ("report.html", "report.md", "report.json")]
    assert all(Path(path).is_file() for path in paths)


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "lines" not in value[0]


def _is_number(cell: str) -> bool:
    return bool(re.match(r"[+−]?[\d,]+(\.\d+)?( \[.*\])?$", cell))


def _written(value: object) -> list[str]:
    """All the ways in which the page may write a value of the JSON."""
    if isinstance(value, dict):
        text = [f"{value[name]:.3f}" for name in ("value", "low", "high") if value[name] is not None]
        signed = [
            f"{value[name]:+.3f}".replace("-", "−")
            for name in ("value", "low", "high")
            if value[name] is not None
        ]
        percent = [f"{100 * value[name]:.1f}" for name in ("value", "low", "high") if value[name] is not None]
        both = [f"{v[0]} [{v[1]}, {v[2]}]" for v in (text, signed, percent) if len(v) == 3]
        return [*both, text[0], signed[0], percent[0]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return [str(value), str(value)[:12]]
    digits = [f"{value:.{digits}f}" for digits in (1, 2, 3, 4)]
    return [f"{value:,}", *digits, f"{100 * value:.1f}", f"{100 * value:.2f}"]
