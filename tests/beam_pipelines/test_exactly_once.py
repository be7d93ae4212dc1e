"""Killed at any point, a conversion goes on to the bytes of an undisturbed one; two never mix."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from conversions import error_of, tree_of

from beam_pipelines import audit, claims, convert, duplicates, flags, inputs, output, shards
from records import storage
from records.errors import ManifestError

KILLED = 137
# Every so many of the points at which a file appears or goes.
STEP = 7


def run_and_die(arguments: list[str], at: int | None) -> int:
    """Convert in a process that ends by itself at the `at`-th change of a file; return its exit code."""
    # Its processes are forked from one that imports Beam once and has no threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["beam_pipelines.convert", "beam_pipelines.pipeline"])
    process = context.Process(target=convert_and_die, args=(arguments, at))
    process.start()
    process.join(timeout=60)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"the conversion that was to end at change {at} hangs")
    return process.exitcode


def convert_and_die(arguments: list[str], at: int | None) -> None:
    """Be the process of `run_and_die`."""
    changes = 0

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def tick() -> None:
            nonlocal changes
            changes += 1
            if changes == at:
                os._exit(KILLED)

        def change_and_count(*given: object, **named: object) -> object:
            tick()
            result = change(*given, **named)
            tick()
            return result

        return change_and_count

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    storage._publish = counted(storage._publish)  # type: ignore[assignment]
    Path.unlink, Path.rmdir = counted(Path.unlink), counted(Path.rmdir)  # type: ignore[method-assign,assignment]
    os._exit(convert.main(arguments))


@pytest.mark.slow
def test_killed_at_any_change_of_a_file_it_resumes_to_the_same_bytes(own_drawn, tmp_path):
    """With copies to be dropped and an image that fails, so that every kind of step occurs."""
    images = own_drawn.folder / "images" / "images_001"
    shutil.copy(images / "00000001_000.png", images / "00000007_002.png")
    shutil.copy(images / "00000001_000.png", images / "00000020_001.png")
    (images / "00000002_000.png").write_text("not a picture")
    settings = {"max_quarantined": 0.1, "records_per_shard": 20}
    undisturbed = tmp_path / "undisturbed"
    assert run_and_die(own_drawn.arguments(undisturbed, **settings), None) == 0
    expected = tree_of(undisturbed)
    points, code, at = 0, KILLED, 1
    while code == KILLED:
        folder = tmp_path / "out"
        shutil.rmtree(folder, ignore_errors=True)
        code = run_and_die(own_drawn.arguments(folder, **settings), at)
        assert run_and_die(own_drawn.arguments(folder, **settings, resume=True), None) == 0, at
        assert tree_of(folder) == expected, at
        points, at = points + 1, at + STEP
    assert code == 0
    assert points > 10


def test_a_stricter_limit_refuses_a_finished_data_set_and_leaves_it_whole(own_drawn, tmp_path, capsys):
    cv2.imwrite(
        str(own_drawn.folder / "images" / "images_001" / "00000002_000.png"),
        cv2.imread(str(own_drawn.folder / "images" / "images_001" / "00000002_000.png"))[:9, :9],
    )
    folder = tmp_path / "out"
    assert convert.main(own_drawn.arguments(folder, max_quarantined=0.1)) == 0
    before = tree_of(folder)
    line = error_of(capsys, own_drawn.arguments(folder, max_quarantined=0.0, resume=True), 1)
    assert "1 of 60 images failed the checks" in line
    assert tree_of(folder) == before


@pytest.mark.parametrize("name", ["DATASET.md", "quarantine.csv", "oddities.csv"])
def test_resume_mends_the_lists_and_the_card_and_the_audit_misses_them(
    drawn, converted, tmp_path, capsys, name
):
    folder = Path(shutil.copytree(converted, tmp_path / "out"))
    (folder / name).unlink()
    assert audit.main([str(folder)]) == 1
    assert f"{name}: missing" in capsys.readouterr().err
    (folder / name).write_text("Image Index,something\na.png,else\n")
    assert audit.main([str(folder)]) == 1
    assert convert.main(drawn.arguments(folder, resume=True)) == 0
    assert tree_of(folder) == tree_of(converted)
    assert audit.main([str(folder)]) == 0


def test_an_unfinished_conversion_says_in_what_it_differs(drawn, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(convert, "_write_shards", _interrupt)
        assert convert.main(drawn.arguments(folder)) == 130
    capsys.readouterr()
    line = error_of(capsys, drawn.arguments(folder, seed=4, encoding="png", resume=True), 1)
    assert (
        "with other inputs or settings (seed is 17, asked for is 4; encoding is raw, asked for is png)"
        in line
    )


def test_an_image_that_was_replaced_by_one_of_equal_size_is_taken_up_on_resume(
    own_drawn, tmp_path, monkeypatch
):
    folder, victim = tmp_path / "out", own_drawn.folder / "images" / "images_001" / "00000002_000.png"
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "find", _interrupt)
        assert convert.main(own_drawn.arguments(folder)) == 130
    assert any(folder.rglob("*.tfrecord"))
    data = victim.read_bytes()
    other = cv2.imread(str(victim), cv2.IMREAD_GRAYSCALE)[::-1]
    replaced = cv2.imencode(".png", other)[1].tobytes()
    size = max(len(data), len(replaced))
    # A reader stops at IEND: what follows makes them equal in size.
    victim.write_bytes(replaced + bytes(size - len(replaced)))
    assert convert.main(own_drawn.arguments(folder, resume=True)) == 0
    fresh = tmp_path / "fresh"
    assert convert.main(own_drawn.arguments(fresh)) == 0
    shards_of = lambda tree: {name: data for name, data in tree.items() if name.endswith(".tfrecord")}  # noqa: E731
    assert shards_of(tree_of(folder)) == shards_of(tree_of(fresh))


def test_a_conversion_into_a_bucket_stops_when_another_one_has_taken_it_over(drawn, s3, monkeypatch, capsys):
    bucket, find = f"{s3}/shards", duplicates.find

    def find_after_another(all_notes):
        """All shards stand: another conversion of the same request begins and ends."""
        with monkeypatch.context() as patch:
            patch.setattr(duplicates, "find", find)
            assert convert.main(drawn.arguments(bucket, resume=True)) == 0
        return find(all_notes)

    monkeypatch.setattr(duplicates, "find", find_after_another)
    assert "another conversion is writing here" in error_of(capsys, drawn.arguments(bucket), 1)
    assert audit.main([bucket]) == 0
    assert not output.is_left_behind(bucket)


def test_a_worker_of_a_run_that_was_taken_over_publishes_nothing(drawn, tmp_path):
    found, _ = flags.parse(drawn.arguments(tmp_path))
    asked = inputs.read(found)
    prepared = asked.plan_shards(asked.listing.images)
    first, second = (claims.make(str(tmp_path), prepared.request) for _ in range(2))
    item, settings, versions = prepared.items[0], prepared.request.pixels, prepared.request.versions
    with pytest.raises(ManifestError, match="another conversion is writing here"):
        shards.write_shard(item, str(tmp_path), settings, versions, first)
    assert not any(tmp_path.rglob("*.tfrecord"))
    shards.write_shard(item, str(tmp_path), settings, versions, second)
    assert [path.name for path in tmp_path.rglob("*.tfrecord")] == [Path(item.path).name]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
