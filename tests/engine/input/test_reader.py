"""Random access to records, and the checks that guard it."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.input import fetch, shard_check
from engine.input.reader import ShardReader
from engine.input.shard_cache import CacheSettings
from records import example, index, manifest, storage, tfrecord
from records.errors import ManifestError, RecordError, ShardError

ROWS = np.array([19, 0, 7, 7, 13])


def records_in_order(data_set: manifest.Manifest, split: str = "train") -> list[example.Record]:
    """Read a split record by record with the contract's own reader."""
    return [
        example.decode(frame.payload)
        for shard in data_set.splits[split].shards
        for frame in tfrecord.read(io.BytesIO(storage.read_bytes(data_set.locate(shard))), shard.path)
    ]


def shard_path(data_set: manifest.Manifest, number: int = 1) -> Path:
    return Path(data_set.locate(data_set.splits["train"].shards[number]))


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def with_index(data_set: manifest.Manifest, rows: np.ndarray) -> manifest.Manifest:
    """Return a manifest whose training index holds other rows, with the right checksum."""
    data = index.to_bytes(rows)
    storage.write_bytes(storage.join(data_set.folder, "other.npy"), data)
    stored = manifest.StoredFile("other.npy", len(data), manifest.crc32c(data))
    train = dataclasses.replace(data_set.splits["train"], index=stored)
    return dataclasses.replace(data_set, splits={**data_set.splits, "train": train})


def index_rows(data_set: manifest.Manifest) -> np.ndarray:
    return index.from_bytes(storage.read_bytes(data_set.locate(data_set.splits["train"].index)), "index")


def test_a_gathered_batch_holds_the_records_that_were_asked_for(data_set) -> None:
    stored = records_in_order(data_set)
    assert len({len(example.encode(record)) for record in stored[:14]}) > 1, "want records of unequal length"
    with ShardReader(data_set, "train") as reader:
        images, labels = reader.gather(ROWS)
        assert len(reader) == 20
        assert reader.shard_sizes == (7, 7, 6)
    assert (images.shape, images.dtype) == ((5, 32, 32, 1), np.uint8)
    assert (labels.shape, labels.dtype) == ((5, 14), np.float32)
    assert np.array_equal(images, [stored[row].pixels() for row in ROWS])
    assert np.array_equal(labels, [stored[row].labels for row in ROWS])


def test_a_batch_is_gathered_into_the_memory_that_is_given(data_set) -> None:
    with ShardReader(data_set, "train") as reader:
        out = np.zeros((5, 32, 32, 1), np.uint8)
        images, _ = reader.gather(ROWS, out)
        assert images is out
        assert np.array_equal(out, reader.gather(ROWS)[0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_compressed_pictures_are_decoded(tmp_path, write_data_set, encoding: str, channels: int) -> None:
    raw = write_data_set(tmp_path / "raw", channels=channels)
    compressed = write_data_set(tmp_path / encoding, channels=channels, encoding=encoding)
    with ShardReader(raw, "train") as wanted, ShardReader(compressed, "train") as reader:
        (images, labels), (pixels, targets) = reader.gather(ROWS), wanted.gather(ROWS)
    assert np.array_equal(labels, targets)
    assert images.shape == (5, 32, 32, channels)
    assert np.abs(images.astype(int) - pixels).max() <= (0 if encoding == "png" else 10)


def test_records_and_identities_are_those_of_the_shards_in_their_order(data_set) -> None:
    stored = records_in_order(data_set)
    with ShardReader(data_set, "train") as reader:
        image_ids, patient_ids = reader.identities()
        assert [record.image_id for record in reader.records(ROWS)] == [stored[row].image_id for row in ROWS]
    assert image_ids.tolist() == [record.image_id for record in stored]
    assert patient_ids.tolist() == [record.patient_id for record in stored]


def test_the_labels_of_a_split_are_read_without_its_pictures(data_set) -> None:
    with ShardReader(data_set, "train") as reader:
        labels = reader.labels()
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, [record.labels for record in records_in_order(data_set)])


def test_a_split_without_records_can_be_opened(tmp_path, write_data_set) -> None:
    sizes = {"train": (3, 0, 2), "validation": (), "test": (0,)}
    data_set = write_data_set(tmp_path, sizes=sizes)
    for split, records in (("train", 5), ("validation", 0), ("test", 0)):
        with ShardReader(data_set, split) as reader:
            assert reader.labels().shape == (records, 14)
            assert reader.gather(np.arange(records))[0].shape == (records, 32, 32, 1)


def test_a_damaged_shard_is_refused_when_it_is_first_touched_and_named(data_set) -> None:
    damage(shard_path(data_set), 500)
    with ShardReader(data_set, "train") as reader:
        reader.gather(np.arange(7))
        with pytest.raises(
            ShardError, match=r"train-00001-of-00003\.tfrecord: CRC32C .* damaged or stale"
        ) as error:
            reader.gather(np.arange(14))
        assert reader.fault is error.value


def test_checking_can_be_turned_off(data_set) -> None:
    damage(shard_path(data_set), 500)
    with ShardReader(data_set, "train", verify=False) as reader:
        assert len(reader.gather(np.arange(14))[0]) == 14


def test_many_threads_and_readers_check_each_shard_once(data_set, monkeypatch) -> None:
    checked, check = [], shard_check.check
    monkeypatch.setattr(
        shard_check, "check", lambda path, file: (checked.append(file.path), check(path, file))
    )
    start = threading.Barrier(8)

    def touch(reader: ShardReader) -> None:
        start.wait()
        reader.gather(np.arange(20))

    with (
        ShardReader(data_set, "train") as first,
        ShardReader(data_set, "train") as second,
        ThreadPoolExecutor(8) as threads,
    ):
        list(threads.map(touch, [first, second] * 4))
    assert sorted(checked) == [shard.path for shard in data_set.splits["train"].shards]


def test_a_truncated_or_missing_shard_is_refused_at_once(data_set) -> None:
    path = shard_path(data_set)
    os.truncate(path, 100)
    with pytest.raises(ShardError, match=r"train-00001-of-00003\.tfrecord: 100 bytes, the manifest says"):
        ShardReader(data_set, "train")
    path.unlink()
    with pytest.raises(
        ShardError, match=r"train-00001-of-00003\.tfrecord: missing, but the manifest names it"
    ):
        ShardReader(data_set, "train")


def test_an_index_of_other_records_is_refused(data_set) -> None:
    rows = index_rows(data_set)
    with pytest.raises(ShardError, match=r"other\.npy: 19 rows that don't follow the 20 records"):
        ShardReader(with_index(data_set, rows[1:]), "train")
    with pytest.raises(ShardError, match=r"other\.npy: 20 rows that don't follow"):
        ShardReader(with_index(data_set, rows[::-1].copy()), "train")


@pytest.mark.parametrize("key", ["payload_offset", "image_offset", "labels_offset"])
@pytest.mark.parametrize("value", [-1, 1 << 40])
def test_an_index_that_points_outside_of_a_shard_is_refused(data_set, key: str, value: int) -> None:
    rows = index_rows(data_set)
    rows[key][9] = value
    with pytest.raises(ShardError, match="row 9 lies outside of its shard"):
        ShardReader(with_index(data_set, rows), "train")


def test_an_index_of_another_image_size_is_refused(data_set) -> None:
    rows = index_rows(data_set)
    rows["image_bytes"][3] = 1000
    with pytest.raises(ShardError, match=r"a raw picture of 1000 bytes; expected 1024 for \(32, 32, 1\)"):
        ShardReader(with_index(data_set, rows), "train")


def test_a_damaged_index_is_refused(data_set) -> None:
    damage(Path(data_set.locate(data_set.splits["train"].index)), 300)
    with pytest.raises(ShardError, match=r"train\.index\.npy: .* damaged or stale"):
        ShardReader(data_set, "train")


def test_labels_that_are_no_labels_are_refused(data_set) -> None:
    rows = index_rows(data_set)
    rows["labels_offset"][8] = rows["image_offset"][8]
    with (
        ShardReader(with_index(data_set, rows), "train") as reader,
        pytest.raises(ShardError, match=r"train-00001-of-00003\.tfrecord: no labels where the index says"),
    ):
        reader.labels()


def test_a_picture_that_cannot_be_decoded_names_its_record(tmp_path, write_data_set) -> None:
    data_set = write_data_set(tmp_path, encoding="png")
    rows = index_rows(data_set)
    rows["image_offset"][2] += 8
    with (
        ShardReader(with_index(data_set, rows), "train") as reader,
        pytest.raises(
            RecordError, match=r"train-00000-of-00003\.tfrecord: the record at byte \d+: the picture"
        ),
    ):
        reader.gather(np.arange(4))


def test_an_unknown_split_or_encoding_is_refused(data_set) -> None:
    with pytest.raises(ManifestError, match="no split `val`; expected one of train, validation, test"):
        ShardReader(data_set, "val")
    image = {**data_set.image, "encoding": "webp"}
    with pytest.raises(ManifestError, match="an encoding of raw, png, jpeg"):
        ShardReader(dataclasses.replace(data_set, image=image), "train")


def test_a_closed_reader_says_so_and_its_batches_stay(data_set) -> None:
    with ShardReader(data_set, "train") as reader:
        images, _ = reader.gather(ROWS)
        before = images.copy()
    with pytest.raises(ValueError, match="the reader is closed"):
        reader.gather(ROWS)
    assert np.array_equal(images, before)


def test_remote_shards_are_fetched_once_and_only_when_touched(
    s3, tmp_path, write_data_set, monkeypatch
) -> None:
    data_set = write_data_set(f"{s3}/sets/one")
    settings = CacheSettings(tmp_path / "cache", 1 << 20)
    fetched, start = [], fetch.shared().start
    monkeypatch.setattr(
        fetch.shared(), "start", lambda place, *to: (fetched.append(place), start(place, *to))[1]
    )
    for _ in range(2):
        with ShardReader(data_set, "train", cache_settings=settings) as reader:
            images, _ = reader.gather(np.arange(7, 14))
    assert fetched == [f"{s3}/sets/one/train-00001-of-00003.tfrecord"]
    assert np.array_equal(images, [record.pixels() for record in records_in_order(data_set)[7:14]])


def test_the_labels_of_a_remote_split_are_read(s3, tmp_path, write_data_set) -> None:
    data_set = write_data_set(s3)
    with ShardReader(data_set, "train", cache_settings=CacheSettings(tmp_path, 1 << 20)) as reader:
        assert np.array_equal(reader.labels(), [record.labels for record in records_in_order(data_set)])


def test_a_remote_split_with_an_empty_shard_is_read(s3, tmp_path, write_data_set) -> None:
    data_set = write_data_set(s3, sizes={"train": (3, 0, 2), "validation": (), "test": ()})
    with ShardReader(data_set, "train", cache_settings=CacheSettings(tmp_path, 1 << 20)) as reader:
        assert len(reader.gather(np.arange(5))[0]) == 5
        assert reader.shards[1].size == 0
