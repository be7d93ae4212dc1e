"""Conversions from every kind of source give the same data set."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from conversions import error_of, tree_of

from beam_pipelines import archives, convert, output
from records import manifest, storage


def pngs(source) -> list[Path]:
    return sorted((source.folder / "images").rglob("*.png"))


def write_tars(source, folder: Path, count: int) -> list[Path]:
    """Pack the images into tar.gz archives in their order, as the NIH does; into folders called images."""
    folder.mkdir(parents=True)
    files = pngs(source)
    made = []
    for number in range(count):
        made.append(folder / f"images_{number + 1:03d}.tar.gz")
        with tarfile.open(made[-1], "w:gz") as archive:
            for path in files[number * len(files) // count : (number + 1) * len(files) // count]:
                archive.add(path, f"images/{path.name}")
    return made


def write_zip(source, path: Path) -> Path:
    """Pack the images into one zip of twelve folders, as Kaggle does."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, image in enumerate(pngs(source)):
            archive.write(image, f"images_{number // 5 + 1:03d}/images/{image.name}")
        archive.write(source.table, "Data_Entry_2017.csv")
    return path


def test_a_zip_gives_the_bytes_of_the_folder(drawn, converted, tmp_path):
    packed = write_zip(drawn, tmp_path / "archive.zip")
    assert convert.main(drawn.arguments(tmp_path / "out", images=packed)) == 0
    assert tree_of(tmp_path / "out") == tree_of(converted)


def test_tar_archives_give_the_bytes_of_the_folder_and_leave_no_spool(drawn, converted, tmp_path):
    write_tars(drawn, tmp_path / "nih", 3)
    assert convert.main(drawn.arguments(tmp_path / "out", images=tmp_path / "nih")) == 0
    assert tree_of(tmp_path / "out") == tree_of(converted)


def test_several_sources_of_several_kinds_are_one(drawn, converted, tmp_path):
    first, second, third = write_tars(drawn, tmp_path / "nih", 3)
    with tarfile.open(second) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    with tarfile.open(third) as archive, zipfile.ZipFile(tmp_path / "third.zip", "w") as packed:
        for member in archive.getmembers():
            packed.writestr(member.name, archive.extractfile(member).read())
    flags = drawn.arguments(tmp_path / "out", images=first)
    flags += ["--images", str(tmp_path / "unpacked"), "--images", str(tmp_path / "third.zip")]
    assert convert.main(flags) == 0
    assert tree_of(tmp_path / "out") == tree_of(converted)


def test_archives_that_were_converted_are_not_read_again(drawn, tmp_path, monkeypatch, capsys):
    made = write_tars(drawn, tmp_path / "nih", 2)
    flags = drawn.arguments(tmp_path / "out", images=tmp_path / "nih")
    assert convert.main(flags) == 0
    with monkeypatch.context() as patch:
        patch.delattr(archives, "spool")
        assert convert.main(flags) == 0
        assert "nothing to do" in capsys.readouterr().out
        made[0].touch()
        assert "holds another data set" in error_of(capsys, flags, 1)


def test_a_conversion_of_archives_that_was_stopped_reads_only_those_that_were_not_read(
    drawn, converted, tmp_path, monkeypatch, capsys
):
    write_tars(drawn, tmp_path / "nih", 3)
    flags = drawn.arguments(tmp_path / "out", images=tmp_path / "nih")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(convert, "_write_shards", stop)
        assert convert.main(flags) == 130
    notes = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / ".work").rglob("*.npz")}
    assert len(notes) == 3
    capsys.readouterr()
    assert "add --resume" in error_of(capsys, flags, 1)
    lost = next(iter(notes))
    lost.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(convert, "_write_shards", stop)
        assert convert.main([*flags, "--resume"]) == 130
    again = {path: path.stat().st_mtime_ns for path in notes}
    assert [path for path in notes if notes[path] != again[path]] == [lost]
    assert convert.main([*flags, "--resume"]) == 0
    assert tree_of(tmp_path / "out") == tree_of(converted)


def test_a_truncated_archive_stops_the_conversion_with_its_name(drawn, tmp_path, capsys):
    (archive,) = write_tars(drawn, tmp_path / "nih", 1)
    archive.write_bytes(archive.read_bytes()[:-5000])
    flags = drawn.arguments(tmp_path / "out", images=archive)
    assert convert.main(flags) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert str(archive) in line
    assert "download it again" in line


def test_missing_images_of_archives_are_told_after_they_were_read_once(drawn, converted, tmp_path, capsys):
    first, *_ = write_tars(drawn, tmp_path / "nih", 3)
    flags = drawn.arguments(tmp_path / "out", images=first)
    assert convert.main(flags) == 1
    assert "40 of the 60 images of table.csv are missing" in capsys.readouterr().err
    assert convert.main([*flags, "--allow_missing_images", "--resume"]) == 0
    made = manifest.load(str(tmp_path / "out"))
    assert made.source["missing"] == 40
    assert sum(split.images for split in made.splits.values()) == 20


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_in_s3_are_read_in_place(drawn, converted, s3, tmp_path, kind):
    if kind == "zip":
        packed = [write_zip(drawn, tmp_path / "archive.zip")]
    else:
        packed = write_tars(drawn, tmp_path / "nih", 2)
    for path in packed:
        storage.write_bytes(f"{s3}/source/{path.name}", path.read_bytes())
    assert convert.main(drawn.arguments(f"{s3}/shards", images=f"{s3}/source")) == 0
    for name, data in tree_of(converted).items():
        assert storage.read_bytes(f"{s3}/shards/{name}") == data, name
    left = {stored.location for stored in storage.list_files(f"{s3}/shards")}
    assert left == {f"{s3}/shards/{name}" for name in (*tree_of(converted), output.CONVERSION_NAME)}


def test_an_archive_that_was_mended_is_read_again_and_the_others_are_not(own_drawn, tmp_path):
    victim = pngs(own_drawn)[7]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:3000])
    write_tars(own_drawn, tmp_path / "nih", 2)
    flags = own_drawn.arguments(tmp_path / "out", images=tmp_path / "nih")
    assert convert.main(flags) == 1
    spools = {path.name for path in (tmp_path / "out" / archives.SPOOL_FOLDER).glob("*.npz")}
    victim.write_bytes(whole)
    (tmp_path / "mended").mkdir()
    write_tars(own_drawn, tmp_path / "mended" / "nih", 2)[0].replace(tmp_path / "nih" / "images_001.tar.gz")
    seen = []
    read = archives.tars.read_images
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives.tars, "read_images", lambda place: (seen.append(place), read(place))[1])
        assert convert.main([*flags, "--resume"]) == 0
    # Its first image is looked at when the sources are listed, which tells archives from other files.
    assert len(spools) == 2
    assert sorted(Path(place).name for place in seen).count("images_002.tar.gz") < seen.count(
        str(tmp_path / "nih" / "images_001.tar.gz")
    )
    assert not manifest.load(str(tmp_path / "out")).quarantined


def test_an_image_of_an_archive_that_fails_its_checks_is_quarantined(own_drawn, tmp_path):
    victim = pngs(own_drawn)[7]
    victim.write_bytes(victim.read_bytes()[:3000])
    write_tars(own_drawn, tmp_path / "nih", 2)
    flags = own_drawn.arguments(tmp_path / "out", images=tmp_path / "nih", max_quarantined=0.05)
    assert convert.main(flags) == 0
    (entry,) = manifest.load(str(tmp_path / "out")).quarantined
    assert entry.image_id == victim.name
    assert entry.reason.startswith("damaged PNG")


def test_what_was_asked_for_is_kept_beside_the_manifest(drawn, converted):
    record = json.loads((converted / output.CONVERSION_NAME).read_text())
    assert record["claim_sha256"] == manifest.load(str(converted)).request_sha256
