from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from fabricated import MODEL_SHA256, made_predictions, write_evaluation, write_run
from page_reader import read
from rendered_report import Report, move_data_set

from engine.report import page
from records.errors import RunError, UsageError
from records.manifest import Manifest


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
    move_data_set(run_dir, "/nowhere/manifest.json")
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
        ("ensemble.json", "[" * 200_000, "nests too deeply"),
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


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_judgement_of_another_model_than_the_runs_is_refused(run_dir: Path, split: str) -> None:
    model = run_dir / "best.keras"
    model.write_bytes(b"trained on since")
    own = hashlib.sha256(model.read_bytes()).hexdigest()
    for name in {"test", "validation"} - {split}:
        _judge_with(run_dir, name, own)
    with pytest.raises(RunError) as error:
        page.write(run_dir)
    told = f"its {split} split was judged for another model ({MODEL_SHA256[:12]}, the run's is {own[:12]})"
    assert told in str(error.value)
    assert f"`engine evaluate --run-dir {run_dir}`" in str(error.value)
    _judge_with(run_dir, split, own)
    assert page.write(run_dir)


def test_splits_that_were_judged_with_two_models_are_told_of_where_no_model_is_left(run_dir: Path) -> None:
    assert "judged with different models" not in read(page.write(run_dir)[0]).text
    _judge_with(run_dir, "validation", "99" * 32)
    assert "Validation and test were judged with different models" in read(page.write(run_dir)[0]).text


def test_an_ensemble_of_which_one_model_was_changed_is_refused(full_report: Report, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(full_report.run_dir, tmp_path / "run"))
    for name in ("dynamic", "plain"):
        (run_dir / "members" / name / "best.keras").write_bytes(b"other")
    with pytest.raises(RunError, match="SHA-256 differs"):
        page.write(run_dir)


def test_heat_maps_of_another_model_are_not_shown(full_report: Report, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(full_report.run_dir, tmp_path / "run"))
    path = run_dir / "heatmaps/heatmaps.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": "99" * 32}))
    section = json.loads(page.write(run_dir)[2].read_text())["sections"]["heatmaps"]
    assert list(section) == ["title", "missing"]
    assert f"of another model (999999999999, the run’s is {MODEL_SHA256[:12]})" in section["missing"][0]


@pytest.mark.parametrize("name", ["../plain", "/plain", "a/b", "..", "", 3, None])
def test_members_of_odd_names_are_one_clear_line(full_report: Report, tmp_path: Path, name: object) -> None:
    run_dir = Path(shutil.copytree(full_report.run_dir, tmp_path / "run"))
    path = run_dir / "ensemble.json"
    for members in ([{"name": name}], [name], name):
        path.write_text(json.dumps({"members": members}))
        with pytest.raises(RunError, match=r"ensemble\.json: names no members; make it again"):
            page.write(run_dir)


@pytest.mark.parametrize("named", [None, [], "x", {}, {"location": 1, "sha256": "a"}, {"location": "a"}])
def test_a_run_that_names_no_data_set_is_one_clear_line(run_dir: Path, named: object) -> None:
    path = run_dir / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"manifest": named}))
    with pytest.raises(RunError, match=r"run\.json: .*names no data set; .*train again"):
        page.write(run_dir)


def test_a_run_is_not_compared_with_itself(run_dir: Path) -> None:
    with pytest.raises(UsageError, match="one and the same run"):
        page.write(run_dir, compare=run_dir / ".." / run_dir.name)


def test_a_run_that_was_not_judged_says_so(run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    page.write(run_dir)
    assert not capsys.readouterr().err
    shutil.rmtree(run_dir / "evaluation")
    page.write(run_dir)
    told = f"{run_dir}: nothing was judged yet: `engine evaluate --run-dir {run_dir}`\n"
    assert capsys.readouterr().err == told


def test_a_second_model_that_read_test_is_told_of(run_dir: Path, data_set: Manifest) -> None:
    path = run_dir / "evaluation/test_reads.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps(entries * 2))
    assert "have read the test split" not in read(page.write(run_dir)[0]).text
    path.write_text(json.dumps([entries[0] | {"model_sha256": "99" * 32}, *entries]))
    text = read(page.write(run_dir)[0]).text
    assert "2 models of this run directory have read the test split." in text
    assert "999999999999" in text


def test_one_patient_gives_a_page_without_intervals(
    tmp_path: Path, data_set: Manifest, records: dict
) -> None:
    run_dir = write_run(tmp_path / "run", data_set, records, splits=())
    shown = records["test"][0][:2]
    write_evaluation(run_dir, data_set, {"test": made_predictions(shown)}, {})
    found = read(page.write(run_dir)[0])
    assert "1 patients" in found.text or "of 1 " in found.text
    assert not found.faults


def _remove(path: Path) -> None:
    if path.is_dir():
        for entry in sorted(path.rglob("*"), reverse=True):
            entry.rmdir() if entry.is_dir() else entry.unlink()
        path.rmdir()
    else:
        path.unlink()


def _judge_with(run_dir: Path, split: str, model_sha256: str) -> None:
    """Let an evaluation say that it is of a model."""
    path = run_dir / f"evaluation/{split}/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": model_sha256}))
