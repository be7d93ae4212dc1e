"""The bounded cache of remote shards: its limit, who is evicted first, and processes that share it or die."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watching import bytes_in, wait_until

from engine.input import shard_cache, shard_check
from engine.input.cache_folder import AlreadyThereError
from engine.input.shard_cache import CacheFullError, CacheSettings, ShardCache
from records import manifest, storage
from records.errors import ConfigError, ShardError, StorageError

PROGRAM = Path(__file__).with_name("cache_program.py")
SHARDS_THAT_FIT = 3


@pytest.fixture
def cache(folder: Path, remote_set: manifest.Manifest) -> ShardCache:
    """An empty cache for three of the eight training shards."""
    return ShardCache(settings(folder, remote_set))


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that forgets which files were checked, as a new process has."""
    return shard_check._checked.clear


def settings(folder: Path, data_set: manifest.Manifest, shards: int = SHARDS_THAT_FIT) -> CacheSettings:
    return CacheSettings(folder, shards * max(shard.size_bytes for shard in train(data_set)))


def train(data_set: manifest.Manifest) -> tuple[manifest.Shard, ...]:
    return data_set.splits["train"].shards


def open_shard(cache: ShardCache, data_set: manifest.Manifest, number: int) -> int:
    return cache.open(data_set.locate(train(data_set)[number]), train(data_set)[number])


def touch(cache: ShardCache, data_set: manifest.Manifest, *numbers: int) -> None:
    """Open shards and let go of them, one after the other."""
    for number in numbers:
        os.close(open_shard(cache, data_set, number))
        time.sleep(0.002)  # the clock of a file system may be coarse


def cached(folder: Path) -> list[int]:
    """Return the numbers of the shards in a cache folder."""
    names = [re.search(r"-train-(\d+)-of", path.name) for path in folder.iterdir() if path.name != ".lock"]
    return sorted(int(name[1]) for name in names if name)


@pytest.fixture
def most_bytes(folder: Path) -> Iterator[Callable[[], int]]:
    """A function that returns the most bytes that the cache folder was seen to hold so far."""
    seen, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.0005):
            seen[0] = max(seen[0], bytes_in(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield lambda: seen[0]
    stop.set()
    watcher.join()


def start(data_set: manifest.Manifest, folder: Path, size_bytes: int, *stay: str) -> subprocess.Popen:
    """Open all training shards in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), data_set.location, str(folder), str(size_bytes), *stay],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_shard_is_fetched_once_and_found_from_then_on(cache, remote_set, folder, proxy) -> None:
    for _ in range(2):
        descriptor = open_shard(cache, remote_set, 4)
        data = os.pread(descriptor, 1 << 20, 0)
        assert data == storage.read_bytes(remote_set.locate(train(remote_set)[4]))
        os.close(descriptor)
        proxy.gets.pop()  # of this test's own look at the object
    assert proxy.shard_gets() == {train(remote_set)[4].path: 1}
    shard = train(remote_set)[4]
    assert sorted(path.name for path in folder.iterdir()) == [".lock", f"{shard.crc32c}-{shard.path}"]


def test_the_limit_holds_at_every_moment(cache, remote_set, most_bytes, proxy) -> None:
    proxy.delay_s = 0.01
    workers = [
        threading.Thread(target=touch, args=(cache, remote_set, *numbers))
        for numbers in (range(8), reversed(range(8)), (3, 1, 4, 1, 5, 2, 6))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert 0 < most_bytes() <= cache.folder.limit_bytes


def test_the_least_recently_used_shard_goes_first(cache, remote_set, folder) -> None:
    touch(cache, remote_set, 0, 1, 2)
    assert cached(folder) == [0, 1, 2]
    touch(cache, remote_set, 0, 3)
    assert cached(folder) == [0, 2, 3]
    touch(cache, remote_set, 4, 5)
    assert cached(folder) == [3, 4, 5]


def test_a_mapped_shard_is_never_evicted(cache, remote_set, folder) -> None:
    descriptor = open_shard(cache, remote_set, 0)
    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    os.close(descriptor)
    touch(cache, remote_set, 1, 2, 3, 4, 5)
    assert 0 in cached(folder)
    assert manifest.crc32c(mapped[:]) == train(remote_set)[0].crc32c
    mapped.close()
    touch(cache, remote_set, 6, 7, 1)
    assert cached(folder) == [1, 6, 7]


def test_a_cache_in_which_all_is_in_use_says_what_to_do(cache, remote_set, folder, monkeypatch) -> None:
    monkeypatch.setattr(shard_cache, "WAIT_S", 0.2)
    held = [open_shard(cache, remote_set, number) for number in range(SHARDS_THAT_FIT)]
    with pytest.raises(CacheFullError) as error:
        open_shard(cache, remote_set, 5)
    limit = cache.folder.limit_bytes
    assert str(error.value) == (
        f"{folder}: no room for the {train(remote_set)[5].size_bytes:,} bytes of "
        f"{remote_set.locate(train(remote_set)[5])}; {bytes_in(folder):,} of at most {limit:,} are in use "
        "by this or other processes, each of which needs two blocks and two shards: raise input.cache_bytes "
        "or lower input.shuffle_block_shards"
    )
    for descriptor in held:
        os.close(descriptor)


def test_a_shard_larger_than_the_cache_is_refused_without_a_wait(folder, remote_set) -> None:
    with pytest.raises(CacheFullError, match="no room for the"):
        open_shard(ShardCache(CacheSettings(folder, 100)), remote_set, 0)
    with pytest.raises(ConfigError, match="a cache of 0 bytes; expected at least 1"):
        CacheSettings(folder, 0)


def test_room_that_is_given_up_meanwhile_is_taken(cache, remote_set, folder) -> None:
    held = [open_shard(cache, remote_set, number) for number in range(SHARDS_THAT_FIT)]
    threading.Timer(0.2, os.close, held[:1]).start()
    touch(cache, remote_set, 5)
    assert cached(folder) == [1, 2, 5]
    for descriptor in held[1:]:
        os.close(descriptor)


def test_a_caller_can_give_way_to_itself(cache, remote_set) -> None:
    held = [open_shard(cache, remote_set, number) for number in range(SHARDS_THAT_FIT)]

    def give_way() -> bool:
        os.close(held.pop(0))
        return True

    shard = train(remote_set)[6]
    held.append(cache.open(remote_set.locate(shard), shard, give_way=give_way))
    assert len(held) == SHARDS_THAT_FIT
    for descriptor in held:
        os.close(descriptor)


def test_two_processes_at_once_fetch_each_shard_once(remote_set, folder, proxy, most_bytes) -> None:
    proxy.delay_s = 0.02
    size_bytes = settings(folder, remote_set, 8).size_bytes
    both = [start(remote_set, folder, size_bytes) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.split(), err) == (0, ["begun"] + ["True"] * 8, "")
    assert proxy.shard_gets() == {shard.path: 1 for shard in train(remote_set)}
    assert most_bytes() <= size_bytes


def test_two_processes_share_a_cache_too_small_for_all(remote_set, folder, proxy, most_bytes) -> None:
    size_bytes = settings(folder, remote_set).size_bytes
    both = [start(remote_set, folder, size_bytes) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.split(), err) == (0, ["begun"] + ["True"] * 8, "")
    assert 0 < most_bytes() <= size_bytes


def test_what_another_process_has_open_is_not_evicted(remote_set, folder, cache, monkeypatch) -> None:
    monkeypatch.setattr(shard_cache, "WAIT_S", 0.2)
    process = start(remote_set, folder, settings(folder, remote_set, 8).size_bytes, "stay")
    assert process.stdout
    assert [process.stdout.readline().strip() for _ in range(9)] == ["begun"] + ["True"] * 8
    for path in folder.glob("*-train-00007-*"):
        path.unlink()
    with pytest.raises(CacheFullError):
        open_shard(cache, remote_set, 7)
    process.communicate("done\n", timeout=60)
    touch(cache, remote_set, 7)
    assert len(cached(folder)) == SHARDS_THAT_FIT


def test_a_fetch_that_was_killed_is_taken_over(remote_set, folder, cache, proxy, most_bytes) -> None:
    proxy.passes = lambda path: "train-00002" not in path
    proxy.gate.clear()
    process = start(remote_set, folder, cache.folder.limit_bytes)
    partial = cache.folder.partial_path(train(remote_set)[2])
    wait_until(partial.exists)
    assert partial.stat().st_size == train(remote_set)[2].size_bytes, "room is taken before the fetch"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert partial.exists()
    proxy.gate.set()
    touch(cache, remote_set, 2, 5)
    assert not partial.exists()
    assert {2, 5} <= set(cached(folder))
    assert most_bytes() <= cache.folder.limit_bytes


def test_a_waiting_process_goes_on_when_the_fetching_one_is_killed(remote_set, folder, cache, proxy) -> None:
    proxy.gate.clear()
    process = start(remote_set, folder, cache.folder.limit_bytes)
    wait_until(lambda: bool(proxy.shard_gets()))
    opened: list[int] = []
    waiting = threading.Thread(target=lambda: opened.append(open_shard(cache, remote_set, 0)))
    waiting.start()
    time.sleep(0.1)
    assert proxy.shard_gets() == {train(remote_set)[0].path: 1}, "the second one waits and doesn't ask"
    process.kill()
    process.communicate(timeout=60)
    proxy.gate.set()
    waiting.join(20)
    assert proxy.shard_gets()[train(remote_set)[0].path] == 2
    os.close(opened[0])


def test_another_process_whose_fetch_stands_still_is_not_waited_for_forever(
    remote_set, folder, cache, proxy, monkeypatch
) -> None:
    monkeypatch.setattr(shard_cache, "WAIT_S", 0.5)
    proxy.gate.clear()
    process = start(remote_set, folder, cache.folder.limit_bytes)
    wait_until(lambda: bool(proxy.shard_gets()))
    with pytest.raises(StorageError, match=r"another process fetches it to .* where no byte has arrived for"):
        open_shard(cache, remote_set, 0)
    process.kill()
    process.communicate(timeout=60)


def test_a_damaged_copy_of_an_earlier_process_is_fetched_again_with_a_note(
    cache, remote_set, folder, proxy, new_process, capsys
) -> None:
    touch(cache, remote_set, 1)
    path = cache.folder.copy_path(train(remote_set)[1])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    new_process()
    touch(cache, remote_set, 1)
    assert manifest.crc32c(path.read_bytes()) == train(remote_set)[1].crc32c
    assert proxy.shard_gets() == {train(remote_set)[1].path: 2}
    said = capsys.readouterr().err
    assert said.startswith(f"note: {path}: CRC32C ")
    assert said.endswith("it is fetched again\n")


def test_a_copy_of_an_earlier_process_is_checked_once(cache, remote_set, new_process, monkeypatch) -> None:
    checked, check = [], shard_check.check
    monkeypatch.setattr(shard_check, "check", lambda path, *rest: (checked.append(path), check(path, *rest)))
    touch(cache, remote_set, 1, 1)
    assert checked == [cache.folder.partial_path(train(remote_set)[1])]
    new_process()
    touch(cache, remote_set, 1, 1)
    assert checked[1:] == [cache.folder.copy_path(train(remote_set)[1])]


def test_a_truncated_copy_is_fetched_again(cache, remote_set, proxy) -> None:
    touch(cache, remote_set, 1)
    path = cache.folder.copy_path(train(remote_set)[1])
    os.truncate(path, 100)
    touch(cache, remote_set, 1)
    assert manifest.crc32c(path.read_bytes()) == train(remote_set)[1].crc32c


def test_an_object_with_a_wrong_checksum_is_named_and_never_kept(cache, remote_set, folder) -> None:
    shard = train(remote_set)[1]
    location = remote_set.locate(shard)
    storage.write_bytes(location, storage.read_bytes(location)[:-1] + b"?")
    with pytest.raises(ShardError) as error:
        open_shard(cache, remote_set, 1)
    assert re.fullmatch(
        re.escape(location)
        + rf": CRC32C [0-9a-f]{{8}}, the manifest says {shard.crc32c}; the file is damaged "
        "or stale: run the conversion again with --resume",
        str(error.value),
    )
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_fetch_that_fails_leaves_nothing_and_gives_its_room_back(
    cache, remote_set, folder, proxy, impatient
) -> None:
    proxy.gate.clear()
    with pytest.raises(StorageError, match="can't be fetched: no answer in time"):
        open_shard(cache, remote_set, 1)
    assert [path.name for path in folder.iterdir()] == [".lock"]
    proxy.gate.set()
    touch(cache, remote_set, 1)


def test_a_folder_that_cannot_be_made_is_named(remote_set, tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = ShardCache(CacheSettings(tmp_path / "file" / "cache", 1 << 20))
    with pytest.raises(StorageError) as error:
        open_shard(cache, remote_set, 0)
    location = remote_set.locate(train(remote_set)[0])
    assert str(error.value) == f"{tmp_path}/file/cache: {location} can't be cached there: not a directory"


def test_a_full_disk_is_named(cache, remote_set, folder, monkeypatch) -> None:
    def full(descriptor: int, offset: int, size_bytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="can't be cached there: no space left on device"):
        open_shard(cache, remote_set, 0)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_the_folder_may_be_removed_between_uses(cache, remote_set, folder) -> None:
    touch(cache, remote_set, 0)
    shutil.rmtree(folder)
    touch(cache, remote_set, 0)
    assert cached(folder) == [0]


def test_files_of_others_count_and_stay(cache, remote_set, folder) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_bytes(bytes(cache.folder.limit_bytes // 2))
    touch(cache, remote_set, 0, 1)
    assert cached(folder) == [1]
    assert (folder / "notes.txt").exists()


def test_what_can_never_fit_evicts_nothing(cache, remote_set, folder, monkeypatch) -> None:
    monkeypatch.setattr(shard_cache, "WAIT_S", 0.2)
    touch(cache, remote_set, 0, 1)
    held = open_shard(cache, remote_set, 0)
    before = cached(folder)
    room = cache.folder._make_room(cache.folder.limit_bytes)
    os.close(held)
    assert not room
    assert cached(folder) == before


def test_a_left_over_that_another_process_looks_at_is_waited_for(cache, remote_set, folder) -> None:
    file = train(remote_set)[0]
    folder.mkdir(parents=True, exist_ok=True)
    orphan = cache.folder.partial_path(file)
    orphan.write_bytes(b"half")
    with orphan.open("rb") as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        with pytest.raises(AlreadyThereError):
            cache.folder.reserve(file)
    descriptor = cache.folder.reserve(file)
    assert descriptor is not None
    cache.folder.discard(file, descriptor)
