"""The quality gate: what is refused, what is noted, and copies found across the whole set."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conversions import error_of, records_of, tree_of

from beam_pipelines import audit, convert, duplicates, finish, flags, inputs, plan, shards
from records import manifest
from records.errors import WorkerError


def image_path(source, image_id: str) -> Path:
    return next((source.folder / "images").rglob(image_id))


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


# The first patient is in train_val, the last one in test.
COPIES = {"00000007_002.png": "00000001_000.png", "00000020_001.png": "00000001_000.png"}


@pytest.fixture
def with_copies(own_drawn):
    """Two copies of one image under other patients, one of them as RGBA."""
    original = cv2.imread(str(image_path(own_drawn, "00000001_000.png")), cv2.IMREAD_GRAYSCALE)
    first, second = COPIES
    cv2.imwrite(str(image_path(own_drawn, first)), original)
    cv2.imwrite(str(image_path(own_drawn, second)), cv2.cvtColor(original, cv2.COLOR_GRAY2BGRA))
    return own_drawn


def test_copies_are_found_across_the_whole_set_and_left_out(with_copies, tmp_path, capsys):
    output = tmp_path / "out"
    assert convert.main(with_copies.arguments(output, max_quarantined=0.05)) == 0
    made = manifest.load(str(output))
    reasons = {entry.image_id: entry.reason for entry in made.quarantined}
    assert reasons == {copy: f"the same pixels as {original}" for copy, original in COPIES.items()}
    assert rows_of(output / manifest.QUARANTINE_NAME) == [list(entry) for entry in sorted(reasons.items())]
    ids = [record.image_id for record in records_of(output)]
    assert len(ids) == 58
    assert not COPIES.keys() & set(ids)
    assert "No two records hold the same pixels" in (output / manifest.CARD_NAME).read_text()
    capsys.readouterr()
    assert audit.main([str(output), "--labels", str(with_copies.table)]) == 0


def test_too_many_copies_stop_the_conversion_and_can_be_allowed(with_copies, tmp_path, capsys):
    output = tmp_path / "out"
    line = error_of(capsys, with_copies.arguments(output), 1)
    assert "2 of 60 images failed the checks, more than --max_quarantined=0.01 allows" in line
    assert "00000007_002.png: the same pixels as 00000001_000.png" in line
    assert "(2 are copies of others, which --allow_duplicates would keep)" in line
    assert not (output / manifest.FILE_NAME).exists()
    assert convert.main(with_copies.arguments(output, resume=True, allow_duplicates=True)) == 0
    assert len(records_of(output)) == 60
    assert not manifest.load(str(output)).quarantined
    assert "were kept, as asked for" in (output / manifest.CARD_NAME).read_text()
    line = error_of(capsys, with_copies.arguments(output), 1)
    assert "duplicates_allowed is True, asked for is False" in line


def test_a_conversion_killed_after_copies_were_dropped_resumes_to_the_same_bytes(
    with_copies, tmp_path, monkeypatch
):
    whole, output = tmp_path / "whole", tmp_path / "out"
    assert convert.main(with_copies.arguments(whole, max_quarantined=0.05)) == 0

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finish, "finish", stop)
        assert convert.main(with_copies.arguments(output, max_quarantined=0.05)) == 130
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "drop", stop)
        assert convert.main(with_copies.arguments(output, max_quarantined=0.05, resume=True)) == 130
    assert convert.main(with_copies.arguments(output, max_quarantined=0.05, resume=True)) == 0
    assert tree_of(output) == tree_of(whole)


def test_a_worker_with_other_libraries_is_refused(drawn, tmp_path):
    (item, *_) = _items(drawn)
    versions = {**plan.library_versions(), "opencv": "1.0"}
    with pytest.raises(WorkerError, match=r"a worker has numpy .*; the launcher numpy .* opencv 1.0"):
        shards.write_shard(item, str(tmp_path), plan.PixelSettings(), versions, "owner")
    assert not any(tmp_path.iterdir())


def _items(source) -> list[plan.ShardItem]:
    found, _ = flags.parse(source.arguments("out"))
    asked = inputs.read(found)
    return asked.plan_shards(asked.listing.images).items


def test_a_file_that_is_too_large_is_quarantined_before_it_is_read(own_drawn, tmp_path):
    with image_path(own_drawn, "00000002_000.png").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert convert.main(own_drawn.arguments(tmp_path / "out", max_quarantined=0.05)) == 0
    (entry,) = manifest.load(str(tmp_path / "out")).quarantined
    assert entry.reason == "67,108,865 bytes; expected an image of at most 67,108,864"


def test_lists_that_look_swapped_are_noted(drawn, tmp_path, capsys):
    flags = drawn.arguments(
        tmp_path / "out",
        train_val_list=drawn.folder / "test_list.txt",
        test_list=drawn.folder / "train_val_list.txt",
    )
    assert convert.main(flags) == 0
    assert "names more images to test on (45) than test_list.txt to train on (15)" in capsys.readouterr().err


@pytest.mark.parametrize("fractions", ["0.5,0.5", "0.7,0.1,0.1,0.1", "a,b,c"])
def test_fractions_are_three_numbers(drawn, tmp_path, capsys, fractions):
    lists = {"train_val_list": None, "test_list": None}
    with pytest.raises(SystemExit):
        convert.main(drawn.arguments(tmp_path, split="random", fractions=fractions, **lists))
    assert f"`{fractions}`; expected three numbers such as 0.9,0.05,0.05" in capsys.readouterr().err


def test_when_no_image_is_left_that_is_said(drawn, tmp_path, capsys):
    names = [path.name for path in (drawn.folder / "images").rglob("*.png")]
    (tmp_path / "list.txt").write_text("\n".join(names))
    flags = drawn.arguments(tmp_path / "out", exclude_list=tmp_path / "list.txt")
    assert "no image is left to convert" in error_of(capsys, flags, 1)


def test_a_shard_that_is_damaged_before_its_copies_are_dropped_is_not_passed_on(
    with_copies, tmp_path, capsys, monkeypatch
):
    find, output = duplicates.find, tmp_path / "out"

    def find_after_damage(all_notes):
        found = find(all_notes)
        for shard in output.rglob("*.tfrecord"):
            data = bytearray(shard.read_bytes())
            data[5000] ^= 1
            shard.write_bytes(data)
        return found

    flags = with_copies.arguments(output, max_quarantined=0.05)
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "find", find_after_damage)
        assert "changed since it was written" in error_of(capsys, flags, 1)
    assert convert.main([*flags, "--resume"]) == 0
    assert audit.main([str(output)]) == 0


def test_of_equal_images_the_first_by_name_stays_whatever_its_split(own_drawn, tmp_path):
    # Patient 20 is in test, which stands behind patient 1's split in every list.
    original = image_path(own_drawn, "00000020_002.png").read_bytes()
    image_path(own_drawn, "00000019_000.png").write_bytes(original)
    image_path(own_drawn, "00000003_002.png").write_bytes(original)
    assert convert.main(own_drawn.arguments(tmp_path / "out", max_quarantined=0.05)) == 0
    made = manifest.load(str(tmp_path / "out"))
    assert [(entry.image_id, entry.reason) for entry in made.quarantined] == [
        ("00000019_000.png", "the same pixels as 00000003_002.png"),
        ("00000020_002.png", "the same pixels as 00000003_002.png"),
    ]


def test_an_image_of_one_value_is_quarantined(own_drawn, tmp_path):
    cv2.imwrite(str(image_path(own_drawn, "00000002_000.png")), np.full((400, 400), 7, np.uint8))
    assert convert.main(own_drawn.arguments(tmp_path / "out", max_quarantined=0.05)) == 0
    (entry,) = manifest.load(str(tmp_path / "out")).quarantined
    assert (entry.image_id, entry.reason) == ("00000002_000.png", "every pixel is 7; expected a picture")


def test_one_bad_image_in_a_hundred_is_allowed_by_default(own_drawn, tmp_path, capsys):
    header, *rows = own_drawn.table.read_text().splitlines()
    for patient in range(21, 61):
        grey = np.random.default_rng(patient).integers(0, 256, (330, 330), np.uint8)
        cv2.imwrite(str(own_drawn.folder / "images" / f"{patient:08d}_000.png"), grey)
        rows.append(f"{patient:08d}_000.png,No Finding,0,{patient},50,M,PA,330,330,0.1,0.1")
    own_drawn.table.write_text("\n".join([header, *rows]) + "\n")
    flags = own_drawn.arguments(
        tmp_path / "out", split="random", fractions="0.6,0.2,0.2", train_val_list=None, test_list=None
    )
    image_path(own_drawn, "00000002_000.png").write_text("not a picture")
    assert convert.main(flags) == 0
    image_path(own_drawn, "00000003_000.png").write_text("not a picture either")
    shutil.rmtree(tmp_path / "out")
    assert "2 of 100 images failed the checks" in error_of(capsys, flags, 1)


def test_odd_but_valid_files_are_converted_and_noted(own_drawn, tmp_path):
    grey = cv2.imread(str(image_path(own_drawn, "00000002_000.png")), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(image_path(own_drawn, "00000002_000.png")), grey.astype(np.uint16) * 257)
    cv2.imwrite(str(image_path(own_drawn, "00000002_001.png")), cv2.resize(grey, (1024, 1024)))
    cv2.imwrite(str(image_path(own_drawn, "00000002_002.png")), grey[:, :330])
    output = tmp_path / "out"
    assert convert.main(own_drawn.arguments(output)) == 0
    noted = dict(rows_of(output / manifest.ODDITIES_NAME))
    assert noted["00000002_000.png"] == "400 x 400 pixels, 16-bit grey"
    assert "00000002_001.png" not in noted
    assert noted["00000002_002.png"] == "330 x 400 pixels"
    made = manifest.load(str(output))
    assert sum(made.oddities.values()) == len(noted) == 59
    assert made.oddities["400 x 400 pixels, 16-bit grey"] == 1
    card = (output / manifest.CARD_NAME).read_text()
    assert "1 converted and noted (`oddities.csv`): 330 x 400 pixels" in card


def test_listed_images_are_excluded_with_their_reasons(drawn, converted, tmp_path, capsys):
    listed = tmp_path / "bad.csv"
    listed.write_text("Index,Rotated\n00000001_001.png,1\n00000020_002.png,1\n")
    output = tmp_path / "out"
    assert convert.main(drawn.arguments(output, exclude_list=listed)) == 0
    made = manifest.load(str(output))
    assert [(entry.image_id, entry.reason) for entry in made.excluded] == [
        ("00000001_001.png", "Rotated (bad.csv)"),
        ("00000020_002.png", "Rotated (bad.csv)"),
    ]
    splits = {record.image_id: split for split, record in records_of(converted, with_split=True)}
    kept = {record.image_id: split for split, record in records_of(output, with_split=True)}
    assert splits.keys() - kept.keys() == {"00000001_001.png", "00000020_002.png"}
    assert kept.items() <= splits.items()
    capsys.readouterr()
    assert audit.main([str(output)]) == 0
    capsys.readouterr()
    assert "holds another data set (the lists of excluded images are others)" in error_of(
        capsys, drawn.arguments(output), 1
    )


def test_an_excluded_image_needs_no_file(own_drawn, tmp_path):
    image_path(own_drawn, "00000002_000.png").unlink()
    (tmp_path / "list.txt").write_text("00000002_000.png\n")
    flags = own_drawn.arguments(tmp_path / "out", exclude_list=tmp_path / "list.txt")
    assert convert.main(flags) == 0
    made = manifest.load(str(tmp_path / "out"))
    assert made.source["missing"] == 0
    assert [entry.image_id for entry in made.excluded] == ["00000002_000.png"]
