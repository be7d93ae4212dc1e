from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from fabricated import DRAWS, SIDE_PX, write_run
from page_reader import read
from PIL import Image
from rendered_report import Report, move_data_set

from engine.report import cells, page
from engine.report.contact_sheet import in_words
from engine.report.sections import images
from records.errors import UsageError
from records.labels import FINDINGS
from records.manifest import Manifest


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
    assert (
        "Their configs also differ in train.seed: what follows is not the loss’s alone."
        in read(page.write(weighted, compare=plain)[0]).text
    )
    config.write_text((weighted / "config.yaml").read_text())
    assert "Their configs are the same, the loss as well" in read(page.write(weighted, compare=plain)[0]).text
    config.unlink()
    assert "A config is missing" in read(page.write(weighted, compare=plain)[0]).text


def test_the_commands_make_this_very_report(run_dir: Path, full_report: Report, data_set: Manifest) -> None:
    commands = json.loads(full_report.json.read_text())["sections"]["reproduce"]["commands"]
    own, plain = full_report.run_dir, full_report.run_dir.parent / "plain"
    assert commands[-1] == f"engine report --run-dir {own} --compare {own} {plain}"
    assert f"heatmaps --run-dir {own} --boxes BBox_List_2017.csv --images 24 --draws" in commands[-2]
    move_data_set(run_dir, "/nowhere/manifest.json")
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


def test_findings_without_a_threshold_are_named_beside_the_totals_that_lack_them(run_report: Report) -> None:
    metrics = json.loads((run_report.run_dir / "evaluation/test/metrics.json").read_text())
    youden = metrics["operating_points"][1]["findings"]
    without = sorted(in_words(name) for name in FINDINGS if youden[name]["threshold"] is None)
    assert "Hernia" in without
    assert f"{', '.join(without)}: no threshold could be chosen" in read(run_report.html).text


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


def test_a_run_that_was_judged_on_validation_only_is_compared_with_a_warning(
    tmp_path: Path, real_data_set: Manifest, records: dict
) -> None:
    first = write_run(tmp_path / "first", real_data_set, records, splits=("validation",))
    second = write_run(tmp_path / "second", real_data_set, records, loss="bce")
    assert "first was judged on validation only" in read(page.write(first, compare=second)[0]).text


def test_recorded_commands_are_written_as_they_are_typed(full_report: Report, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(full_report.run_dir, tmp_path / "run"))
    for path, program in (("run.json", "/x/engine/cli.py"), ("members/plain/run.json", "/x/bin/engine")):
        known = json.loads((run_dir / path).read_text())
        (run_dir / path).write_text(json.dumps(known | {"command": f"{program} train --data d"}))
    path = run_dir / "evaluation/test_reads.json"
    (entry,) = json.loads(path.read_text())
    used = [f"/x/engine/cli.py {name}" for name in ("evaluate", "heatmaps --boxes /boxes/list.csv.gz")]
    path.write_text(json.dumps([entry | {"command": command} for command in used]))
    written = page.write(run_dir)
    section = json.loads(written[2].read_text())["sections"]["reproduce"]
    assert section["commands"][1:] == [
        "engine train --data d",
        f"engine evaluate --run-dir {run_dir} --draws {DRAWS}",
        f"engine heatmaps --run-dir {run_dir} --boxes /boxes/list.csv.gz --images 24 --draws {DRAWS}",
        f"engine report --run-dir {run_dir}",
    ]
    assert [row["command"].split()[0] for row in section["test_reads"]] == ["engine", "engine"]
    assert "the test split was read: judged once, heat maps once" in read(written[0]).text


def test_readings_of_which_the_record_is_gone_are_not_said_never_to_have_been(run_dir: Path) -> None:
    (run_dir / "evaluation/test_reads.json").unlink()
    text = read(page.write(run_dir)[0]).text
    assert "not recorded" in text
    assert "how often the test split was read" in text
    assert "How often the test split was read is not recorded." in text
    assert "never" not in text.split("Data set")[0]


def test_the_seven_metrics_have_the_mean_of_the_findings_areas(run_report: Report) -> None:
    metrics = json.loads((run_report.run_dir / "evaluation/test/metrics.json").read_text())
    area = json.loads(run_report.json.read_text())["sections"]["operating"]["totals"][-1]
    assert area["metric"] == "multi_label_auc"
    for point in metrics["operating_points"]:
        assert area[point["name"]] == metrics["macro_auroc"]
        assert area[point["name"]]["value"] == pytest.approx(point["total"]["multi_label_auc"])


def test_a_column_says_of_how_many_findings_it_is(run_report: Report) -> None:
    metrics = json.loads((run_report.run_dir / "evaluation/test/metrics.json").read_text())
    youden = metrics["operating_points"][1]["findings"].values()
    known = sum(values["threshold"] is not None for values in youden)
    assert known < len(FINDINGS)
    source = run_report.html.read_text(encoding="utf-8")
    assert source.count(f"Youden, {known} of 14 findings<") == 2
    assert "At 0.5<" in source


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.500"), (0.0123, "0.012"), (0.00456, "0.0046"), (0.000012, "0.000012"), (0.0, "0.000")],
)
def test_a_small_threshold_has_two_digits_that_say_something(value: float, text: str) -> None:
    assert cells.threshold(value).text == text


def test_the_strip_begins_below_the_lowest_interval(run_dir: Path) -> None:
    path = run_dir / "evaluation/test/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["findings"]["Mass"]["auroc"] = {"value": 0.31, "low": 0.17, "high": 0.5}
    path.write_text(json.dumps(metrics))
    source = page.write(run_dir)[0].read_text(encoding="utf-8")
    assert '<span class="ends"><span>0.1</span><span>1</span></span>' in source


def test_a_temperature_that_was_not_fitted_is_said_with_its_reason(run_dir: Path) -> None:
    path = run_dir / "evaluation/frozen.json"
    reasons = {"Hernia": "no positives on validation"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temperature_reasons": reasons}))
    found = read(page.write(run_dir)[0])
    rows = {cells_of_row[0]: cells_of_row for cells_of_row in found.tables["calibration"][0]}
    assert rows["Hernia"][1] == "not fitted"
    assert rows["Mass"][1] != "not fitted"
    assert "stay as they are: Hernia: no positives on validation." in found.text
