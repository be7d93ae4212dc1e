from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import Report
from fabricated import HOSTILE_ID, SIDE_PX, made_predictions, write_evaluation, write_run
from page_reader import read
from PIL import Image

from engine.report import page
from engine.report.contact_sheet import in_words
from engine.report.sections import images
from records.errors import RunError, UsageError
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
    assert compared > 500


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


def test_an_ensemble_says_what_it_gains_over_its_best_and_its_mean_member(full_report: Report) -> None:
    metrics = json.loads((full_report.run_dir / "evaluation/test/metrics.json").read_text())
    gain = json.loads(full_report.json.read_text())["sections"]["summary"]["gain"]
    assert gain["over_best"] == metrics["gain"]["over_best"]
    assert gain["over_mean"] == metrics["gain"]["over_mean"]
    text = read(full_report.html).text
    assert "minus that of its best member (dynamic, chosen on validation)" in text
    assert "dynamic" in text
    assert "history_plain" in json.loads(full_report.json.read_text())["sections"]["training"]


def test_two_losses_are_compared_by_shares_and_by_a_paired_difference(full_report: Report) -> None:
    section = json.loads(full_report.json.read_text())["sections"]["losses"]
    (macro, recall, *_) = section["totals"]
    assert macro["difference"]["low"] <= macro["difference"]["value"] <= macro["difference"]["high"]
    assert macro["difference"]["value"] == pytest.approx(macro["first"]["value"] - macro["second"]["value"])
    other = json.loads((full_report.run_dir.parent / "plain/evaluation/test/metrics.json").read_text())
    assert recall["second"]["value"] == other["operating_points"][0]["total"]["recall"]
    assert recall["difference"]["low"] <= recall["difference"]["value"] <= recall["difference"]["high"]
    assert recall["difference"]["value"] == pytest.approx(
        recall["first"]["value"] - recall["second"]["value"]
    )
    assert [row["finding"] for row in section["by_finding"]] == list(FINDINGS)


def test_two_other_runs_than_the_reports_own_can_be_compared(
    tmp_path: Path, full_report: Report, real_data_set: Manifest, records: dict
) -> None:
    plain = full_report.run_dir.parent / "plain"
    weighted = write_run(tmp_path / "weighted", real_data_set, records, loss="weighted_bce", skill=2.0)
    written = page.write(full_report.run_dir, tmp_path / "out", compare=(weighted, plain))
    text = read(written[0]).text
    assert "Macro AUROC of weighted_bce minus that of bce" in text
    with pytest.raises(UsageError, match="3 runs; expected two"):
        page.write(full_report.run_dir, tmp_path / "out", compare=(weighted, plain, plain))


def test_the_gallery_stands_in_the_page(full_report: Report) -> None:
    found = read(full_report.html)
    sources = [value for tag, _, value in found.addresses if tag == "img"]
    assert len(sources) == 4 + images.PICTURES
    assert "the map’s highest point lies in a box" in found.text


def test_what_else_than_the_loss_differs_is_said(
    tmp_path: Path, full_report: Report, real_data_set: Manifest, records: dict
) -> None:
    assert "Not both are of one training" in read(full_report.html).text
    assert "ensemble, 2 models" in read(full_report.html).text
    weighted = write_run(tmp_path / "weighted", real_data_set, records, loss="weighted_bce")
    plain = write_run(tmp_path / "plain", real_data_set, records, loss="bce")
    text = read(page.write(weighted, compare=plain)[0]).text
    assert "Their configs differ in the loss alone; both began with the same weights." in text
    config = plain / "config.yaml"
    config.write_text(config.read_text().replace("seed: 1", "seed: 2"))
    assert "Their configs also differ in train.seed" in read(page.write(weighted, compare=plain)[0]).text
    config.unlink()
    assert "A config is missing" in read(page.write(weighted, compare=plain)[0]).text


def test_the_commands_make_this_very_report(run_dir: Path, full_report: Report, data_set: Manifest) -> None:
    commands = json.loads(full_report.json.read_text())["sections"]["reproduce"]["commands"]
    own, plain = full_report.run_dir, full_report.run_dir.parent / "plain"
    assert commands[-1] == f"engine report --run-dir {own} --compare {own} {plain}"
    assert f"heatmaps --run-dir {own} --boxes BBox_List_2017.csv --images 24 --draws" in commands[-2]
    _move(run_dir, "/nowhere/manifest.json")
    written = page.write(run_dir, data=data_set.location)
    commands = json.loads(written[2].read_text())["sections"]["reproduce"]["commands"]
    assert commands[-1] == f"engine report --run-dir {run_dir} --data {data_set.location}"


def test_shares_of_heat_maps_stand_beside_the_pictures_that_they_are_of(full_report: Report) -> None:
    rows = json.loads(full_report.json.read_text())["sections"]["heatmaps"]["boxes"]
    assert [(row["finding"], row["pairs"], row["boxes"]) for row in rows] == [
        *(("Mass", 2, 4), ("Effusion", 1, 2), ("Nodule", 1, 2), ("total", 4, 8))
    ]
    (cells,) = read(full_report.html).tables["heatmaps"]
    assert all(row[0].endswith("†") for row in cells[:3])
    assert "All shares are of pictures with the finding" in read(full_report.html).text


def test_heat_maps_of_training_pictures_stand_apart(tmp_path: Path, full_report: Report) -> None:
    run_dir = Path(shutil.copytree(full_report.run_dir, tmp_path / "run"))
    path = run_dir / "heatmaps/heatmaps.json"
    found = json.loads(path.read_text())
    found["splits"]["train"] = found["findings"]["Mass"]
    path.write_text(json.dumps(found))
    written = page.write(run_dir)
    rows = json.loads(written[2].read_text())["sections"]["heatmaps"]["boxes"]
    assert [row["finding"] for row in rows[-3:]] == ["total", "test", "train"]
    assert "4 boxes are of training pictures" in read(written[0]).text


def test_the_gallery_leaves_out_words_that_are_too_small(full_report: Report) -> None:
    source = full_report.html.read_text(encoding="utf-8")
    shown = re.findall(r'data:image/jpeg;base64,([^"]+)" alt="(?:Mass|Nodule|Effusion), only', source)
    sizes = {Image.open(io.BytesIO(base64.b64decode(data))).size for data in shown}
    assert sizes == {(SIDE_PX, SIDE_PX - 8)}


def test_a_part_that_is_not_there_names_the_command_that_makes_it(run_report: Report) -> None:
    missing = {
        anchor: section["missing"]
        for anchor, section in json.loads(run_report.json.read_text())["sections"].items()
        if "missing" in section
    }
    assert set(missing) == {"heatmaps", "losses"}
    assert "`engine heatmaps --run-dir" in missing["heatmaps"][0]
    assert "--compare WEIGHTED PLAIN`" in missing["losses"][0]


def test_a_run_that_was_only_trained_has_a_page_as_well(tmp_path: Path, run_dir: Path) -> None:
    for name in ("evaluation", "history.csv", "config.yaml"):
        _remove(run_dir / name)
    written = page.write(run_dir, tmp_path / "out")
    found = json.loads(written[2].read_text())["sections"]
    for anchor in ("summary", "findings", "operating", "calibration", "subgroups"):
        assert f"`engine evaluate --run-dir {run_dir}` makes it" in found[anchor]["missing"][0]
    assert "`engine train` writes it" in found["training"]["missing"][0]
    assert "images" not in found
    assert not read(written[0]).faults


def test_a_run_that_recorded_little_still_has_a_page(run_dir: Path, data_set: Manifest) -> None:
    kept = {"manifest": {"location": data_set.location, "sha256": data_set.sha256}, "state": "finished"}
    (run_dir / "run.json").write_text(json.dumps(kept))
    assert "not recorded" in read(page.write(run_dir)[0]).text


def test_a_data_set_that_moved_is_one_line_until_it_is_named(run_dir: Path, data_set: Manifest) -> None:
    _move(run_dir, "/nowhere/manifest.json")
    section = json.loads(page.write(run_dir)[2].read_text())["sections"]["data"]
    assert "/nowhere/manifest.json: no manifest" in section["missing"][0]
    section = json.loads(page.write(run_dir, data=data_set.location)[2].read_text())["sections"]["data"]
    assert "missing" not in section
    assert section["hashes"]["Manifest"] == f"sha256 {data_set.sha256}"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("run.json", None, "`engine train`"),
        ("config.yaml", "model: [", "not YAML"),
        ("config.yaml", "- a", "no sections of keys"),
        ("history.csv", "epoch,loss\n1\n", "more or fewer cells"),
        ("ensemble.json", "{", "not JSON"),
        ("heatmaps/heatmaps.json", "[]", "expected a dictionary"),
        ("heatmaps/heatmaps.json", '{"schema": 1}', "make it again with `engine heatmaps`"),
        ("evaluation/test/metrics.json", "{", "damaged"),
        ("evaluation/test/metrics.json", '{"schema": 1}', "evaluate again"),
        ("evaluation/test/predictions.csv", None, "make them with `engine evaluate`"),
        ("evaluation/frozen.json", "{}", "damaged"),
        ("evaluation/test_reads.json", "{}", "damaged"),
    ],
)
def test_a_damaged_part_is_one_clear_line(run_dir: Path, name: str, content: str | None, reason: str) -> None:
    path = run_dir / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    if name.endswith("reads.json"):
        path.write_text('[{"at": "now"}]')
    with pytest.raises(RunError) as error:
        page.write(run_dir)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert not (run_dir / "report.html").exists()


def test_predictions_that_were_changed_are_refused(run_dir: Path) -> None:
    path = run_dir / "evaluation/test/predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[2:]]))
    with pytest.raises(RunError, match=r"not the predictions that metrics\.json is of"):
        page.write(run_dir)


def test_parts_of_several_data_sets_are_refused(
    run_dir: Path, data_set: Manifest, real_data_set: Manifest
) -> None:
    with pytest.raises(RunError, match="not the data set of the run"):
        page.write(run_dir, data=real_data_set.location)
    path = run_dir / "evaluation/test/metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"manifest_sha256": real_data_set.sha256}))
    with pytest.raises(RunError, match="not the data set of the test evaluation"):
        page.write(run_dir, data=data_set.location)


def test_two_runs_on_other_images_are_not_compared(
    tmp_path: Path, run_dir: Path, data_set: Manifest, records: dict
) -> None:
    less = records | {"test": [records["test"][0]]}
    other = write_run(tmp_path / "other", data_set, less)
    with pytest.raises(RunError, match="judged on other images"):
        page.write(run_dir, compare=other)
    _remove(other / "evaluation/test")
    with pytest.raises(RunError, match="not evaluated on the test split"):
        page.write(run_dir, compare=other)


def test_without_validation_only_half_is_an_operating_point(
    tmp_path: Path, data_set: Manifest, records: dict
) -> None:
    run_dir = write_run(tmp_path / "run", data_set, records, splits=("test",))
    written = page.write(run_dir)
    sections = json.loads(written[2].read_text())["sections"]
    assert set(sections["operating"]["totals"][0]) == {"metric", "meaning", "0.5", "all_negative"}
    text = read(written[0]).text
    assert "No temperature was fitted" in text
    assert "there is no validation split to choose them on" in text
    assert "for which nothing was chosen on validation" in text


def test_an_unfinished_run_and_another_split_than_test_carry_a_warning(
    tmp_path: Path, data_set: Manifest, records: dict
) -> None:
    run_dir = write_run(tmp_path / "run", data_set, records, splits=("validation",), epochs=1)
    run = json.loads((run_dir / "run.json").read_text()) | {"state": "interrupted"}
    (run_dir / "run.json").write_text(json.dumps(run))
    text = read(page.write(run_dir)[0]).text
    assert "This run did not finish." in text
    assert "Not the test split." in text
    assert "The test split has not been read" in text
    assert "were chosen on these very images" in text
    assert "frozen before test was read" not in text


def test_a_judgement_of_another_model_than_the_runs_is_told_of(run_dir: Path) -> None:
    assert "of another model" not in read(page.write(run_dir)[0]).text
    (run_dir / "best.keras").write_bytes(b"trained on since")
    text = read(page.write(run_dir)[0]).text
    assert "The evaluation is of another model than the run directory holds now" in text
    path = run_dir / "evaluation/validation/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": "99" * 32}))
    assert "Validation and test were judged with different models" in read(page.write(run_dir)[0]).text


def test_findings_without_a_threshold_are_named_beside_the_totals_that_lack_them(run_report: Report) -> None:
    metrics = json.loads((run_report.run_dir / "evaluation/test/metrics.json").read_text())
    youden = metrics["operating_points"][1]["findings"]
    without = sorted(in_words(name) for name in FINDINGS if youden[name]["threshold"] is None)
    assert "Hernia" in without
    assert f"{', '.join(without)}: no threshold could be chosen" in read(run_report.html).text


def test_a_second_model_that_read_test_is_told_of(run_dir: Path, data_set: Manifest) -> None:
    path = run_dir / "evaluation/test_reads.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps(entries * 2))
    assert "have read the test split" not in read(page.write(run_dir)[0]).text
    path.write_text(json.dumps([entries[0] | {"model_sha256": "99" * 32}, *entries]))
    text = read(page.write(run_dir)[0]).text
    assert "2 models of this run directory have read the test split." in text
    assert "999999999999" in text


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


def test_a_benchmark_is_shown_where_there_is_one(run_dir: Path) -> None:
    assert "Speed of the input" not in page.write(run_dir)[0].read_text()
    rates = [
        {"name": "engine", "images_per_s": 32000.0, "cpu_s_per_1000": 0.041, "not_measured": ""},
        {"name": "the usual way", "images_per_s": 16000.0, "cpu_s_per_1000": 0.1, "not_measured": ""},
        {"name": "PNG loop", "images_per_s": 0.0, "cpu_s_per_1000": 0.0, "not_measured": "no PNGs here"},
    ]
    (run_dir / "benchmark.json").write_text(json.dumps({"rates": rates}))
    (rows,) = read(page.write(run_dir)[0]).tables["speed"]
    assert rows == [["engine", "32,000", "0.041", "2.0"], ["the usual way", "16,000", "0.100", "1.0"]]


def test_the_command_prints_where_the_files_are(run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert page.run(str(run_dir)) == 0
    paths = capsys.readouterr().out.split()
    assert paths == [str(run_dir / name) for name in ("report.html", "report.md", "report.json")]
    assert all(Path(path).is_file() for path in paths)


def test_one_patient_gives_a_page_without_intervals(
    tmp_path: Path, data_set: Manifest, records: dict
) -> None:
    run_dir = write_run(tmp_path / "run", data_set, records, splits=())
    shown = records["test"][0][:2]
    write_evaluation(run_dir, data_set, {"test": made_predictions(shown)}, {})
    found = read(page.write(run_dir)[0])
    assert "1 patients" in found.text or "of 1 " in found.text
    assert not found.faults


def _move(run_dir: Path, location: str) -> None:
    """Let a run say that its data set lies elsewhere."""
    run = json.loads((run_dir / "run.json").read_text())
    run["manifest"]["location"] = location
    (run_dir / "run.json").write_text(json.dumps(run))


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


def _remove(path: Path) -> None:
    if path.is_dir():
        for entry in sorted(path.rglob("*"), reverse=True):
            entry.rmdir() if entry.is_dir() else entry.unlink()
        path.rmdir()
    else:
        path.unlink()
