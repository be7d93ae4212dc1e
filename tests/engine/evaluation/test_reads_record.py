"""Who has read the test split stays on record, and other models are refused."""

from __future__ import annotations

import json

import pytest
from judged_runs import save_model
from judging import fails, json_of, judge, metrics_of, path_of

from engine.evaluation import judgement
from records.labels import FINDINGS


def test_another_model_may_not_read_test_unless_asked_to_and_the_record_keeps_both(finished, data_set):
    judge(finished)
    first = json_of(finished, "test_reads.json")[0]["model_sha256"]
    save_model(finished.checkpoint_path, data_set, seed=5)
    before = path_of(finished, "test").read_bytes()
    line = fails(finished, "another model of this run has read the test split")
    assert "--reread-test" in line
    fails(finished, "another model of this run has read the test split", split="test")
    assert path_of(finished, "test").read_bytes() == before
    assert metrics_of(finished, "validation")["model_sha256"] == first
    judge(finished, split="validation")
    judge(finished, reread_test=True)
    assert path_of(finished, "test").read_bytes() != before
    entries = json_of(finished, "test_reads.json")
    assert [entry["model_sha256"] == first for entry in entries] == [True, False]
    assert metrics_of(finished, "test")["test_reads"] == 2
    judge(finished)
    assert json_of(finished, "test_reads.json") == entries


def test_other_choices_judged_on_the_same_predictions_are_a_reading_on_record(finished, monkeypatch):
    judge(finished)
    path = finished.path / "evaluation" / "frozen.json"
    frozen = json.loads(path.read_bytes())
    frozen["thresholds"]["youden"] = dict.fromkeys(FINDINGS, 0.123)
    path.write_text(json.dumps(frozen))
    monkeypatch.setattr(judgement.Judgement, "_predict", None)
    judge(finished, split="test")
    first, second = json_of(finished, "test_reads.json")
    assert first["frozen_sha256"] != second["frozen_sha256"] == judgement._hash(path.read_bytes())
    assert metrics_of(finished, "test")["test_reads"] == 2
    judge(finished, split="test")
    assert len(json_of(finished, "test_reads.json")) == 2


def test_a_record_that_is_gone_is_missed_also_by_another_model(finished, data_set):
    judge(finished)
    (finished.path / "evaluation" / "test_reads.json").unlink()
    line = fails(finished, r"test_reads.json: missing, though .*metrics.json tells of a reading")
    assert "--reread-test" in line
    save_model(finished.checkpoint_path, data_set, seed=5)
    fails(finished, "test_reads.json: missing")
    judge(finished, split="validation")
    judge(finished, reread_test=True)
    assert len(json_of(finished, "test_reads.json")) == 1


def test_a_record_that_is_gone_is_begun_anew_if_asked_to(finished, monkeypatch):
    judge(finished)
    (finished.path / "evaluation" / "test_reads.json").unlink()
    monkeypatch.setattr(judgement.Judgement, "_predict", None)
    judge(finished, reread_test=True)
    assert len(json_of(finished, "test_reads.json")) == 1
    judge(finished)


def test_a_reading_is_on_record_also_where_it_ends_at_once(finished, monkeypatch):
    judge(finished, split="validation")

    def killed(self, split):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(judgement.Judgement, "_predict", killed)
        with pytest.raises(KeyboardInterrupt):
            judge(finished)
    assert len(json_of(finished, "test_reads.json")) == 1
    assert not path_of(finished, "test").exists()
    judge(finished)
    assert len(json_of(finished, "test_reads.json")) == 2
