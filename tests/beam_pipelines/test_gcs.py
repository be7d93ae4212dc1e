"""`gs://` against a server in this process; needs Beam's Google extra and gcp-storage-emulator."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from packed_images import SIDE_PX, nested, picture, pictures, tar_bytes, write_zip

from beam_pipelines import archives, checked, gcs, reading, sources
from records import storage
from records.errors import CxrError, StorageError

BUCKET_VARIABLE = "STORAGE_EMULATOR_HOST"


def has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="module")
def gs_server() -> Iterator[str]:
    """Address of a server: the one GCS_TEST_ENDPOINT names, or one in this process."""
    if not has("google.cloud.storage"):
        pytest.skip("Google's client is not installed: pip install 'apache-beam[gcp]'")
    endpoint = os.environ.get("GCS_TEST_ENDPOINT")
    if endpoint:
        yield endpoint
        return
    if not has("gcp_storage_emulator"):
        pytest.skip("no server: pip install gcp-storage-emulator, or name one as GCS_TEST_ENDPOINT")
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    try:
        yield "http://{}:{}".format(*server._api._httpd.server_address)
    finally:
        server.stop()


@pytest.fixture
def gs(gs_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh bucket as `gs://bucket`."""
    monkeypatch.setenv(BUCKET_VARIABLE, gs_server)
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # credentials are not looked for in the network
    gcs._client.cache_clear()
    bucket = f"cxr-test-{uuid.uuid4().hex}"
    gcs._gcsio().client.create_bucket(bucket, project="test")
    yield f"gs://{bucket}"
    gcs._client.cache_clear()


def upload(location: str, data: bytes) -> None:
    bucket, _, key = location.removeprefix("gs://").partition("/")
    gcs._gcsio().client.bucket(bucket).blob(key).upload_from_string(data)


def test_a_prefix_is_listed_deep_and_within_its_folder(gs: str) -> None:
    for name in ("nih/b/2.png", "nih/a.png", "nih/b/.hidden.png", "nih2/x.png", "nih.png", "nih/folder/"):
        upload(f"{gs}/{name}", name.encode())
    expected = [storage.Stored(f"{gs}/nih/a.png", 9), storage.Stored(f"{gs}/nih/b/2.png", 11)]
    assert gcs.list_files(f"{gs}/nih") == gcs.list_files(f"{gs}/nih/") == expected
    assert len(gcs.list_files(gs)) == 4


def test_a_whole_object_and_a_range_of_it_are_read(gs: str) -> None:
    data = os.urandom(1000)
    upload(f"{gs}/file", data)
    upload(f"{gs}/empty", b"")
    assert gcs.read_bytes(f"{gs}/file") == data
    assert gcs.read_bytes(f"{gs}/empty") == b""
    assert gcs.read_range(f"{gs}/file", 100, 50) == data[100:150]
    with gcs.open_binary(f"{gs}/file", 64) as file:
        assert file.read(10) == data[:10]
        file.seek(-5, os.SEEK_END)
        assert file.read() == data[-5:]
    for offset in (990, 2000):
        with pytest.raises(StorageError, match=f"file: ends at byte .*; expected {offset + 20:,}"):
            gcs.read_range(f"{gs}/file", offset, 20)


def test_an_object_that_is_replaced_has_another_version(gs: str) -> None:
    upload(f"{gs}/file", b"first")
    first = gcs.version(f"{gs}/file")
    upload(f"{gs}/file", b"other")
    assert gcs.version(f"{gs}/file") != first
    assert gcs.exists(f"{gs}/file")
    assert not gcs.exists(f"{gs}/absent")


def test_a_missing_object_or_bucket_is_an_error_of_one_line_that_names_it(gs: str) -> None:
    for location in (f"{gs}/absent", f"{gs}-absent/key"):
        for use in (gcs.read_bytes, gcs.version, lambda location: gcs.open_binary(location, 100)):
            with pytest.raises(
                StorageError, match=f"^{re.escape(location)}: can't be read: no such"
            ) as caught:
                use(location)
            assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(StorageError, match=r"absent: can't be read: no such object or bucket"):
        gcs.list_files(f"{gs}-absent")


def test_a_location_without_a_bucket_is_refused(gs: str) -> None:
    with pytest.raises(StorageError, match=r"gs:///key: .*gs://<bucket>/<object>"):
        gcs.read_bytes("gs:///key")


def test_images_in_a_bucket_are_the_same_as_in_a_folder(gs: str, tmp_path: Path) -> None:
    images = pictures(6)
    names = list(images)
    for name in names[:2]:
        upload(f"{gs}/nih/images_001/images/{name}", images[name])
    in_zip = write_zip(
        tmp_path / "images.zip", nested({name: images[name] for name in names[2:4]}), zipfile.ZIP_STORED
    )
    upload(f"{gs}/nih/images_002.zip", in_zip.read_bytes())
    upload(f"{gs}/nih/images_003.tar.gz", tar_bytes(nested({name: images[name] for name in names[4:]})))
    listing = sources.list_sources([f"{gs}/nih"])
    (archive,) = listing.archives
    archives.spool(archive, str(tmp_path), SIDE_PX)
    found = sources.merge(listing, [archives.find_spool(archive, str(tmp_path), SIDE_PX) or {}])
    assert sorted(found) == names
    for name, data in images.items():
        got, expected = reading.load(found[name].location, SIDE_PX), checked.check(data, SIDE_PX)
        np.testing.assert_array_equal(got.grey, expected.grey)
        assert got[1:] == expected[1:]
        assert found[name].size_bytes == len(data)


def test_a_vanished_object_is_told_from_a_store_that_fails(gs: str) -> None:
    upload(f"{gs}/other.png", picture(1))
    with pytest.raises(StorageError) as caught:
        reading.load(f"{gs}/absent.png", SIDE_PX)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_without_the_google_extra_one_line_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['google.cloud.storage'] = None; sys.modules['google.api_core'] = None\n"
        "from beam_pipelines import sources\n"
        "from records.errors import CxrError\n"
        "try:\n    sources.list_sources(['gs://bucket/nih'])\n"
        "except CxrError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "gs:// needs Google's client; install it by: pip install 'cxr-engine[gcp]'\n"
    assert issubclass(StorageError, CxrError)
