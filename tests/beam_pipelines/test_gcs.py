"""Images in `gs://`, against a server in this process; needs Google's client and its emulator."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packed_images import SIDE_PX, nested, picture, pictures, tar_bytes, write_zip

from beam_pipelines import archives, checked, reading, sources
from records import gcs_objects
from records.errors import CxrError, StorageError


def upload(location: str, data: bytes) -> None:
    bucket, _, key = location.removeprefix("gs://").partition("/")
    gcs_objects.client().bucket(bucket).blob(key).upload_from_string(data)


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
    assert done.stdout == "gs:// needs Google's client; install it by: pip install 'cxr-engine[gcs]'\n"
    assert issubclass(StorageError, CxrError)
