"""What an evaluation left: cut off, changed, damaged, locked or on a disk that takes nothing."""

from __future__ import annotations

import errno
import json

import pytest
from judged_runs import make_ensemble, save_model
from judging import DRAWS, fails, json_of, judge, metrics_of, path_of

from engine.evaluation import judgement, lock, models
from records import storage
from records.errors import StorageError


def test_one_process_at_a_time_judges_a_run(finished):
    with lock.held(finished.path):
        fails(finished, "another process is evaluating or replacing it; call again when that has ended")
    assert judge(finished) == 0


def test_the_lock_of_a_run_that_was_put_aside_is_worth_nothing(finished, monkeypatch):
    opened = lock._opened

    def put_aside(path):
        file = opened(path)
        path.unlink()
        return file

    monkeypatch.setattr(lock, "_opened", put_aside)
    fails(finished, "another process has replaced it just now")


def test_what_was_judged_is_shown_where_nothing_can_be_written(finished, monkeypatch, capsys):
    judge(finished)
    first = capsys.readouterr().out

    def refused(path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lock, "_opened", refused)
    monkeypatch.setattr(storage, "write_bytes", None)
    judge(finished)
    assert capsys.readouterr().out == first


def test_a_lock_that_cannot_be_made_is_one_line(finished, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock, "_opened", full)
    with pytest.raises(StorageError, match=r"evaluation/.lock: can't be written: No space left on device"):
        judge(finished)


@pytest.mark.parametrize(
    "change",
    [
        lambda metrics: metrics["macro_auroc"].update(value=0.99),
        lambda metrics: metrics.update(operating_points=None),
        lambda metrics: metrics["findings"].pop("Mass"),
    ],
)
def test_a_changed_number_is_noticed_and_computed_again_from_the_predictions(
    finished, monkeypatch, capsys, change
):
    judge(finished)
    path = path_of(finished, "test", "metrics.json")
    before = path.read_bytes()
    metrics = json.loads(before)
    change(metrics)
    path.write_text(json.dumps(metrics))
    monkeypatch.setattr(judgement.Judgement, "_predict", None)
    judge(finished)
    assert path.read_bytes() == before
    assert "metrics.json was changed; computed again" in capsys.readouterr().err


def test_a_members_predictions_that_were_changed_are_refused(tmp_path, data_set):
    directory = make_ensemble(tmp_path / "ensemble", data_set)
    judge(directory)
    path = path_of(directory, "test", "members/one.csv")
    path.write_bytes(path.read_bytes().replace(b",0.", b",0.0", 1))
    fails(directory, r"one.csv: not the predictions that metrics.json is of", draws=DRAWS + 10)


def test_a_best_member_that_is_none_is_one_line(tmp_path, data_set):
    directory = make_ensemble(tmp_path / "ensemble", data_set)
    judge(directory)
    path = directory.path / "evaluation" / "frozen.json"
    path.write_text(path.read_text().replace('"best_member": "', '"best_member": "no'))
    fails(directory, r"frozen.json: best_member is `no\w+`, which is no member; remove it")


def test_a_model_that_changes_while_it_is_loaded_is_not_judged(finished, data_set, monkeypatch):
    monkeypatch.setattr(models, "find", lambda run_dir, find=models.find: _then_train(find(run_dir)))

    def _then_train(found):
        save_model(finished.checkpoint_path, data_set, seed=5)
        return found

    fails(finished, r"best.keras: changed while it was loaded; its run is being trained")
    assert not path_of(finished, "validation").exists()


@pytest.mark.parametrize("last", ["frozen.json", "predictions.csv", "metrics.json"])
def test_an_evaluation_that_was_killed_is_gone_on_with(finished, data_set, monkeypatch, last):
    judge(finished, split="validation")
    save_model(finished.checkpoint_path, data_set, seed=5)
    write = storage.write_bytes

    def killed(location, data):
        if location.endswith(last):
            raise KeyboardInterrupt
        write(location, data)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            judge(finished, split="validation")
    judge(finished, split="validation")
    sha256 = {
        metrics_of(finished, "validation")["model_sha256"],
        json_of(finished, "frozen.json")["model_sha256"],
    }
    assert len(sha256) == 1
    data = path_of(finished, "validation").read_bytes()
    assert metrics_of(finished, "validation")["predictions_sha256"] == judgement._hash(data)


def test_predictions_that_are_gone_are_made_again(finished):
    judge(finished, split="validation")
    path = path_of(finished, "validation")
    before = path.read_bytes()
    path.unlink()
    judge(finished, split="validation")
    assert path.read_bytes() == before


def test_metrics_of_the_earlier_schema_are_made_again(finished):
    path = path_of(finished, "validation", "metrics.json")
    path.parent.mkdir(parents=True)
    path.write_text('{"macro_auroc": 0.5}')
    judge(finished, split="validation")
    assert metrics_of(finished, "validation")["schema"] == 2


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("validation/predictions.csv", b"image_id\n", "not the predictions that metrics.json is of"),
        ("validation/metrics.json", b"{", r"metrics.json: damaged .* remove .*validation and evaluate again"),
        ("frozen.json", b"[1]", "frozen.json: damaged .* remove it and evaluate again"),
        ("frozen.json", b'{"thresholds": {}}', "frozen.json: damaged"),
        ("test_reads.json", b"[{}]", "test_reads.json: damaged"),
        (
            "test_reads.json",
            b'[{"at": "", "model_sha256": null, "manifest_sha256": "", "frozen_sha256": "", "command": ""}]',
            "test_reads.json: damaged .an entry that names no model",
        ),
    ],
)
def test_a_damaged_file_is_one_clear_line(finished, name, content, reason):
    judge(finished)
    (finished.path / "evaluation" / name).write_bytes(content)
    fails(finished, reason)
