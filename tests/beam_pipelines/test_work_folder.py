"""Work items in a folder: each is done once, by whoever is free, and none is begun after one has failed."""

from __future__ import annotations

import functools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from beam_pipelines import pipeline, work_folder
from records.errors import ImageError

ITEMS = [f"item {number}" for number in range(12)]


def note(item: str, folder: Path) -> str:
    """Leave a line for each time that an item is done."""
    with (folder / item).open("a") as file:
        file.write("done\n")
    return item


def note_slowly(item: str, folder: Path) -> str:
    time.sleep(0.3 if item == ITEMS[0] else 0.01)
    return note(item, folder)


def fail_at_the_third(item: str) -> str:
    if item == ITEMS[2]:
        raise ImageError("no picture")
    return item


def take_all(folder: str, done: Path) -> list[str]:
    return list(work_folder.take_turn(functools.partial(note_slowly, folder=done), folder, b"0"))


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    folder = tmp_path / "waiting"
    folder.mkdir()
    work_folder.fill(folder, ITEMS)
    return folder


def test_one_turn_does_all_items_in_their_order(waiting: Path, tmp_path: Path) -> None:
    work = functools.partial(note, folder=tmp_path)
    assert list(work_folder.take_turn(work, str(waiting), b"0")) == ITEMS
    assert list(work_folder.take_turn(work, str(waiting), b"1")) == []
    assert all((tmp_path / item).read_text() == "done\n" for item in ITEMS)


def test_a_slow_item_keeps_no_other_process_from_the_rest(waiting: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        taken = [pool.submit(take_all, str(waiting), tmp_path) for _ in range(2)]
        shares = sorted((future.result() for future in taken), key=len)
    assert sorted(shares[0] + shares[1]) == sorted(ITEMS)
    assert all((tmp_path / item).read_text() == "done\n" for item in ITEMS)


def test_no_item_is_begun_after_one_has_failed(waiting: Path) -> None:
    turn = work_folder.take_turn(fail_at_the_third, str(waiting), b"0")
    assert [next(turn), next(turn)] == ITEMS[:2]
    with pytest.raises(ImageError, match="no picture"):
        next(turn)
    assert list(work_folder.take_turn(fail_at_the_third, str(waiting), b"1")) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_the_local_runner_does_each_item_once(tmp_path: Path, threads: int) -> None:
    flags = ["--direct_running_mode=multi_threading", f"--direct_num_workers={threads}"]
    pipeline.run(functools.partial(note, folder=tmp_path), ITEMS, flags)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ITEMS)
    assert all((tmp_path / item).read_text() == "done\n" for item in ITEMS)
