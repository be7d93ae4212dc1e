"""`gs://` through `storage`, against a server in this process; needs Google's client and its emulator."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from records import example, gcs_objects, index, labels, manifest, storage, tfrecord
from records.errors import CxrError, StorageError

ENDPOINT_VARIABLE = "STORAGE_EMULATOR_HOST"


def has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def put(location: str, data: bytes) -> None:
    bucket, _, key = location.removeprefix("gs://").partition("/")
    gcs_objects.client().bucket(bucket).blob(key).upload_from_string(data)


@pytest.mark.parametrize("data", [b"", b"some bytes", bytes(range(256)) * 1000])
def test_a_whole_object_is_read(gs: str, tmp_path: Path, data: bytes) -> None:
    location = f"{gs}/folder/a file.bin"
    put(location, data)
    assert storage.exists(location)
    assert storage.size(location) == len(data)
    assert storage.read_bytes(location) == data
    storage.fetch(location, tmp_path / "cache" / "copy")
    assert (tmp_path / "cache" / "copy").read_bytes() == data


@pytest.mark.parametrize(("offset", "size_bytes"), [(0, 1000), (0, 1), (7, 100), (999, 1), (0, 0), (1000, 0)])
def test_a_range_of_an_object_is_read_exactly(gs: str, offset: int, size_bytes: int) -> None:
    data = os.urandom(1000)
    put(f"{gs}/file", data)
    assert storage.read_range(f"{gs}/file", offset, size_bytes) == data[offset : offset + size_bytes]


@pytest.mark.parametrize(("offset", "size_bytes"), [(0, 1001), (999, 2), (1000, 1), (5000, 10)])
def test_a_range_that_reaches_beyond_the_end_is_an_error(gs: str, offset: int, size_bytes: int) -> None:
    put(f"{gs}/file", bytes(1000))
    with pytest.raises(StorageError, match=f"^{re.escape(gs)}/file: ") as caught:
        storage.read_range(f"{gs}/file", offset, size_bytes)
    assert "\n" not in str(caught.value)


def test_an_open_object_is_read_at_any_place(gs: str) -> None:
    data = os.urandom(1000)
    put(f"{gs}/file", data)
    with storage.open_binary(f"{gs}/file", 300) as file:
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == 995
        assert file.read() == data[-5:]
        file.seek(20)
        assert file.read(700) == data[20:720]


def test_an_object_that_is_replaced_has_another_version(gs: str) -> None:
    put(f"{gs}/file", b"first")
    first = storage.version(f"{gs}/file")
    assert storage.version(f"{gs}/file") == first
    put(f"{gs}/file", b"other")
    assert storage.version(f"{gs}/file") != first


def test_a_list_is_sorted_deep_and_within_its_folder(gs: str) -> None:
    for path in ("data/b/2", "data/a", "data/b/.hidden", "data2/x", "datum", "data/folder/"):
        put(f"{gs}/{path}", path.encode())
    found = storage.list_files(f"{gs}/data")
    assert [stored[:2] for stored in found] == [(f"{gs}/data/a", 6), (f"{gs}/data/b/2", 8)]
    assert found == storage.list_files(f"{gs}/data/")
    assert [stored.version for stored in found] == [storage.version(stored.location) for stored in found]
    assert len(storage.list_files(gs)) == 4


def test_what_is_missing_is_named_and_has_the_absence_as_its_cause(gs: str, tmp_path: Path) -> None:
    uses: tuple[Callable[[str], object], ...] = (
        storage.read_bytes,
        storage.version,
        lambda location: storage.read_range(location, 0, 1),
        lambda location: storage.open_binary(location, 100),
        lambda location: storage.fetch(location, tmp_path / "copy"),
    )
    for location in (f"{gs}/absent", f"{gs}-absent/key"):
        assert not storage.exists(location)
        with pytest.raises(FileNotFoundError):
            storage.size(location)
        for use in uses:
            with pytest.raises(
                StorageError, match=f"^{re.escape(location)}: can't be read: no such"
            ) as caught:
                use(location)
            assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(StorageError, match=r"absent: can't be read: no such object or bucket"):
        storage.list_files(f"{gs}-absent")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_or_deleted(gs: str, tmp_path: Path) -> None:
    put(f"{gs}/file", b"stays")
    (tmp_path / "local").write_bytes(b"new")
    uses: tuple[Callable[[str], object], ...] = (
        lambda location: storage.write_bytes(location, b"new"),
        lambda location: storage.upload(tmp_path / "local", location),
        storage.delete,
        storage.is_s3,
    )
    for use in uses:
        with pytest.raises(
            StorageError,
            match=r"/file: `gs://` is read, not written; use a local path or s3://bucket/key$",
        ):
            use(f"{gs}/file")
    assert storage.read_bytes(f"{gs}/file") == b"stays"


def test_a_location_without_a_bucket_is_refused() -> None:
    with pytest.raises(StorageError, match=r"^gs:///key: no bucket; expected gs://bucket/object$"):
        storage.read_bytes("gs:///key")


def test_manifest_index_and_shards_are_read_from_a_bucket(gs: str) -> None:
    records, shard = [_record(number) for number in range(3)], io.BytesIO()
    for record in records:
        tfrecord.write(shard, example.encode(record))
    rows = index.of_frames(list(tfrecord.read(io.BytesIO(shard.getvalue()), "shard")), 0)
    files = {"train/train-00000-of-00001.tfrecord": shard.getvalue(), "train/index.npy": index.to_bytes(rows)}
    written = _manifest(files)
    for path, data in {**files, manifest.FILE_NAME: written.to_json()}.items():
        put(f"{gs}/nih/{path}", data)

    loaded = manifest.load(f"{gs}/nih/manifest.json")
    assert loaded == written
    split = loaded.splits["train"]
    found = index.from_bytes(manifest.read_checked(loaded, split.index), "index")
    for row, record in zip(found, records, strict=True):
        location = loaded.locate(split.shards[0])
        payload = storage.read_range(location, int(row["payload_offset"]), int(row["payload_bytes"]))
        assert example.decode(payload).image_id == record.image_id
        assert storage.read_range(location, int(row["image_offset"]), int(row["image_bytes"])) == record.image


def _record(number: int) -> example.Record:
    return example.Record(
        image=np.full((8, 8, 1), number, np.uint8).tobytes(),
        encoding="raw",
        shape=(8, 8, 1),
        image_id=f"{number:08d}_000.png",
        patient_id=number,
        labels=np.zeros(len(labels.FINDINGS), np.uint8),
        view="PA",
        sex="F",
        age_years=50.0,
        follow_up=0,
    )


def _manifest(files: dict[str, bytes]) -> manifest.Manifest:
    shard, rows = (
        {"path": path, "size_bytes": len(data), "crc32c": manifest.crc32c(data)}
        for path, data in files.items()
    )
    none = dict.fromkeys(labels.FINDINGS, 0)
    empty = {"patients": 0, "positives": none, "positive_patients": none, "prevalence": none}
    split = manifest.Split(
        images=3,
        shards=(manifest.Shard(**shard, records=3),),  # type: ignore[arg-type]
        index=manifest.StoredFile(**rows),  # type: ignore[arg-type]
        **empty,  # type: ignore[arg-type]
    )
    return manifest.Manifest(
        source={},
        split={"strategy": "random", "seed": 0},
        image={"side_px": 8, "stored_channels": 1, "encoding": "raw", "resize_kernel": "area"},
        statistics={"mean": 1.0, "deviation": 1.0, "pixels": 192},
        splits=dict.fromkeys(("train", "validation", "test"), split),
        patients_in_two_splits=0,
        quarantined=(),
        versions={},
        request_sha256="",
    )


class BreakingOff(BaseHTTPRequestHandler):
    """Ends the first answer in the middle of the body."""

    protocol_version = "HTTP/1.1"
    data = bytes(range(100))
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        if not asked:  # the client looks up the bucket, too
            self.send_error(404)
            return
        self.asked.append(asked)
        start, end = map(int, asked.removeprefix("bytes=").split("-"))
        body = self.data[start : end + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(self.data)}")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if len(self.asked) == 1 else body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def breaking_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The ranges that a server was asked for which ends its first answer too early."""
    if not has("google.cloud.storage"):
        pytest.skip("Google's client is not installed: pip install google-cloud-storage")
    monkeypatch.setattr(BreakingOff, "asked", [])
    server = HTTPServer(("127.0.0.1", 0), BreakingOff)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv(ENDPOINT_VARIABLE, "http://{}:{}".format(*server.server_address))
    gcs_objects._client.cache_clear()
    yield BreakingOff.asked
    gcs_objects.client().close()
    gcs_objects._client.cache_clear()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_range_whose_body_breaks_off_is_asked_for_again(
    breaking_off: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert storage.read_range("gs://bucket/file", 10, 20) == BreakingOff.data[10:30]
    assert breaking_off == ["bytes=10-29"] * 2


def test_a_server_that_does_not_answer_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    if not has("google.cloud.storage"):
        pytest.skip("Google's client is not installed: pip install google-cloud-storage")
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as closed:
        address = "http://{}:{}".format(*closed.server_address)
    monkeypatch.setenv(ENDPOINT_VARIABLE, address)
    monkeypatch.setattr(gcs_objects, "_RETRY_FOR_S", 0.2)
    gcs_objects._client.cache_clear()
    with pytest.raises(StorageError, match=r"^gs://bucket/key: the store can't be used: ") as caught:
        storage.read_bytes("gs://bucket/key")
    assert "\n" not in str(caught.value)
    gcs_objects.client().close()
    gcs_objects._client.cache_clear()


def test_named_credentials_that_are_not_there_are_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not has("google.cloud.storage"):
        pytest.skip("Google's client is not installed: pip install google-cloud-storage")
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    gcs_objects._client.cache_clear()
    with pytest.raises(
        StorageError, match=r"^gs://: the credentials can't be used: .*absent\.json"
    ) as caught:
        storage.read_bytes("gs://bucket/key")
    assert "\n" not in str(caught.value)
    gcs_objects._client.cache_clear()


def test_without_googles_client_one_line_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['google.cloud.storage'] = None\n"
        "from records import storage\n"
        "from records.errors import CxrError\n"
        "try:\n    storage.read_bytes('gs://bucket/nih')\n"
        "except CxrError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "gs:// needs Google's client; install it by: pip install 'cxr-engine[gcs]'\n"
    assert issubclass(StorageError, CxrError)
