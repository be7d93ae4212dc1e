"""`evaluate.run` on runs made by hand: its numbers, and that test is read once, after all is frozen."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from judged_runs import make_run, save_model

from engine.evaluation import evaluate, judgement, predictions
from engine.input.reader import ShardReader
from engine.training.run_directory import RunDirectory
from records import storage
from records.errors import RunError, UsageError
from records.labels import FINDINGS
from records.manifest import Manifest

DRAWS = 20


@pytest.fixture
def finished(tmp_path: Path, data_set: Manifest) -> RunDirectory:
    """A run that has ended, with a model that is linear in the pixels."""
    return make_run(tmp_path / "run", data_set)


def _run(directory: RunDirectory, **changes) -> int:
    return evaluate.run(str(directory.path), **({"draws": DRAWS} | changes))


def _path(directory: RunDirectory, split: str, name: str = "predictions.csv") -> Path:
    return directory.evaluation_path(split) / name


def _metrics(directory: RunDirectory, split: str) -> dict:
    return json.loads(_path(directory, split, "metrics.json").read_bytes())


def _json(directory: RunDirectory, name: str) -> list | dict:
    return json.loads((directory.path / "evaluation" / name).read_bytes())


def _read(directory: RunDirectory, split: str) -> dict[str, dict[str, str]]:
    with _path(directory, split).open(newline="") as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


def _columns(row: dict[str, str], prefix: str) -> np.ndarray:
    return np.array([float(row[f"{prefix}_{finding}"]) for finding in FINDINGS])


def _fails(directory: RunDirectory, match: str, **changes) -> str:
    with pytest.raises(RunError, match=match) as raised:
        _run(directory, **changes)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_each_image_id_has_the_numbers_of_its_own_picture(finished, data_set):
    assert _run(finished) == 0
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
    _run(finished)
    frozen = _json(finished, "frozen.json")
    assert frozen["chosen_on"] == "validation"
    assert frozen["manifest_sha256"] == data_set.sha256
    assert list(frozen["thresholds"]) == ["youden", "sensitivity_0.90"]
    for split in ("validation", "test"):
        metrics = _metrics(finished, split)
        assert metrics["schema"] == 2
        assert metrics["model_sha256"] == frozen["model_sha256"]
        assert metrics["calibration"]["temperatures"] == frozen["temperatures"]
        for point in metrics["operating_points"][1:]:
            used = {finding: values["threshold"] for finding, values in point["findings"].items()}
            assert used == frozen["thresholds"][point["name"]]
    (entry,) = _json(finished, "test_reads.json")
    data = (finished.path / "evaluation" / "frozen.json").read_bytes()
    assert entry["frozen_sha256"] == judgement._hash(data)
    assert entry["at"] >= frozen["frozen_at"]
    assert (_metrics(finished, "validation")["test_reads"], _metrics(finished, "test")["test_reads"]) == (
        0,
        1,
    )


def test_test_alone_judges_validation_first_and_validation_alone_leaves_test_unread(finished):
    _run(finished, split="validation")
    assert not _path(finished, "test").exists()
    assert not (finished.path / "evaluation" / "test_reads.json").exists()
    frozen = _json(finished, "frozen.json")
    _run(finished, split="test")
    assert _json(finished, "frozen.json") == frozen
    assert len(_json(finished, "test_reads.json")) == 1


def test_a_model_that_was_judged_is_not_judged_again(finished, monkeypatch, capsys):
    _run(finished)
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("evaluation/**/*")}
    first = capsys.readouterr().out
    monkeypatch.setattr(judgement.Judgement, "_predict", None)
    _run(finished)
    assert {path: path.stat().st_mtime_ns for path in finished.path.rglob("evaluation/**/*")} == before
    printed = capsys.readouterr()
    assert printed.out == first
    assert "test: this model was evaluated already; nothing is read" in printed.err


def test_other_draws_are_made_without_reading_a_picture(finished, monkeypatch):
    _run(finished)
    before = _metrics(finished, "test")
    monkeypatch.setattr(judgement.Judgement, "_predict", None)
    _run(finished, draws=DRAWS + 10)
    after = _metrics(finished, "test")
    assert after["bootstrap"]["draws"] == DRAWS + 10
    assert after["macro_auroc"]["value"] == before["macro_auroc"]["value"]
    assert len(_json(finished, "test_reads.json")) == 1


def test_another_model_may_not_read_test_unless_asked_to_and_the_record_keeps_both(finished, data_set):
    _run(finished)
    first = _json(finished, "test_reads.json")[0]["model_sha256"]
    save_model(finished.checkpoint_path, data_set, seed=5)
    before = _path(finished, "test").read_bytes()
    line = _fails(finished, "another model of this run has read the test split")
    assert "--reread-test" in line
    _fails(finished, "another model of this run has read the test split", split="test")
    assert _path(finished, "test").read_bytes() == before
    assert _metrics(finished, "validation")["model_sha256"] == first
    _run(finished, split="validation")
    _run(finished, reread_test=True)
    assert _path(finished, "test").read_bytes() != before
    entries = _json(finished, "test_reads.json")
    assert [entry["model_sha256"] == first for entry in entries] == [True, False]
    assert _metrics(finished, "test")["test_reads"] == 2
    _run(finished)
    assert _json(finished, "test_reads.json") == entries


def test_a_reading_is_on_record_also_where_it_ends_at_once(finished, monkeypatch):
    _run(finished, split="validation")

    def killed(self, split):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(judgement.Judgement, "_predict", killed)
        with pytest.raises(KeyboardInterrupt):
            _run(finished)
    assert len(_json(finished, "test_reads.json")) == 1
    assert not _path(finished, "test").exists()
    _run(finished)
    assert len(_json(finished, "test_reads.json")) == 2


@pytest.mark.parametrize("last", ["frozen.json", "predictions.csv", "metrics.json"])
def test_an_evaluation_that_was_killed_is_gone_on_with(finished, data_set, monkeypatch, last):
    _run(finished, split="validation")
    save_model(finished.checkpoint_path, data_set, seed=5)
    write = storage.write_bytes

    def killed(location, data):
        if location.endswith(last):
            raise KeyboardInterrupt
        write(location, data)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            _run(finished, split="validation")
    _run(finished, split="validation")
    sha256 = {
        _metrics(finished, "validation")["model_sha256"],
        _json(finished, "frozen.json")["model_sha256"],
    }
    assert len(sha256) == 1
    data = _path(finished, "validation").read_bytes()
    assert _metrics(finished, "validation")["predictions_sha256"] == judgement._hash(data)


def test_predictions_that_are_gone_are_made_again(finished):
    _run(finished, split="validation")
    path = _path(finished, "validation")
    before = path.read_bytes()
    path.unlink()
    _run(finished, split="validation")
    assert path.read_bytes() == before


def test_metrics_of_the_earlier_schema_are_made_again(finished):
    path = _path(finished, "validation", "metrics.json")
    path.parent.mkdir(parents=True)
    path.write_text('{"macro_auroc": 0.5}')
    _run(finished, split="validation")
    assert _metrics(finished, "validation")["schema"] == 2


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("validation/predictions.csv", b"image_id\n", "not the predictions that metrics.json is of"),
        ("validation/metrics.json", b"{", r"metrics.json: damaged .* remove .*validation and evaluate again"),
        ("frozen.json", b"[1]", "frozen.json: damaged .* remove it and evaluate again"),
        ("frozen.json", b'{"thresholds": {}}', "frozen.json: damaged"),
        ("test_reads.json", b"[{}]", "test_reads.json: damaged"),
    ],
)
def test_a_damaged_file_is_one_clear_line(finished, name, content, reason):
    _run(finished)
    (finished.path / "evaluation" / name).write_bytes(content)
    _fails(finished, reason)


def test_a_model_that_gives_nan_is_one_line_that_names_an_image(finished, data_set):
    save_model(finished.checkpoint_path, data_set, scale=np.nan)
    line = _fails(finished, r"00000200_000\.png: the logit of Infiltration is nan")
    assert "the model gives numbers that are none: train again" in line
    assert not _path(finished, "validation").exists()
    assert not (finished.path / "evaluation" / "test_reads.json").exists()


def test_a_run_without_validation_is_judged_on_test_at_one_half_only(tmp_path, write_data_set, capsys):
    data_set = write_data_set(tmp_path / "data", sizes={"train": (4,), "validation": (), "test": (6,)})
    directory = make_run(tmp_path / "run", data_set)
    _run(directory)
    printed = capsys.readouterr()
    assert "no image in validation, which isn't judged" in printed.err
    assert "no validation split: no threshold or temperature could be chosen; at 0.5 only" in printed.out
    metrics = _metrics(directory, "test")
    assert [point["name"] for point in metrics["operating_points"]] == ["0.5"]
    assert metrics["calibration"]["after"] is None
    assert metrics["prevalence_shift"] == []
    assert _json(directory, "test_reads.json")[0]["frozen_sha256"] is None
    _fails(directory, "no image in validation; nothing to judge", split="validation")


def test_one_patient_has_no_intervals_and_that_is_said(tmp_path, write_data_set, capsys):
    data_set = write_data_set(tmp_path / "data", sizes={"train": (4,), "validation": (2,), "test": (2,)})
    directory = make_run(tmp_path / "run", data_set)
    _run(directory)
    assert "one patient only: intervals are not defined" in capsys.readouterr().out
    assert _metrics(directory, "test")["micro_auroc"]["low"] is None


def test_an_unfinished_run_is_judged_with_a_note(finished, capsys):
    finished.update(state="unfinished")
    _run(finished, split="validation")
    assert "killed after 1 of 12 epochs" in capsys.readouterr().err


def test_another_data_set_is_refused(finished, tmp_path, write_data_set):
    other = write_data_set(tmp_path / "other", side_px=64)
    _fails(finished, "not the data set of this run", data=other.location)


def test_no_run_no_model_and_wrong_usage_are_clear(finished, tmp_path):
    with pytest.raises(RunError, match="no run here"):
        evaluate.run(str(tmp_path / "none"))
    finished.checkpoint_path.unlink()
    _fails(finished, "no model; the run ended before its first epoch did")
    with pytest.raises(UsageError, match="split is `train`; expected validation or test"):
        _run(finished, split="train")
    with pytest.raises(UsageError, match="0 draws"):
        _run(finished, draws=0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_model_with_one_flipped_byte_is_one_clear_line(finished, share):
    data = bytearray(finished.checkpoint_path.read_bytes())
    data[int(share * len(data))] ^= 0xFF
    finished.checkpoint_path.write_bytes(data)
    _fails(finished, r"best\.keras")
    assert not _path(finished, "validation").exists()


def test_a_model_cut_short_is_one_clear_line(finished):
    data = finished.checkpoint_path.read_bytes()
    finished.checkpoint_path.write_bytes(data[: len(data) // 2])
    _fails(finished, r"best\.keras")


def test_what_was_judged_is_shown_without_tensorflow():
    code = (
        "import sys; from engine.evaluation import evaluate, frozen, judgement, models, printed, "
        "predictions, reads, summary; assert not {'tensorflow', 'keras'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_that_is_printed_fits_into_100_columns(finished, capsys):
    _run(finished)
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if str(finished.path) not in line]
    assert max(map(len, shown)) <= 100
    assert str(_path(finished, "test", "metrics.json")) in lines
    assert predictions.FILE_NAME in lines[-3]
