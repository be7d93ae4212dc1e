from __future__ import annotations

import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packed_images import SIDE_PX, nested, pictures, write_folder, write_tar, write_zip

from beam_pipelines import archives, checked, reading, sources
from records import storage
from records.errors import ImageError, StorageError


def packed(form: str, images: dict[str, bytes], folder: Path) -> Path:
    """Put images into one form of source below a folder."""
    members = nested(images)
    if form == "folder":
        return write_folder(folder, members)
    folder.mkdir()
    if form.startswith("zip"):
        method = zipfile.ZIP_STORED if form == "zip stored" else zipfile.ZIP_DEFLATED
        write_zip(folder / "images.zip", members, method)
    else:
        write_tar(folder / f"images.{form}", members)
    return folder


def found_in(source: str, output: str, side_px: int) -> dict[str, sources.Found]:
    """Return all images of a source as a conversion gets them."""
    listing = sources.list_sources([source])
    for archive in listing.archives:
        archives.spool(archive, output, side_px)
    spooled = [archives.find_spool(archive, output, side_px) or {} for archive in listing.archives]
    return sources.merge(listing, spooled)


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("form", ["folder", "zip stored", "zip deflated", "tar.gz", "tar"])
def test_an_image_is_the_same_wherever_it_lies(
    tmp_path: Path, request: pytest.FixtureRequest, form: str, remote: bool
) -> None:
    images = pictures(4)
    folder = packed(form, images, tmp_path / "source")
    source = output = str(folder)
    if remote:
        source = request.getfixturevalue("s3") + "/source"
        for file in storage.list_files(output):
            storage.write_bytes(source + file.location.removeprefix(output), Path(file.location).read_bytes())
        output = source.replace("/source", "/out")
    found = found_in(source, output, SIDE_PX)
    assert sorted(found) == sorted(images)
    for name, image in found.items():
        assert image.size_bytes == len(images[name])
        got, expected = reading.load(image.location, SIDE_PX), checked.check(images[name], SIDE_PX)
        np.testing.assert_array_equal(got.grey, expected.grey)
        assert got[1:] == expected[1:]


@pytest.mark.real_data
def test_real_images_are_the_same_wherever_they_lie(tmp_path: Path, nih: Path) -> None:
    images = {path.name: path.read_bytes() for path in sorted((nih / "images").glob("*.png"))[:8]}
    forms = ("folder", "zip deflated", "tar.gz")
    found = [
        found_in(str(packed(form, images, tmp_path / form)), str(tmp_path / form / "out"), 320)
        for form in forms
    ]
    for name in images:
        plain, *others = (reading.load(each[name].location, 320) for each in found)
        for other in others:
            np.testing.assert_array_equal(other.grey, plain.grey)
            assert other[1:] == plain[1:]


def test_a_location_travels_to_another_process(tmp_path: Path) -> None:
    images = pictures(2)
    output = str(tmp_path / "out")
    locations = [
        image.location
        for form in ("folder", "zip deflated", "tar.gz")
        for image in found_in(str(packed(form, images, tmp_path / form)), output, SIDE_PX).values()
    ]
    script = (
        "import pickle, sys; from beam_pipelines import reading;"
        f"pickle.dump([reading.load(l, {SIDE_PX}).fingerprint for l in sys.argv[1:]], sys.stdout.buffer);"
        "sys.exit('apache_beam' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, *locations], capture_output=True, check=True)
    expected = [checked.check(data, SIDE_PX).fingerprint for data in images.values()]
    assert pickle.loads(done.stdout) == expected * 3


def test_a_file_that_vanished_is_told_from_a_store_that_fails(tmp_path: Path, s3: str) -> None:
    for location in (str(tmp_path / "absent.png"), f"{s3}/absent.png"):
        with pytest.raises(StorageError, match=re.escape(location)) as caught:
            reading.load(location, SIDE_PX)
        assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_file_that_is_no_image_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(ImageError, match=r"not a PNG"):
        reading.load(str(tmp_path / "a.png"), SIDE_PX)
