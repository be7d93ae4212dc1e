from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from packed_images import nested, picture, pictures, write_folder, write_tar, write_zip

from beam_pipelines import sources
from beam_pipelines.sources import Found, Listing
from records import storage
from records.errors import CxrError, StorageError, TableError
from records.table import ImageTable, read_table

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def listed(*where: object) -> Listing:
    return sources.list_sources([str(source) for source in where])


def upload(folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write_bytes(storage.join(prefix, str(path.relative_to(folder))), path.read_bytes())


def table_of(tmp_path: Path, names: list[str]) -> ImageTable:
    rows = [f"{name},No Finding,0,{int(name[:8])},50,M,PA,1024,1024,0.1,0.1" for name in names]
    path = tmp_path / "table.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return read_table(str(path))


@pytest.mark.parametrize("below", ["", "images", "images_001/images", "a/b/c/d"])
def test_images_are_found_at_any_depth(tmp_path: Path, below: str) -> None:
    images = pictures(3)
    write_folder(tmp_path, {str(Path(below, name)): data for name, data in images.items()})
    expected = {name: (str(tmp_path / below / name), len(data)) for name, data in images.items()}
    listing = listed(tmp_path)
    assert {name: found[:2] for name, found in listing.images.items()} == expected
    assert listing.archives == ()


def test_several_sources_are_taken_together(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", pictures(2))
    write_folder(tmp_path / "b", pictures(2, first=2))
    assert sorted(listed(tmp_path / "a", tmp_path / "b").images) == sorted(pictures(4))


def test_files_of_other_kinds_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    others = {
        "README.txt": b"",
        "._00000000_000.png": b"x",
        "labels.csv": b"",
        "x.png.part": b"",
        ".DS_Store": b"",
    }
    write_folder(tmp_path, {**pictures(1), **others})
    assert list(listed(tmp_path).images) == ["00000000_000.png"]


def test_a_zip_is_read_in_place_and_what_else_it_holds_is_passed_over(tmp_path: Path) -> None:
    images = pictures(2)
    others = {
        "Data_Entry_2017.csv": b"Image Index",
        "images_001/images/": b"",
        "folder.png/": b"",
        "__MACOSX/images_001/images/._00000000_000.png": b"x",
    }
    path = write_zip(tmp_path / "archive.zip", {**nested(images), **others})
    for source in (path, tmp_path):
        found = listed(source)
        assert {name: image.size_bytes for name, image in found.images.items()} == {
            name: len(data) for name, data in images.items()
        }
        assert all(
            image.location.startswith(f"{path}!/images_001/images/") for image in found.images.values()
        )


def test_a_zip_without_images_is_passed_over_in_a_folder_but_not_alone(tmp_path: Path) -> None:
    write_folder(tmp_path, pictures(1))
    path = write_zip(tmp_path / "lists.zip", {"train_val_list.txt": b""})
    assert list(listed(tmp_path).images) == list(pictures(1))
    with pytest.raises(StorageError, match=r"lists.zip: no \.png file in it"):
        listed(path)


def test_a_tar_without_images_is_passed_over_in_a_folder_but_not_alone(tmp_path: Path) -> None:
    write_folder(tmp_path, pictures(1))
    path = write_tar(tmp_path / "code.tar.gz", {"README.md": b""})
    assert listed(tmp_path).archives == ()
    with pytest.raises(StorageError, match=r"code.tar.gz: no \.png file in it"):
        listed(path)
    (tmp_path / "00000000_000.png").unlink()
    with pytest.raises(StorageError, match=r"no \.png file in it"):
        listed(tmp_path)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar", ".TAR.GZ"])
def test_a_tar_is_listed_unread_with_its_size_and_version(tmp_path: Path, suffix: str) -> None:
    path = write_tar(tmp_path / f"images_001{suffix}", pictures(2))
    status = path.stat()
    expected = sources.Archive(str(path), status.st_size, str(status.st_mtime_ns))
    assert listed(path) == listed(tmp_path) == Listing({}, (expected,))


def test_tars_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1, 12):
        write_tar(tmp_path / f"images_{number}.tar.gz", pictures(1, first=number))
    names = [storage.name(archive.location) for archive in listed(tmp_path).archives]
    assert names == [f"images_{number}.tar.gz" for number in (1, 2, 10, 12)]


def test_everything_below_one_folder_is_found(tmp_path: Path) -> None:
    write_folder(tmp_path / "images_001" / "images", pictures(1))
    write_zip(tmp_path / "images_002.zip", pictures(1, first=1))
    write_tar(tmp_path / "deeper" / "images_003.tar.gz", pictures(1, first=2))
    found = listed(tmp_path)
    assert sorted(found.images) == sorted(pictures(2))
    assert [storage.name(archive.location) for archive in found.archives] == ["images_003.tar.gz"]


def test_an_s3_prefix_is_listed_like_a_folder(tmp_path: Path, s3: str) -> None:
    write_folder(tmp_path / "images_001" / "images", pictures(2))
    write_zip(tmp_path / "images_002.zip", nested(pictures(2, first=2)))
    write_tar(tmp_path / "images_003.tar.gz", nested(pictures(2, first=4)))
    upload(tmp_path, f"{s3}/nih")
    here, there = listed(tmp_path), listed(f"{s3}/nih")
    assert {name: image.size_bytes for name, image in there.images.items()} == {
        name: image.size_bytes for name, image in here.images.items()
    }
    assert [archive[:2] for archive in there.archives] == [
        (f"{s3}/nih/images_003.tar.gz", here.archives[0].size_bytes)
    ]
    assert listed(f"{s3}/nih/images_003.tar.gz").archives == there.archives
    assert len(listed(f"{s3}/nih/images_002.zip").images) == 2


def test_an_object_that_is_replaced_has_another_version(tmp_path: Path, s3: str) -> None:
    versions = set()
    for first in (0, 1):
        write_tar(tmp_path / "images.tar.gz", pictures(1, first))
        upload(tmp_path, s3)
        versions |= {archive.version for archive in listed(s3).archives}
    assert len(versions) == 2


def test_a_folder_may_have_the_name_of_an_archive(tmp_path: Path, s3: str) -> None:
    write_folder(tmp_path / "archive.zip", pictures(1))
    assert list(listed(tmp_path / "archive.zip").images) == list(pictures(1))
    upload(tmp_path, s3)
    assert list(listed(f"{s3}/archive.zip").images) == list(pictures(1))


@pytest.mark.parametrize("name", ["absent", "absent.zip", "absent.tar.gz"])
def test_a_source_that_is_not_there_is_an_error(tmp_path: Path, s3: str, name: str) -> None:
    for base in (str(tmp_path), s3):
        with pytest.raises(StorageError, match=re.escape(f"{base}/{name}: ")):
            listed(f"{base}/{name}")


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    write_folder(tmp_path, {"labels.csv": b""})
    with pytest.raises(StorageError, match=r"no \.png file below it"):
        listed(tmp_path)


def test_an_unknown_scheme_is_refused() -> None:
    for location in ("ftp://server/images", "http://server/archive.zip"):
        with pytest.raises(StorageError, match=r"is not served"):
            listed(location)


def spoil_with_a_second_folder(folder: Path) -> list[Path]:
    write_folder(folder / "other", pictures(1))
    return [folder]


def spoil_with_a_zip(folder: Path) -> list[Path]:
    write_zip(folder / "images.zip", nested(pictures(1)))
    return [folder]


def spoil_with_a_tar(folder: Path) -> list[Path]:
    write_tar(folder / "images_001.tar.gz", nested(pictures(1)))
    return [folder]


def spoil_with_two_tars(folder: Path) -> list[Path]:
    shutil.rmtree(folder / "images")
    for name in ("a", "b"):
        write_tar(folder / f"{name}.tar.gz", nested(pictures(1)))
    return [folder]


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_with_a_second_folder,
        spoil_with_a_zip,
        spoil_with_a_tar,
        spoil_with_two_tars,
        lambda folder: [folder, folder / "images"],
    ],
)
def test_an_image_that_is_there_twice_is_an_error_that_names_both(tmp_path: Path, spoil) -> None:
    write_folder(tmp_path / "images", pictures(2))
    with pytest.raises(
        TableError, match=r"00000000_000.png is there twice, as \S+ and \S+; expected"
    ) as caught:
        listed(*spoil(tmp_path))
    assert "#" not in str(caught.value)


def test_an_image_twice_in_one_zip_is_an_error(tmp_path: Path) -> None:
    images = pictures(1)
    path = write_zip(tmp_path / "images.zip", {**nested(images, "a"), **nested(images, "b")})
    with pytest.raises(TableError, match=r"there twice, as .*zip!/a/00000000_000.png and .*zip!/b/"):
        listed(path)


def test_an_archive_that_is_named_twice_is_an_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images_001.tar.gz", pictures(1))
    with pytest.raises(TableError, match=r"images_001.tar.gz: named twice"):
        listed(path, tmp_path)


def test_merging_adds_what_the_archives_held_and_finds_doubles(tmp_path: Path) -> None:
    listing = Listing({"a.png": Found("folder/a.png", 1)}, ())
    merged = sources.merge(listing, [{"b.png": Found("spool#0", 2)}, {"c.png": Found("spool#1", 3)}])
    assert list(merged) == ["a.png", "b.png", "c.png"]
    assert list(listing.images) == ["a.png"]
    with pytest.raises(TableError, match=r"a.png is there twice, as folder/a.png and spool#0"):
        sources.merge(listing, [{"a.png": Found("spool#0", 2)}])


def test_every_row_with_an_image_is_present(tmp_path: Path) -> None:
    names = sorted(pictures(4))
    table = table_of(tmp_path, names)
    assert sources.check_complete(table, names, (), allow_missing=False).tolist() == [True] * 4
    present = sources.check_complete(table, names[1:3], (), allow_missing=True)
    np.testing.assert_array_equal(present, [False, True, True, False])


def test_missing_images_are_counted_and_some_are_shown(tmp_path: Path) -> None:
    names = sorted(pictures(6))
    with pytest.raises(
        TableError, match=r"5 of the 6 images .* such as 00000001_000.png, .* convert the 1 that"
    ):
        sources.check_complete(table_of(tmp_path, names), names[:1], (), allow_missing=False)


def test_nobody_misses_an_excluded_image(tmp_path: Path) -> None:
    names = sorted(pictures(3))
    table = table_of(tmp_path, names)
    present = sources.check_complete(table, names[:2], {names[2]: "rotated"}, allow_missing=False)
    np.testing.assert_array_equal(present, [True, True, False])
    assert sources.check_complete(table, names, {names[2]: "rotated"}, allow_missing=False).all()


def test_an_image_that_the_table_does_not_have_is_an_error_that_says_where_it_lies(tmp_path: Path) -> None:
    table = table_of(tmp_path, sorted(pictures(1)))
    write_zip(tmp_path / "images.zip", {**pictures(1), "deep/00000009_000.png": picture(9)})
    images = listed(tmp_path / "images.zip").images
    with pytest.raises(TableError, match=r"images.zip!/deep/00000009_000.png: not in table.csv \(1 such"):
        sources.check_complete(table, images, (), allow_missing=False)


def test_listing_reads_no_more_of_a_damaged_tar_than_its_first_image(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images_001.tar.gz", pictures(40))
    path.write_bytes(path.read_bytes()[:-20_000])
    assert len(listed(path).archives) == 1
    path.write_bytes(b"not an archive at all" * 100)
    with pytest.raises(CxrError, match=r"images_001.tar.gz: ends early or is damaged after 0 images"):
        listed(path)
