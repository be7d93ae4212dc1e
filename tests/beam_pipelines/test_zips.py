from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from packed_images import nested, picture, pictures, write_zip

from beam_pipelines import image_files, zips
from records import storage
from records.errors import ImageError, StorageError


def read_all(path: Path | str) -> dict[str, bytes]:
    return {found.location: zips.read_image(found.location) for found in zips.list_images(str(path))}


def flip_byte(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_member_is_read_whole(tmp_path: Path, method: int) -> None:
    images = pictures(5)
    found = read_all(write_zip(tmp_path / "images.zip", nested(images), method))
    assert list(found.values()) == list(images.values())
    assert all(zips.is_reference(location) for location in found)


def test_a_zip64_is_read_in_spite_of_its_longer_headers(tmp_path: Path) -> None:
    images = pictures(3)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, data in images.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert list(read_all(tmp_path / "images.zip").values()) == list(images.values())


@pytest.mark.parametrize("extra_bytes", [4, 28, 60, 64, 68, 5000])
def test_a_member_is_read_however_long_its_extra_field_is(tmp_path: Path, extra_bytes: int) -> None:
    images = pictures(2)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, data in images.items():
            info = zipfile.ZipInfo(name)
            info.extra = b"\xca\xfe" + (extra_bytes - 4).to_bytes(2, "little") + bytes(extra_bytes - 4)
            archive.writestr(info, data)
    assert list(read_all(tmp_path / "images.zip").values()) == list(images.values())


def test_a_zip_behind_other_bytes_is_read(tmp_path: Path) -> None:
    images = pictures(2)
    path = write_zip(tmp_path / "images.zip", images)
    path.write_bytes(b"a program that unpacks itself" * 10 + path.read_bytes())
    assert list(read_all(path).values()) == list(images.values())


@pytest.mark.parametrize(
    "name", ["é/ü.png", "a#1+2+3+8+00000000.png", "b!/c.zip!/d.png", "with space.png", "x.PNG"]
)
def test_a_member_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "images.zip", {name: picture(1)})
    assert list(read_all(path).values()) == [picture(1)]


def test_a_zip_in_s3_is_read_in_place(tmp_path: Path, s3: str) -> None:
    images = pictures(3)
    path = write_zip(tmp_path / "images.zip", nested(images))
    storage.write_bytes(f"{s3}/images.zip", path.read_bytes())
    assert list(read_all(f"{s3}/images.zip").values()) == list(images.values())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_its_own_fault_and_no_other_ones(tmp_path: Path, method: int) -> None:
    images = pictures(2)
    path = write_zip(tmp_path / "images.zip", images, method)
    first, second = zips.list_images(str(path))
    flip_byte(path, 500)
    with pytest.raises(ImageError, match=r"damaged in its zip: "):
        zips.read_image(first.location)
    assert zips.read_image(second.location) == list(images.values())[1]


def test_a_member_that_is_not_where_the_directory_says_is_damaged(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images.zip", pictures(1))
    flip_byte(path, 0)
    (found,) = zips.list_images(str(path))
    with pytest.raises(ImageError, match=r"not where the directory says"):
        zips.read_image(found.location)


def test_a_member_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zip(tmp_path / "images.zip", {"bomb.png": bytes(image_files.MAX_FILE_BYTES + 1)})
    (found,) = zips.list_images(str(path))
    assert path.stat().st_size < 1 << 20
    path.unlink()  # what isn't there can't be read
    with pytest.raises(ImageError, match=r"67,108,865 bytes; expected an image of at most 67,108,864"):
        zips.read_image(found.location)


def test_a_member_that_unfolds_to_more_than_it_declares_is_damaged(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images.zip", {"bomb.png": bytes(10 << 20)})
    (found,) = zips.list_images(str(path))
    place, numbers = found.location.split("#")
    offset, packed, _, method, crc = numbers.split("+")
    with pytest.raises(ImageError, match=r"damaged in its zip: the checksum is another one"):
        zips.read_image(f"{place}#{offset}+{packed}+100+{method}+{crc}")


def test_an_encrypted_zip_is_refused_when_it_is_listed(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images.zip", {"a.png": b"x"}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for signature, flags_at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flags_at] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match=r"images.zip: a.png is encrypted; unpack the zip"):
        zips.list_images(str(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_another_method_is_refused_when_it_is_listed(tmp_path: Path, method: int) -> None:
    path = write_zip(tmp_path / "images.zip", pictures(1), method)
    with pytest.raises(StorageError, match=rf"is packed by method {method}; expected 0 .* or 8"):
        zips.list_images(str(path))


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_zip_that_ends_early_is_refused_when_it_is_listed(tmp_path: Path, keep: float) -> None:
    path = write_zip(tmp_path / "images.zip", pictures(3))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep == 0.5 else int(keep)])
    with pytest.raises(StorageError, match=r"images.zip: no whole zip .*; download it again"):
        zips.list_images(str(path))


def test_a_vanished_zip_is_the_stores_fault_and_not_the_images(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images.zip", pictures(1))
    (found,) = zips.list_images(str(path))
    path.unlink()
    with pytest.raises(StorageError, match=r"images.zip: can't be read: no such file") as caught:
        zips.read_image(found.location)
    assert not isinstance(caught.value.__cause__, FileNotFoundError)
