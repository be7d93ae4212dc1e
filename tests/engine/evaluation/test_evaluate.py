"""`evaluate.run` on runs made by hand: its numbers, and that test is read once, after all is frozen."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from judged_runs import make_run, save_model
from judging import DRAWS, fails, json_of, judge, metrics_of, path_of

from engine.evaluation import evaluate, frozen, judgement, predictions
from engine.input.reader import ShardReader
from engine.training.run_directory import RunDirectory
from records.errors import RunError, UsageError
from records.labels import FINDINGS


def _read(directory: RunDirectory, split: str) -> dict[str, dict[str, str]]:
    with path_of(directory, split).open(newline="") as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


def _columns(row: dict[str, str], prefix: str) -> np.ndarray:
    return np.array([float(row[f"{prefix}_{finding}"]) for finding in FINDINGS])


def test_each_image_id_has_the_numbers_of_its_own_picture(finished, data_set):
    assert judge(finished) == 0
    model = keras.saving.load_model(finished.checkpoint_path, compile=False)
    for split in ("validation", "test"):
        rows = _read(finished, split)
        with ShardReader(data_set, split) as reader:
            assert len(rows) == len(reader) == data_set.splits[split].images
            for number in range(len(reader)):
                (record,) = reader.records(np.array([number]))
                row = rows[record.image_id]
                picture = np.frombuffer(record.image, np.uint8).reshape(1, *record.shape)
                logits = np.asarray(keras.ops.convert_to_numpy(model(picture)), np.float64)[0]
                np.testing.assert_allclose(_columns(row, "logit"), logits, atol=1e-4)
                np.testing.assert_allclose(_columns(row, "probability"), 1 / (1 + np.exp(-logits)), atol=1e-5)
                np.testing.assert_array_equal(_columns(row, "label"), record.labels)
                told = (row["patient_id"], row["sex"], row["view"], row["age_years"], row["follow_up"])
                assert told == (str(record.patient_id), "F", "PA", "50.0", str(record.follow_up))
        assert len({row["logit_Mass"] for row in rows.values()}) == len(rows)


def test_choices_are_frozen_on_validation_and_test_is_read_after_that(finished, data_set):
    judge(finished)
    chosen = json_of(finished, "frozen.json")
    assert chosen["chosen_on"] == "validation"
    assert chosen["manifest_sha256"] == data_set.sha256
    assert list(chosen["thresholds"]) == ["youden", "sensitivity_0.90"]
    for split in ("validation", "test"):
        metrics = metrics_of(finished, split)
        assert metrics["schema"] == 2
        assert metrics["model_sha256"] == chosen["model_sha256"]
        assert metrics["calibration"]["temperatures"] == chosen["temperatures"]
        for point in metrics["operating_points"][1:]:
            used = {finding: values["threshold"] for finding, values in point["findings"].items()}
            assert used == chosen["thresholds"][point["name"]]
    (entry,) = json_of(finished, "test_reads.json")
    data = (finished.path / "evaluation" / "frozen.json").read_bytes()
    assert entry["frozen_sha256"] == judgement._hash(data)
    assert entry["at"] >= chosen["frozen_at"]
    assert (metrics_of(finished, "validation")["test_reads"], metrics_of(finished, "test")["test_reads"]) == (
        0,
        1,
    )


def test_test_alone_judges_validation_first_and_validation_alone_leaves_test_unread(finished):
    judge(finished, split="validation")
    assert not path_of(finished, "test").exists()
    assert not (finished.path / "evaluation" / "test_reads.json").exists()
    chosen = json_of(finished, "frozen.json")
    judge(finished, split="test")
    assert json_of(finished, "frozen.json") == chosen
    assert len(json_of(finished, "test_reads.json")) == 1


def test_a_model_that_was_judged_is_not_judged_again(finished, monkeypatch, capsys):
    judge(finished)
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("evaluation/**/*")}
    first = capsys.readouterr().out
    monkeypatch.setattr(judgement.Judgement, "_predict", None)
    judge(finished)
    assert {path: path.stat().st_mtime_ns for path in finished.path.rglob("evaluation/**/*")} == before
    printed = capsys.readouterr()
    assert printed.out == first
    assert "test: this model was evaluated already; nothing is read" in printed.err


def test_other_draws_are_made_without_reading_a_picture(finished, monkeypatch):
    judge(finished)
    before = metrics_of(finished, "test")
    monkeypatch.setattr(judgement.Judgement, "_predict", None)
    judge(finished, draws=DRAWS + 10)
    after = metrics_of(finished, "test")
    assert after["bootstrap"]["draws"] == DRAWS + 10
    assert after["macro_auroc"]["value"] == before["macro_auroc"]["value"]
    assert len(json_of(finished, "test_reads.json")) == 1


def test_a_model_that_gives_nan_is_one_line_that_names_an_image(finished, data_set):
    save_model(finished.checkpoint_path, data_set, scale=np.nan)
    line = fails(finished, r"00000200_000\.png: the logit of Infiltration is nan")
    assert "the model gives numbers that are none: train again" in line
    assert not path_of(finished, "validation").exists()
    assert not (finished.path / "evaluation" / "test_reads.json").exists()


def test_a_run_without_validation_is_judged_on_test_at_one_half_only(tmp_path, write_data_set, capsys):
    data_set = write_data_set(tmp_path / "data", sizes={"train": (4,), "validation": (), "test": (6,)})
    directory = make_run(tmp_path / "run", data_set)
    judge(directory)
    printed = capsys.readouterr()
    assert "no image in validation, which isn't judged" in printed.err
    assert "no validation split: no threshold or temperature could be chosen; at 0.5 only" in printed.out
    metrics = metrics_of(directory, "test")
    assert [point["name"] for point in metrics["operating_points"]] == ["0.5"]
    assert metrics["calibration"]["after"] is None
    assert metrics["prevalence_shift"] == []
    assert json_of(directory, "test_reads.json")[0]["frozen_sha256"] is None
    fails(directory, "no image in validation; nothing to judge", split="validation")


def test_one_patient_has_no_intervals_and_that_is_said(tmp_path, write_data_set, capsys):
    data_set = write_data_set(tmp_path / "data", sizes={"train": (4,), "validation": (2,), "test": (2,)})
    directory = make_run(tmp_path / "run", data_set)
    judge(directory)
    assert "one patient only: intervals are not defined" in capsys.readouterr().out
    assert metrics_of(directory, "test")["micro_auroc"]["low"] is None


@pytest.mark.parametrize(("state", "told"), [("unfinished", "killed"), ("interrupted", "interrupted")])
def test_a_run_that_can_go_on_has_its_test_split_read_only_by_name(finished, state, told, capsys):
    finished.update(state=state)
    assert judge(finished) == 0
    said = capsys.readouterr().err
    assert f"{told} after 1 of 12 epochs" in said
    assert "test isn't read before the run is finished: go on with `engine train --resume auto`" in said
    assert path_of(finished, "validation").is_file()
    assert not path_of(finished, "test").exists()
    assert judge(finished, split="test") == 0
    said = capsys.readouterr().err
    assert f"{told} after 1 of 12 epochs" in said
    assert "test isn't read" not in said
    assert len(json_of(finished, "test_reads.json")) == 1


def test_a_run_that_has_failed_is_judged_with_a_note(finished, capsys):
    finished.update(state="failed")
    judge(finished)
    assert "failed after 1 of 12 epochs" in capsys.readouterr().err
    assert path_of(finished, "test").is_file()


def test_why_a_finding_has_no_temperature_is_frozen_beside_it_and_an_older_file_is_read(finished):
    judge(finished, split="validation")
    path = finished.path / "evaluation" / "frozen.json"
    kept = json_of(finished, "frozen.json")
    reasons = kept.pop("temperature_reasons")
    assert set(reasons) == {name for name, value in kept["temperatures"].items() if value == 1}
    assert set(reasons.values())
    path.write_text(json.dumps(kept))
    found = frozen.read(path)
    assert found is not None
    assert found.temperature_reasons == dict.fromkeys(reasons, "not recorded")
    path.write_text(json.dumps(kept | {"temperature_reasons": {"Flu": "no positives"}}))
    with pytest.raises(RunError, match=r"frozen\.json: damaged"):
        frozen.read(path)


def test_another_data_set_is_refused(finished, tmp_path, write_data_set):
    other = write_data_set(tmp_path / "other", side_px=64)
    fails(finished, "not the data set of this run", data=other.location)


def test_no_run_no_model_and_wrong_usage_are_clear(finished, tmp_path):
    with pytest.raises(RunError, match="no run here"):
        evaluate.run(str(tmp_path / "none"))
    finished.checkpoint_path.unlink()
    fails(finished, "no model; the run ended before its first epoch did")
    with pytest.raises(UsageError, match="split is `train`; expected validation or test"):
        judge(finished, split="train")
    with pytest.raises(UsageError, match="--draws is 99; expected at least 100"):
        judge(finished, draws=99)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_model_with_one_flipped_byte_is_one_clear_line(finished, share):
    data = bytearray(finished.checkpoint_path.read_bytes())
    data[int(share * len(data))] ^= 0xFF
    finished.checkpoint_path.write_bytes(data)
    fails(finished, r"best\.keras")
    assert not path_of(finished, "validation").exists()


def test_a_model_cut_short_is_one_clear_line(finished):
    data = finished.checkpoint_path.read_bytes()
    finished.checkpoint_path.write_bytes(data[: len(data) // 2])
    fails(finished, r"best\.keras")


def test_what_was_judged_is_shown_without_tensorflow():
    code = (
        "import sys; from engine.evaluation import evaluate, frozen, judgement, models, printed, "
        "predictions, reads, summary; assert not {'tensorflow', 'keras'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_that_is_printed_fits_into_100_columns(finished, capsys):
    judge(finished)
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if str(finished.path) not in line]
    assert max(map(len, shown)) <= 100
    assert str(path_of(finished, "test", "metrics.json")) in lines
    assert predictions.FILE_NAME in lines[-3]
