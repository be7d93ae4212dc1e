from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipelines import work_folder
from engine.input.cache_folder import CacheFolder
from records import storage
from records.manifest import StoredFile


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Let the process give new files away to everybody, unless it says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path | str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.mark.usefixtures("open_umask")
def test_what_is_not_published_yet_can_be_read_by_nobody_else(tmp_path: Path) -> None:
    with storage.atomic_writer(str(tmp_path / "file")) as file:
        assert mode(file.name) == 0o600
        assert Path(file.name).parent == tmp_path
    assert mode(tmp_path / "file") == 0o666


@pytest.mark.usefixtures("open_umask")
def test_what_goes_to_a_bucket_can_be_read_by_nobody_else(s3: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with storage.atomic_writer(f"{s3}/file") as file:
        assert mode(file.name) == 0o600
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("open_umask")
def test_work_items_lie_where_nobody_else_can_put_one(tmp_path: Path, monkeypatch) -> None:
    from beam_pipelines import pipeline

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    modes = []
    fill = work_folder.fill

    def watched(folder: Path, items) -> None:
        modes.append((mode(folder), folder.stat().st_uid))
        fill(folder, items)

    monkeypatch.setattr(work_folder, "fill", watched)
    pipeline.run(_nothing, ["item"], ["--direct_running_mode=in_memory", "--direct_num_workers=1"], None)
    assert modes == [(0o700, os.getuid())]
    assert not list(tmp_path.glob("cxr-*"))


def _nothing(item: str) -> str:
    return item


@pytest.mark.parametrize("name", ["a/../../../evil", "..", "a/..", "/etc/passwd", "../x.tfrecord"])
def test_a_copy_in_the_cache_stays_in_its_folder_whatever_the_file_is_called(
    tmp_path: Path, name: str
) -> None:
    folder = CacheFolder(tmp_path, 100)
    file = StoredFile(name, 1, "00000000")
    for path in (folder.copy_path(file), folder.partial_path(file)):
        assert Path(os.path.normpath(path)).parent == tmp_path
