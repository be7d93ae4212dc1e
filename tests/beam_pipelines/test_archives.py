from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from packed_images import SIDE_PX, nested, picture, pictures, tar_bytes, write_tar

from beam_pipelines import archives, checked, counters, image_files, sources, tars
from beam_pipelines.checked import CheckedImage
from records import storage
from records.errors import CxrError, ImageError, StorageError, TableError


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else request.getfixturevalue("s3") + "/out"


def listed(path: Path | str) -> sources.Archive:
    (archive,) = sources.list_sources([str(path)]).archives
    return archive


def spooled(path: Path | str, output: str, side_px: int = SIDE_PX) -> dict[str, sources.Found]:
    archive = listed(path)
    archives.spool(archive, output, side_px)
    found = archives.find_spool(archive, output, side_px)
    assert found is not None
    return found


def loaded(found: dict[str, sources.Found], side_px: int = SIDE_PX) -> dict[str, CheckedImage]:
    return {name: archives.load(image.location, side_px) for name, image in found.items()}


def reasons(found: dict[str, sources.Found]) -> dict[str, str]:
    """Return why each bad image is bad."""
    said = {}
    for name, image in found.items():
        try:
            archives.load(image.location, SIDE_PX)
        except ImageError as error:
            said[name] = str(error)
    return said


def files_below(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def assert_same(image: CheckedImage, expected: CheckedImage) -> None:
    np.testing.assert_array_equal(image.grey, expected.grey)
    assert image[1:] == expected[1:]


def test_a_spooled_image_is_the_one_that_its_png_gives(tmp_path: Path, output: str) -> None:
    images = pictures(5)
    found = spooled(write_tar(tmp_path / "images_001.tar.gz", nested(images)), output)
    assert {name: image.size_bytes for name, image in found.items()} == {
        name: len(data) for name, data in images.items()
    }
    for name, image in loaded(found).items():
        assert_same(image, checked.check(images[name], SIDE_PX))


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_form_of_tar_is_read(tmp_path: Path, suffix: str, form: int) -> None:
    images = nested(pictures(3), "f" * 60 + "/" + "g" * 60)
    path = write_tar(tmp_path / f"images{suffix}", images, format=form)
    assert [member.data for member in tars.read_images(str(path))] == list(images.values())


def test_a_tar_that_was_unpacked_without_a_change_of_name_is_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images.tar.gz", pictures(2), mode="w")
    assert [member.name for member in tars.read_images(str(path))] == list(pictures(2))


def test_an_archive_in_s3_is_read_in_place(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_BUFFER_BYTES", 4096)  # so that it takes several requests
    images = pictures(8)
    storage.write_bytes(f"{s3}/images.tar.gz", tar_bytes(nested(images)))
    found = spooled(f"{s3}/images.tar.gz", str(tmp_path / "out"))
    for name, image in loaded(found).items():
        assert_same(image, checked.check(images[name], SIDE_PX))


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "images.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (("images", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE)):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "images/00000000_000.png"
            archive.addfile(header)
        for name, data in {"README.txt": b"x", "images/._00000000_000.png": b"x", **pictures(1)}.items():
            header = tarfile.TarInfo(name)
            header.size, header.pax_headers = len(data), {"comment": "of pax"}
            archive.addfile(header, io.BytesIO(data))
    assert list(spooled(path, str(tmp_path / "out"))) == ["00000000_000.png"]


@pytest.mark.parametrize(("link", "kind"), [(tarfile.LNKTYPE, "hard"), (tarfile.SYMTYPE, "symbolic")])
def test_a_link_for_an_image_is_refused_and_no_silent_loss(tmp_path: Path, link: bytes, kind: str) -> None:
    path = tmp_path / "images.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        header = tarfile.TarInfo("00000001_000.png")
        header.type, header.linkname = link, "/etc/hostname"
        archive.addfile(header)
    with pytest.raises(StorageError, match=rf"00000001_000.png is a {kind} link; unpack the archive"):
        spooled(path, str(tmp_path / "out"))


def test_a_bad_image_is_noted_with_its_reason_and_stops_nothing(tmp_path: Path, output: str) -> None:
    images = {
        **pictures(1),
        "cut.png": picture(1)[:-100],
        "empty.png": b"",
        "small.png": picture(2, side_px=16),
        "text.png": b"no image",
        **pictures(1, first=3),
    }
    found = spooled(write_tar(tmp_path / "images.tar.gz", images), output)
    assert list(found) == list(images)
    said = reasons(found)
    for name in ("cut.png", "empty.png", "small.png", "text.png"):
        with pytest.raises(ImageError) as caught:
            checked.check(images[name], SIDE_PX)
        assert said.pop(name) == str(caught.value)
    assert not said


def test_an_image_that_is_too_large_is_noted_without_being_read(tmp_path: Path) -> None:
    images = {**pictures(1), "bomb.png": bytes(image_files.MAX_FILE_BYTES + 1), **pictures(1, first=1)}
    path = write_tar(tmp_path / "images.tar.gz", images)
    assert [member.data is None for member in tars.read_images(str(path))] == [False, True, False]
    found = spooled(path, str(tmp_path / "out"))
    assert reasons(found) == {"bomb.png": "67,108,865 bytes; expected an image of at most 67,108,864"}


def test_what_is_unusual_about_a_file_is_noted(tmp_path: Path) -> None:
    grey = cv2.imdecode(np.frombuffer(picture(1), np.uint8), cv2.IMREAD_UNCHANGED)
    rgba = cv2.imencode(".png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA))[1].tobytes()
    found = spooled(write_tar(tmp_path / "images.tar.gz", {"a.png": rgba}), str(tmp_path / "out"))
    image = archives.load(found["a.png"].location, SIDE_PX)
    assert "RGBA" in image.oddity
    assert_same(image, checked.check(rgba, SIDE_PX))


def test_an_archive_is_read_once_and_skipped_the_second_time(
    tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = listed(write_tar(tmp_path / "images.tar.gz", pictures(3)))
    assert archives.find_spool(archive, output, SIDE_PX) is None
    note = archives.spool(archive, output, SIDE_PX)
    monkeypatch.delattr(tars, "read_images")
    assert archives.spool(archive, output, SIDE_PX) == note
    assert storage.exists(note)


def test_another_side_is_spooled_anew(tmp_path: Path) -> None:
    path, output = write_tar(tmp_path / "images.tar.gz", pictures(2)), str(tmp_path / "out")
    spooled(path, output)
    assert archives.find_spool(listed(path), output, 24) is None
    found = spooled(path, output, 24)
    assert [image.grey.shape for image in loaded(found, 24).values()] == [(24, 24)] * 2
    with pytest.raises(StorageError, match=r"pictures of side 24; expected 32"):
        loaded(found)


def test_an_archive_that_was_replaced_is_spooled_anew(tmp_path: Path) -> None:
    path, output = tmp_path / "images.tar.gz", str(tmp_path / "out")
    spooled(write_tar(path, pictures(2)), output)
    write_tar(path, pictures(2, first=5))
    os.utime(path, ns=(1, 1))
    assert archives.find_spool(listed(path), output, SIDE_PX) is None
    assert list(spooled(path, output)) == list(pictures(2, first=5))


def test_archives_of_one_name_in_two_folders_do_not_meet(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    paths = [
        write_tar(tmp_path / folder / "images.tar.gz", pictures(2, first))
        for folder, first in (("a", 0), ("b", 2))
    ]
    for path in paths:
        os.utime(path, ns=(1, 1))
    found = [spooled(path, output) for path in paths]
    images = pictures(4)
    for name, image in loaded({**found[0], **found[1]}).items():
        assert_same(image, checked.check(images.pop(name), SIDE_PX))
    assert not images


@pytest.mark.parametrize(
    ("suffix", "lost_bytes"),
    [(".tar.gz", 1), (".tar.gz", 4), (".tar.gz", 20), (".tar.gz", 9000), (".tar", 12_000), (".tar", 20_000)],
)
def test_an_archive_that_ends_early_leaves_nothing(tmp_path: Path, suffix: str, lost_bytes: int) -> None:
    path = write_tar(tmp_path / f"images{suffix}", pictures(12))
    archive = listed(path)
    path.write_bytes(path.read_bytes()[:-lost_bytes])
    output = tmp_path / "out"
    with pytest.raises(StorageError, match=r"images\.tar\S*: ends early or is .*; download it again"):
        archives.spool(archive, str(output), SIDE_PX)
    assert files_below(output) == []
    assert archives.find_spool(archive, str(output), SIDE_PX) is None


@pytest.mark.parametrize("images_kept", [1, 4])
@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_that_ends_between_two_images_leaves_nothing(
    tmp_path: Path, images_kept: int, packed: bool
) -> None:
    images = dict(list(pictures(8).items())[:images_kept])
    data = tar_bytes(images, "w").rstrip(b"\0")
    data += bytes(-len(data) % 512)  # whole blocks, but not the two of zeros at the end
    path = tmp_path / "images.tar.gz"
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(StorageError, match=rf"damaged after {images_kept} images"):
        archives.spool(listed(path), str(tmp_path / "out"), SIDE_PX)
    assert files_below(tmp_path / "out") == []


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
def test_a_flipped_bit_in_a_gzip_is_noticed(tmp_path: Path, share: float) -> None:
    path = write_tar(tmp_path / "images.tar.gz", pictures(8))
    data = bytearray(path.read_bytes())
    archive = listed(path)
    data[int(share * len(data))] ^= 0x10
    path.write_bytes(data)
    os.utime(path, ns=(1, int(archive.version)))
    with pytest.raises(StorageError, match=r"ends early or is damaged"):
        archives.spool(archive, str(tmp_path / "out"), SIDE_PX)
    assert files_below(tmp_path / "out") == []


def test_a_damaged_header_in_the_middle_of_a_tar_is_not_its_end(tmp_path: Path) -> None:
    images = pictures(4)
    path = write_tar(tmp_path / "images.tar", images)
    data = bytearray(path.read_bytes())
    data[data.index(b"00000002_000.png") + 3] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"damaged after 2 images"):
        archives.spool(listed(path), str(tmp_path / "out"), SIDE_PX)


def test_an_archive_that_changes_while_it_is_read_leaves_nothing(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images.tar.gz", pictures(2))
    archive = listed(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(StorageError, match=r"images.tar.gz: changed while it was read"):
        archives.spool(archive, str(tmp_path / "out"), SIDE_PX)
    assert files_below(tmp_path / "out") == []


def test_an_image_twice_in_one_archive_is_an_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images.tar.gz", {**nested(pictures(1), "a"), **nested(pictures(1), "b")})
    with pytest.raises(TableError, match=r"00000000_000.png is twice in .*images.tar.gz"):
        archives.spool(listed(path), str(tmp_path / "out"), SIDE_PX)


def test_a_spool_that_was_killed_is_not_taken_for_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = listed(write_tar(tmp_path / "images.tar.gz", pictures(20)))
    output = str(tmp_path / "out")
    process = os.fork()
    if not process:
        monkeypatch.setattr(counters, "report", lambda *arguments: arguments[2] == 9 and os._exit(3))
        archives.spool(archive, output, SIDE_PX)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3
    assert len(files_below(tmp_path / "out")) == 1
    assert archives.find_spool(archive, output, SIDE_PX) is None
    archives.clear_partial(output)
    assert files_below(tmp_path / "out") == []
    archives.spool(archive, output, SIDE_PX)
    assert len(loaded(archives.find_spool(archive, output, SIDE_PX) or {})) == 20


@pytest.mark.parametrize("suffix", [".npz", ".pixels"])
@pytest.mark.parametrize("change", [lambda _: None, lambda _: b"", lambda data: data[:-1]])
def test_a_spool_that_is_not_whole_is_made_anew(tmp_path: Path, suffix: str, change) -> None:
    path, output = write_tar(tmp_path / "images.tar.gz", pictures(2)), str(tmp_path / "out")
    spooled(path, output)
    (part,) = (tmp_path / "out").rglob(f"*{suffix}")
    changed = change(part.read_bytes())
    part.unlink() if changed is None else part.write_bytes(changed)
    assert archives.find_spool(listed(path), output, SIDE_PX) is None
    assert len(loaded(spooled(path, output))) == 2


def test_a_flipped_bit_in_a_spool_is_the_stores_fault(tmp_path: Path) -> None:
    found = spooled(write_tar(tmp_path / "images.tar.gz", pictures(2)), str(tmp_path / "out"))
    (pixels,) = (tmp_path / "out").rglob("*.pixels")
    data = bytearray(pixels.read_bytes())
    data[SIDE_PX**2 + 7] ^= 1
    pixels.write_bytes(data)
    first, second = (image.location for image in found.values())
    archives.load(first, SIDE_PX)
    with pytest.raises(
        StorageError, match=r"pixels: damaged at 00000001_000.png; delete it and add --resume"
    ):
        archives.load(second, SIDE_PX)


def test_a_vanished_spool_is_the_stores_fault_and_not_the_images(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    found = spooled(write_tar(tmp_path / "images.tar.gz", pictures(1)), output)
    archives.clear_spool(output)
    with pytest.raises(StorageError, match=r"no such file") as caught:
        loaded(found)
    assert not isinstance(caught.value.__cause__, FileNotFoundError)


def test_clearing_removes_the_spools_and_nothing_else(tmp_path: Path, output: str) -> None:
    folder = storage.join(output, archives.SPOOL_FOLDER)
    for number in range(2):
        spooled(write_tar(tmp_path / f"{number}.tar.gz", pictures(1, first=number)), output)
    storage.write_bytes(storage.join(folder, "somebodys.txt"), b"")
    archives.clear_spool(output)
    assert [file.location for file in storage.list_files(folder)] == [f"{folder}/somebodys.txt"]
    storage.delete(f"{folder}/somebodys.txt")
    archives.clear_spool(output)
    assert not Path(folder).exists()
    archives.clear_spool(output)


def test_the_images_done_are_counted_and_those_that_were_done_before_too(tmp_path: Path) -> None:
    archive, output = listed(write_tar(tmp_path / "images.tar.gz", pictures(11))), str(tmp_path / "out")
    for run in ("first", "second"):
        folder = tmp_path / run
        folder.mkdir()
        archives.spool(archive, output, SIDE_PX, str(folder))
        assert counters.total(str(folder)) == 11


def test_an_error_is_one_line_that_names_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "images.tar.gz"
    path.write_bytes(gzip.compress(b"no tar" * 1000))
    with pytest.raises(CxrError, match=r"images.tar.gz: ends early or is damaged after 0 images") as caught:
        list(tars.read_images(str(path)))
    assert "\n" not in str(caught.value)
