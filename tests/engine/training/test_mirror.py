"""The copy of a run in a bucket: what goes there in which order, and what comes back."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from engine.training import checkpoints, mirror
from engine.training.checkpoints import Checkpoints
from engine.training.mirror import Mirror
from engine.training.run_directory import RunDirectory
from records import storage
from records.errors import RunError, StorageError

DATA_SET = '{"location": "manifest.json", "sha256": "0"}'
NOTE = f'{{"state": "unfinished", "manifest": {DATA_SET}, "started": "2026-01-01T00:00:00Z"}}'
FILES = ("config.yaml", "history.csv", "steps.csv", "best.keras", "run.json")


@pytest.fixture
def location(s3: str) -> str:
    """An empty prefix."""
    return f"{s3}/runs/first"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run, as far as a mirror knows one."""
    made = tmp_path / "run"
    made.mkdir()
    for name in FILES:
        (made / name).write_text(f"{name} 1")
    (made / "run.json").write_text(NOTE)
    (made / "tensorboard").mkdir()
    return made


def _checkpoint(folder: Path, step: int) -> Path:
    with Checkpoints(folder / "checkpoints", 9) as written:
        written.save(step, {"a": np.full(3, step)}, {"step": step})
    return folder / "checkpoints" / f"step-{step:09d}.npz"


def _names(location: str) -> list[str]:
    return sorted(found.location.removeprefix(f"{location}/") for found in storage.list_files(location + "/"))


def test_the_model_goes_before_the_checkpoint_and_the_note_last(folder, location, monkeypatch):
    sent = []
    upload = storage.upload

    def noting(path: Path, to: str) -> None:
        sent.append(storage.name(to))
        upload(path, to)

    monkeypatch.setattr(storage, "upload", noting)
    Mirror(RunDirectory(str(folder)), location, 2).send(_checkpoint(folder, 5))
    assert sorted(sent) == sorted([*FILES, "step-000000005.npz"])
    assert sent[-2:] == ["step-000000005.npz", "run.json"]
    assert "best.keras" in sent[:-2]


def test_only_what_has_changed_is_sent_again(folder, location, monkeypatch):
    copied = Mirror(RunDirectory(str(folder)), location, 2)
    copied.send(_checkpoint(folder, 5))
    sent = []
    monkeypatch.setattr(storage, "upload", lambda path, _: sent.append(path.name))
    (folder / "history.csv").write_text("history.csv 2, longer")
    copied.send(_checkpoint(folder, 10))
    assert sent == ["history.csv", "step-000000010.npz"]


def test_the_last_few_checkpoints_stay_and_those_of_another_run_go(folder, location):
    copied = Mirror(RunDirectory(str(folder)), location, 2)
    for step in (80, 90):
        copied.send(_checkpoint(folder, step))
    again = Mirror(RunDirectory(str(folder)), location, 2)  # begun anew over the old one
    for step in (5, 10, 15):
        again.send(_checkpoint(folder, step))
    kept = [f"checkpoints/step-{step:09d}.npz" for step in (10, 15)]
    assert _names(location) == sorted([*FILES, *kept])


def test_an_empty_folder_gets_the_run_with_its_newest_checkpoint(folder, location, tmp_path, capsys):
    copied = Mirror(RunDirectory(str(folder)), location, 2)
    for step in (5, 10):
        copied.send(_checkpoint(folder, step))
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert mirror.fetch(location, fresh)
    for name in FILES:
        assert (fresh / name).read_bytes() == (folder / name).read_bytes()
    assert [path.name for path in checkpoints.stored(fresh / "checkpoints")] == ["step-000000010.npz"]
    assert capsys.readouterr().err == f"{location}: a run is there; it is brought to {fresh}\n"


def test_behind_a_damaged_checkpoint_the_one_before_comes(folder, location, tmp_path):
    copied = Mirror(RunDirectory(str(folder)), location, 2)
    for step in (5, 10):
        copied.send(_checkpoint(folder, step))
    storage.write_bytes(f"{location}/checkpoints/step-000000010.npz", b"half of it")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert mirror.fetch(location, fresh)
    found = checkpoints.newest(fresh / "checkpoints")
    assert found is not None
    assert found.state == {"step": 5}


def test_a_bucket_without_a_note_holds_no_run(folder, location, tmp_path):
    fresh = tmp_path / "fresh"
    assert not mirror.fetch(location, fresh)
    Mirror(RunDirectory(str(folder)), location, 2).send(_checkpoint(folder, 5))
    storage.delete(f"{location}/run.json")
    assert not mirror.fetch(location, fresh)
    assert not fresh.exists()


def test_the_note_comes_last_so_that_a_fetch_that_was_cut_off_left_no_run(
    folder, location, tmp_path, monkeypatch
):
    Mirror(RunDirectory(str(folder)), location, 2).send(_checkpoint(folder, 5))
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    fetch = storage.fetch

    def cut_off(source: str, path: Path) -> None:
        if path.suffix == ".npz":
            raise KeyboardInterrupt
        fetch(source, path)

    monkeypatch.setattr(storage, "fetch", cut_off)
    with pytest.raises(KeyboardInterrupt):
        mirror.fetch(location, fresh)
    assert not (fresh / "run.json").exists()


def test_a_run_that_begins_finds_its_place_in_the_bucket_free_or_is_refused(
    folder, location, tmp_path
) -> None:
    new, same = RunDirectory(str(tmp_path / "new")), RunDirectory(str(folder))
    mirror.check_place("", new, overwrite=False)
    mirror.check_place(location, new, overwrite=False)
    Mirror(same, location, 2).send()
    with pytest.raises(RunError, match=r"a run is there; go on with it by --resume auto"):
        mirror.check_place(location, new, overwrite=False)
    mirror.check_place(location, new, overwrite=True)
    mirror.check_place(location, same, overwrite=False)
    same.update(started="2026-01-02T00:00:00Z")
    with pytest.raises(RunError, match=r"another run is there"):
        mirror.check_place(location, same, overwrite=False)
    assert _names(location) == sorted(FILES)


def test_a_bucket_that_can_not_be_written_is_told_before_anything_begins(
    folder, location, monkeypatch
) -> None:
    def refuse(to: str, _: bytes) -> None:
        raise StorageError(f"{to}: can't be written: AccessDenied")

    run = RunDirectory(str(folder))
    with pytest.raises(StorageError, match="the store has no such bucket"):
        mirror.check_place("s3://cxr-test-absent/runs", run, overwrite=False)
    monkeypatch.setattr(storage, "write_bytes", refuse)
    for overwrite in (False, True):
        with pytest.raises(StorageError, match="AccessDenied"):
            mirror.check_place(location, run, overwrite=overwrite)


def test_a_store_that_fails_is_told_once_tried_again_and_caught_up_with(
    folder, location, monkeypatch, capsys
) -> None:
    def refuse(path: Path, to: str) -> None:
        raise StorageError(f"{to}: can't be written: out of order")

    run = RunDirectory(str(folder))
    copied = Mirror(run, location, 2)
    with monkeypatch.context() as broken:
        broken.setattr(mirror, "_REST", 0.0)
        broken.setattr(storage, "upload", refuse)
        for step in (5, 10):
            copied.keep_up(_checkpoint(folder, step))
        with pytest.raises(
            RunError, match=r"out of order; the run is whole in .*the same command with --resume auto"
        ):
            copied.finish()
    (line,) = capsys.readouterr().err.splitlines()
    fault = run.read()["copy_fault"]
    reason = f"{location}/config.yaml: can't be written: out of order"
    assert fault["reason"] == reason
    assert line == (
        f"note: {reason}; the run goes on and is whole in {folder}, but isn't copied since {fault['since']}; "
        "that is tried again with later checkpoints"
    )
    assert not mirror.is_copied(location, run)
    copied.keep_up(_checkpoint(folder, 15))
    assert f"copied there again; it wasn't since {fault['since']}" in capsys.readouterr().err
    assert run.read()["copy_fault"] is None
    assert mirror.is_copied(location, run)
    assert "checkpoints/step-000000015.npz" in _names(location)


def test_a_store_that_keeps_one_waiting_is_left_alone_for_a_while(folder, location, monkeypatch) -> None:
    tries = []

    def fail_slowly(path: Path, to: str) -> None:
        tries.append(path.name)
        time.sleep(0.05)
        raise StorageError(f"{to}: can't be written: no answer")

    monkeypatch.setattr(storage, "upload", fail_slowly)
    monkeypatch.setattr(mirror, "_REST", 1e6)
    copied = Mirror(RunDirectory(str(folder)), location, 2)
    for step in (5, 10):
        copied.keep_up(_checkpoint(folder, step))
    assert len(tries) == 1
    with pytest.raises(RunError):
        copied.finish()
    assert len(tries) == 2


def test_copies_of_best_models_and_events_are_sent_when_they_are_new(folder, location, monkeypatch) -> None:
    copies, events = folder / "kept", folder / "tensorboard"
    copies.mkdir()
    (copies / "weights.0001.keras").write_text("one")
    (copies / ".weights.tmp.keras").write_text("half")
    (events / "events.1").write_text("a")
    Mirror(RunDirectory(str(folder)), location, 2).send(_checkpoint(folder, 5))
    assert {"kept/weights.0001.keras", "tensorboard/events.1"} <= set(_names(location))
    assert len(_names(location)) == len(FILES) + 3
    again = Mirror(RunDirectory(str(folder)), location, 2)  # in another process
    sent = []
    monkeypatch.setattr(storage, "upload", lambda _, to: sent.append(to.removeprefix(f"{location}/")))
    (copies / "weights.0003.keras").write_text("three")
    again.send(_checkpoint(folder, 10))
    assert "kept/weights.0003.keras" in sent
    assert "kept/weights.0001.keras" not in sent
    sent.clear()
    (events / "events.1").write_text("a, b")
    again.send(_checkpoint(folder, 15))
    assert sent == ["tensorboard/events.1", "checkpoints/step-000000015.npz"]


def test_a_folder_that_is_behind_its_bucket_is_brought_up_to_it(folder, location, tmp_path) -> None:
    Mirror(RunDirectory(str(folder)), location, 2).send(_checkpoint(folder, 5))
    stale = tmp_path / "stale"
    stale.mkdir()
    assert mirror.fetch_newer(location, stale)
    Mirror(RunDirectory(str(folder)), location, 2).send(_checkpoint(folder, 9))
    assert mirror.fetch_newer(location, stale)
    assert checkpoints.stored(stale / "checkpoints")[0].name == "step-000000009.npz"
    assert not mirror.fetch_newer(location, stale)
