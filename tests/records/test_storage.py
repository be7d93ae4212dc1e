from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from records import s3_objects, storage
from records.errors import StorageError


@pytest.fixture(params=["local", "s3"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3")


def listed(prefix: str) -> list[str]:
    return [stored.location for stored in storage.list_files(prefix)]


@pytest.mark.parametrize("data", [b"", b"some bytes", bytes(range(256)) * 1000])
def test_what_is_written_is_there_whole(base: str, data: bytes) -> None:
    location = storage.join(base, "folder", "file.bin")
    storage.write_bytes(location, data)
    assert storage.exists(location)
    assert storage.size(location) == len(data)
    assert storage.read_bytes(location) == data
    (stored,) = storage.list_files(base)
    assert stored[:2] == (location, len(data))
    assert stored.version


def test_a_file_of_several_parts_is_written_whole(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 << 20)
    data = os.urandom(1 << 20) * 11
    location = storage.join(base, "large.bin")
    storage.write_bytes(location, data)
    assert storage.size(location) == len(data)
    assert storage.read_bytes(location) == data


def test_a_second_write_replaces_the_first(base: str) -> None:
    location = storage.join(base, "file")
    storage.write_bytes(location, b"a long first version")
    storage.write_bytes(location, b"second")
    assert storage.read_bytes(location) == b"second"
    assert listed(base) == [location]


def test_nothing_is_there_before_it_is_written(base: str) -> None:
    storage.write_bytes(storage.join(base, "other"), b"")
    location = storage.join(base, "absent")
    assert not storage.exists(location)
    with pytest.raises(FileNotFoundError):
        storage.size(location)


def test_a_folder_is_no_file(base: str) -> None:
    storage.write_bytes(storage.join(base, "folder", "file"), b"")
    assert not storage.exists(storage.join(base, "folder"))


def test_an_error_over_a_missing_file_names_it(base: str) -> None:
    storage.write_bytes(storage.join(base, "other"), b"")
    location = storage.join(base, "absent")
    with pytest.raises(StorageError, match=f"^{re.escape(location)}: can't be read: no such"):
        storage.read_bytes(location)


def test_a_deleted_file_is_gone_and_may_be_deleted_again(base: str) -> None:
    location, other = storage.join(base, "file"), storage.join(base, "other")
    storage.write_bytes(location, b"x")
    storage.write_bytes(other, b"y")
    storage.delete(location)
    storage.delete(location)
    assert not storage.exists(location)
    assert listed(base) == [other]


def test_a_file_appears_only_when_the_block_has_ended(base: str) -> None:
    location = storage.join(base, "file")
    with storage.atomic_writer(location) as file:
        file.write(b"half")
        file.flush()
        assert not storage.exists(location)
        file.write(b" and half")
    assert storage.read_bytes(location) == b"half and half"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_bytes_and_nothing_else(
    base: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(storage.tempfile, "tempdir", str(temporary))
    location = storage.join(base, "file")
    storage.write_bytes(location, b"old")

    def interrupted() -> None:
        with storage.atomic_writer(location) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        interrupted()
    assert storage.read_bytes(location) == b"old"
    assert listed(base) == [location]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in (["file"], [])


def test_a_write_that_fails_says_where_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    location = str(tmp_path / "taken")
    with pytest.raises(StorageError, match=f"^{re.escape(location)}: can't be written: "):
        storage.write_bytes(location, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_file_in_the_place_of_a_folder_is_an_error_that_names_the_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    location = str(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match=f"^{re.escape(location)}: can't be written: "):
        storage.write_bytes(location, b"x")


def test_a_list_is_sorted_deep_and_within_its_folder(base: str) -> None:
    for path in ("data/b/2", "data/a", "data/b/1", "data2/x", "datum"):
        storage.write_bytes(storage.join(base, path), path.encode())
    expected = [storage.join(base, path) for path in ("data/a", "data/b/1", "data/b/2")]
    assert listed(storage.join(base, "data")) == expected
    assert listed(storage.join(base, "data") + "/") == expected
    assert [stored.size_bytes for stored in storage.list_files(storage.join(base, "data"))] == [6, 8, 8]


def test_a_list_leaves_out_hidden_files(base: str) -> None:
    for path in ("folder/.hidden", ".file.x1.tmp", "folder/seen"):
        storage.write_bytes(storage.join(base, path), b"")
    assert listed(base) == [storage.join(base, "folder/seen")]


def test_a_list_goes_beyond_one_page(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    # A real server's page holds a thousand objects.
    objects = 1003 if os.environ.get("S3_TEST_ENDPOINT") else 7
    for number in range(objects):
        s3_objects.client().put_object(Bucket=s3.removeprefix("s3://"), Key=f"many/{number:04d}", Body=b"")
    assert listed(f"{s3}/many") == [f"{s3}/many/{number:04d}" for number in range(objects)]


def test_the_marker_of_an_empty_folder_is_no_file(s3: str) -> None:
    s3_objects.client().put_object(Bucket=s3.removeprefix("s3://"), Key="folder/", Body=b"")
    assert listed(s3) == []


def test_a_list_follows_links_to_folders(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "real" / "file"), b"abc")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "folder").symlink_to(tmp_path / "real")
    linked = str(tmp_path / "linked")
    assert [stored[:2] for stored in storage.list_files(linked)] == [(f"{linked}/folder/file", 3)]


def test_a_temporary_file_that_vanishes_does_not_disturb_a_list(tmp_path: Path) -> None:
    (tmp_path / ".file.x1.tmp").symlink_to(tmp_path / "gone")
    (tmp_path / "file").write_bytes(b"")
    assert listed(str(tmp_path)) == [str(tmp_path / "file")]


def test_a_missing_folder_can_not_be_listed(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="absent: no such folder"):
        storage.list_files(str(tmp_path / "absent"))


def test_a_missing_bucket_is_named(s3: str) -> None:
    missing = s3 + "-absent"
    for use in (storage.list_files, lambda prefix: storage.write_bytes(f"{prefix}/key", b"x")):
        with pytest.raises(StorageError, match=missing) as caught:
            use(missing)
        assert "\n" not in str(caught.value)


def test_a_file_is_fetched_whole_into_a_new_folder(base: str, tmp_path: Path) -> None:
    location, path = storage.join(base, "file"), tmp_path / "cache" / "deep" / "copy"
    storage.write_bytes(location, b"content" * 1000)
    storage.fetch(location, path)
    assert path.read_bytes() == b"content" * 1000
    assert [entry.name for entry in path.parent.iterdir()] == ["copy"]


def test_fetching_a_missing_file_names_it_and_leaves_what_was_there(base: str, tmp_path: Path) -> None:
    storage.write_bytes(storage.join(base, "other"), b"")
    location, path = storage.join(base, "absent"), tmp_path / "cache" / "copy"
    storage.write_bytes(str(path), b"old")
    with pytest.raises(StorageError, match=f"^{re.escape(location)}: can't be read: no such"):
        storage.fetch(location, path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_permissions_of_a_written_file_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        storage.write_bytes(str(tmp_path / "file"), b"x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_writers_at_the_same_time_leave_one_whole_version(base: str) -> None:
    location = storage.join(base, "file")
    versions = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=storage.write_bytes, args=(location, data)) for data in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.read_bytes(location) in versions
    assert listed(base) == [location]


@pytest.mark.parametrize("location", ["ftp://server/file", "http://server/file", "gs+x://a/b", "S3://a/b"])
def test_an_unknown_scheme_is_refused(location: str, tmp_path: Path) -> None:
    uses = (
        storage.exists,
        storage.size,
        storage.read_bytes,
        storage.list_files,
        storage.delete,
        storage.version,
        lambda location: storage.read_range(location, 0, 1),
        lambda location: storage.open_binary(location, 100),
        lambda location: storage.write_bytes(location, b""),
        lambda location: storage.fetch(location, tmp_path / "copy"),
    )
    for use in uses:
        with pytest.raises(StorageError, match=f"^{re.escape(location)}: .* is not served"):
            use(location)
    assert list(tmp_path.iterdir()) == []


def test_a_location_without_a_bucket_is_refused() -> None:
    with pytest.raises(StorageError, match="no bucket; expected s3://bucket/key"):
        storage.read_bytes("s3:///key")


def test_a_server_that_does_not_answer_is_an_error_of_one_line(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3_objects._client.cache_clear()
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(StorageError, match="key: the store can't be used: ") as caught:
        storage.read_bytes(f"{s3}/key")
    assert "\n" not in str(caught.value)


def test_wrong_credentials_are_an_error_and_not_an_absence(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    refused = ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject")
    monkeypatch.setattr(s3_objects.client(), "head_object", Mock(side_effect=refused))
    with pytest.raises(StorageError, match=r"key: the store answered `403`: .*Forbidden"):
        storage.exists(f"{s3}/key")


@pytest.mark.parametrize(("offset", "size_bytes"), [(0, 1000), (0, 1), (7, 100), (999, 1), (0, 0), (1000, 0)])
def test_a_range_of_a_file_is_read_exactly(base: str, offset: int, size_bytes: int) -> None:
    data, location = os.urandom(1000), storage.join(base, "file")
    storage.write_bytes(location, data)
    assert storage.read_range(location, offset, size_bytes) == data[offset : offset + size_bytes]


@pytest.mark.parametrize(("offset", "size_bytes"), [(0, 1001), (999, 2), (1000, 1), (5000, 10)])
def test_a_range_that_reaches_beyond_the_end_is_an_error(base: str, offset: int, size_bytes: int) -> None:
    location = storage.join(base, "file")
    storage.write_bytes(location, bytes(1000))
    with pytest.raises(StorageError, match=f"^{re.escape(location)}: ") as caught:
        storage.read_range(location, offset, size_bytes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("buffer_bytes", [16, 300, 1 << 20])
def test_an_open_file_is_read_at_any_place(base: str, buffer_bytes: int) -> None:
    data, location = os.urandom(1000), storage.join(base, "file")
    storage.write_bytes(location, data)
    with storage.open_binary(location, buffer_bytes) as file:
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == 995
        assert file.read() == data[-5:]
        assert file.read(1) == b""
        file.seek(500)
        file.seek(20, os.SEEK_CUR)
        assert file.read(100) == data[520:620]
        assert file.tell() == 620
        file.seek(0)
        assert file.read() == data
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)


def test_an_object_is_read_by_as_many_requests_as_its_buffer_asks_for(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(1000)
    storage.write_bytes(f"{s3}/file", data)
    requests: list[str] = []
    get_object = s3_objects.client().get_object

    def counted(**asked: str):
        requests.append(asked["Range"])
        return get_object(**asked)

    monkeypatch.setattr(s3_objects.client(), "get_object", counted)
    with storage.open_binary(f"{s3}/file", 400) as file:
        assert b"".join(iter(lambda: file.read(50), b"")) == data
    assert requests == ["bytes=0-399", "bytes=400-799", "bytes=800-999"]


def test_a_range_whose_body_breaks_off_is_asked_for_again(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ResponseStreamingError

    storage.write_bytes(f"{s3}/file", b"0123456789")
    broken = {"Body": Mock(read=Mock(side_effect=ResponseStreamingError(error="cut")))}
    answers = [broken, broken, s3_objects.client().get_object(Bucket=s3[5:], Key="file", Range="bytes=2-4")]
    monkeypatch.setattr(s3_objects.client(), "get_object", Mock(side_effect=answers))
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert storage.read_range(f"{s3}/file", 2, 3) == b"234"


def test_a_file_that_is_replaced_has_another_version(base: str, tmp_path: Path) -> None:
    location = storage.join(base, "file")
    storage.write_bytes(location, b"first")
    first = storage.version(location)
    assert first == storage.version(location)
    storage.write_bytes(location, b"other")
    if Path(location).exists():
        os.utime(location, ns=(1, 1))  # a clock may be coarser than two writes
    assert storage.version(location) != first


def test_a_missing_file_has_no_range_no_version_and_can_not_be_opened(base: str) -> None:
    storage.write_bytes(storage.join(base, "other"), b"")
    location = storage.join(base, "absent")
    uses = (
        lambda: storage.read_range(location, 0, 1),
        lambda: storage.version(location),
        lambda: storage.open_binary(location, 100),
    )
    for use in uses:
        with pytest.raises(StorageError, match=f"^{re.escape(location)}: can't be read: no such") as caught:
            use()
        assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_locations_are_joined_and_taken_apart() -> None:
    assert storage.join("s3://bucket", "a", "b") == "s3://bucket/a/b"
    assert storage.join("folder/", "a") == "folder/a"
    assert storage.join("/", "a") in ("/a", "//a")
    assert storage.name("s3://bucket/a/b.json") == "b.json"
    assert storage.name("folder/sub/") == "sub"
    assert storage.parent("s3://bucket/a/b.json") == "s3://bucket/a"
    assert storage.parent("folder/sub/") == "folder"
    assert storage.parent("file") == "."


def test_an_endpoint_without_its_scheme_is_one_clear_line(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "127.0.0.1:9")
    s3_objects._client.cache_clear()
    try:
        with pytest.raises(
            StorageError, match=r"the endpoint is `127\.0\.0\.1:9`; expected http://host:port"
        ):
            storage.read_bytes(f"{s3}/key")
    finally:
        s3_objects._client.cache_clear()


def test_a_missing_bucket_is_no_mere_missing_object(s3: str) -> None:
    assert not storage.exists(f"{s3}/absent")
    with pytest.raises(StorageError, match=r"^s3://absent-bucket: the store has no such bucket"):
        storage.exists("s3://absent-bucket/manifest.json")
