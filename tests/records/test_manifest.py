from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from records import example, labels, manifest, storage
from records.errors import ManifestError, ShardError, StorageError

GOLDEN = Path(__file__).parent / "golden" / "manifest.json"
SHARD_BYTES = {
    "train/train-00000-of-00002.tfrecord": b"first",
    "train/train-00001-of-00002.tfrecord": b"second",
}
INDEX_BYTES = b"positions"


def _stored(path: str, data: bytes) -> dict:
    return {"path": path, "size_bytes": len(data), "crc32c": manifest.crc32c(data)}


def _split(name: str) -> manifest.Split:
    counts = {finding: position for position, finding in enumerate(labels.FINDINGS)}
    shards = SHARD_BYTES if name == "train" else {f"{name}/{name}-00000-of-00001.tfrecord": name.encode()}
    return manifest.Split(
        images=20,
        patients=10,
        positives=counts,
        positive_patients={finding: count // 2 for finding, count in counts.items()},
        prevalence={finding: count / 20 for finding, count in counts.items()},
        shards=tuple(manifest.Shard(**_stored(path, data), records=10) for path, data in shards.items()),
        index=manifest.StoredFile(**_stored(f"{name}/index.npy", INDEX_BYTES)),
    )


def make_manifest(**values) -> manifest.Manifest:
    whole = {
        "source": {"table": {"name": "Data_Entry_2017.csv", "release": "2017", "rows": 60}},
        "split": {"strategy": "stratified", "seed": 0, "fractions": [0.9, 0.05, 0.05]},
        "image": {"side_px": 320, "stored_channels": 1, "encoding": "raw", "resize_kernel": "area"},
        "statistics": {"mean": 127.5, "deviation": 63.25, "pixels": 2048000},
        "splits": {name: _split(name) for name in ("train", "validation", "test")},
        "patients_in_two_splits": 0,
        "quarantined": (manifest.LeftOut("00000001_000.png", "damaged PNG: unexpected end of file"),),
        "versions": {"opencv": "5.0.0", "kornia_rs": "0.2.0"},
        "request_sha256": "0" * 64,
    }
    return manifest.Manifest(**{**whole, **values})


def write_data_set(folder: str) -> manifest.Manifest:
    made = make_manifest()
    for split in made.splits.values():
        for shard in split.shards:
            data = SHARD_BYTES.get(shard.path, shard.path.partition("/")[0].encode())
            storage.write_bytes(storage.join(folder, shard.path), data)
        storage.write_bytes(storage.join(folder, split.index.path), INDEX_BYTES)
    storage.write_bytes(storage.join(folder, "manifest.json"), made.to_json())
    return made


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    base = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3")
    return storage.join(base, "data")


def test_a_manifest_survives_the_round_trip(folder: str) -> None:
    made = write_data_set(folder)
    loaded = manifest.load(folder)
    assert loaded == made
    assert loaded.to_json() == made.to_json()
    assert isinstance(loaded.splits["train"].shards[0], manifest.Shard)
    assert loaded.location == storage.join(folder, "manifest.json")


def test_a_manifest_is_found_by_its_folder_or_its_own_name(folder: str) -> None:
    made = write_data_set(folder)
    for location in (folder, folder + "/", storage.join(folder, "manifest.json")):
        loaded = manifest.load(location)
        assert loaded == made
        shard = loaded.splits["train"].shards[1]
        assert loaded.locate(shard) == storage.join(folder, "train/train-00001-of-00002.tfrecord")


def test_equal_manifests_give_equal_bytes_wherever_they_lie() -> None:
    first = make_manifest(location="/somewhere/manifest.json")
    second = make_manifest(
        location="s3://elsewhere/manifest.json", versions={"kornia_rs": "0.2.0", "opencv": "5.0.0"}
    )
    assert first.to_json() == second.to_json()
    assert first.sha256 == second.sha256 == hashlib.sha256(first.to_json()).hexdigest()
    assert b"somewhere" not in first.to_json()
    assert make_manifest(request_sha256="1" * 64).sha256 != first.sha256


def test_the_bytes_of_a_manifest_are_the_golden_ones() -> None:
    """A change here makes older data sets unreadable; see golden/README.md."""
    made = make_manifest()
    if os.environ.get("REGENERATE_GOLDEN"):
        GOLDEN.write_bytes(made.to_json())
    assert made.to_json() == GOLDEN.read_bytes()
    assert manifest.load(str(GOLDEN)) == made


def test_a_manifest_names_label_order_licence_and_citation() -> None:
    values = json.loads(make_manifest().to_json())
    assert values["schema_version"] == example.SCHEMA_VERSION
    assert tuple(values["findings"]) == labels.FINDINGS
    assert "https://nihcc.app.box.com/v/ChestXray-NIHCC" in values["licence"]
    assert "CVPR 2017" in values["citation"]


def _refusal(location: str) -> str:
    with pytest.raises(ManifestError) as caught:
        manifest.load(location)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(location)
    return line


def test_a_missing_manifest_is_named_with_what_makes_one(folder: str) -> None:
    line = _refusal(storage.join(folder, "manifest.json"))
    assert "no manifest; expected a data set made by" in line


@pytest.mark.parametrize("text", ["", "{", "not JSON", "[]", "3", "null", '"text"', "{}", "\x00"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    assert "not a manifest of this project" in _refusal(str(path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"\xff\xfe\x89PNG")
    assert "not a manifest of this project" in _refusal(str(path))


def _written_with(folder: Path, change) -> str:
    values = json.loads(make_manifest().to_json())
    change(values)
    path = folder / "manifest.json"
    path.write_text(json.dumps(values))
    return str(path)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version_is_refused(tmp_path: Path, version: object) -> None:
    line = _refusal(_written_with(tmp_path, lambda values: values.update(schema_version=version)))
    assert f"schema version {version}; this version of cxr-engine reads 1" in line


@pytest.mark.parametrize(
    "findings", [labels.FINDINGS[::-1], labels.FINDINGS[:-1], labels.FINDINGS + ("Cough",)]
)
def test_another_label_order_is_refused(tmp_path: Path, findings: tuple[str, ...]) -> None:
    line = _refusal(_written_with(tmp_path, lambda values: values.update(findings=findings)))
    assert "another label order (" + ", ".join(findings) in line


FIELDS = [field.name for field in dataclasses.fields(manifest.Manifest) if field.name != "location"]
OPTIONAL = {"licence", "citation", "excluded", "oddities", "class_weights"}


# These have defaults, so that a manifest without them still loads.
@pytest.mark.parametrize("key", [name for name in FIELDS if name not in OPTIONAL])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    assert key in _refusal(_written_with(tmp_path, lambda values: values.pop(key)))


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    assert "surprise" in _refusal(_written_with(tmp_path, lambda values: values.update(surprise=1)))


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_missing_split_is_named(tmp_path: Path, name: str) -> None:
    assert name in _refusal(_written_with(tmp_path, lambda values: values["splits"].pop(name)))


@pytest.mark.parametrize("key", ["path", "size_bytes", "crc32c", "records"])
def test_an_incomplete_shard_is_named(tmp_path: Path, key: str) -> None:
    line = _refusal(_written_with(tmp_path, lambda values: values["splits"]["test"]["shards"][0].pop(key)))
    assert key in line


def _set(values, key: str, value: object) -> None:
    """Set `a.b.0.c` in nested values; the value `...` removes the key."""
    *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in path:
        values = values[part]
    if value is ...:
        del values[last]
    else:
        values[last] = value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, ...) for key in ("image.side_px", "statistics.mean", "splits.test.index", "split.seed")),
        ("image", None),
        ("image.side_px", "320"),
        ("image.side_px", True),
        ("image.side_px", 0),
        ("image.stored_channels", 1.0),
        ("image.encoding", None),
        ("statistics", []),
        ("statistics.mean", "127"),
        ("statistics.deviation", float("nan")),
        ("statistics.deviation", float("inf")),
        ("statistics.mean", 10**400),
        ("source", []),
        ("source.rows", "60"),
        ("split.strategy", 3),
        ("splits", []),
        ("splits.train", None),
        ("splits.extra", {}),
        ("splits.train.images", -1),
        ("splits.train.patients", 2**63),
        ("splits.train.positives.Cough", 1),
        ("splits.train.positives.Mass", ...),
        ("splits.train.positives.Mass", 1.5),
        ("splits.train.positive_patients", None),
        ("splits.train.prevalence.Mass", 1.1),
        ("splits.train.shards", {}),
        ("splits.train.shards.0", "train-00000-of-00002.tfrecord"),
        ("splits.train.shards.1.path", 5),
        ("splits.train.shards.1.size_bytes", "5"),
        ("splits.train.shards.1.crc32c", "12345"),
        ("splits.train.shards.1.crc32c", 12345678),
        ("splits.train.shards.1.extra", 1),
        ("splits.train.index.records", 1),
        ("quarantined", None),
        ("quarantined.0.reason", None),
        ("patients_in_two_splits", None),
        ("versions", None),
        ("request_sha256", 0),
        ("licence", None),
    ],
)
def test_a_wrong_or_missing_value_is_named_by_its_key(tmp_path: Path, key: str, value: object) -> None:
    line = _refusal(_written_with(tmp_path, lambda values: _set(values, key, value)))
    named = re.sub(r"\.(\d+)", r"[\1]", key)
    assert f"`{named}`" in line
    assert "not a manifest of this project" in line


@pytest.mark.parametrize("file", ["shards.0", "index"])
@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            ".",
            "..",
            "/etc/passwd",
            "../a/train/x",
            "train/../../x",
            "train/..",
            "./train/x",
            "train/./x",
        ),
        *("train//x", "train/", "s3://bucket/x", "train\\..\\x", "train/x\0", "train/x\n", "train/\ud800"),
    ],
)
def test_a_path_that_could_lead_out_of_the_folder_is_refused(tmp_path: Path, file: str, path: str) -> None:
    key = f"splits.train.{file}.path"
    line = _refusal(_written_with(tmp_path, lambda values: _set(values, key, path)))
    assert "expected a relative path inside the data set's folder" in line


def test_flat_paths_and_unknown_circumstances_are_accepted(tmp_path: Path) -> None:
    def change(values) -> None:
        values.update(source={}, split={"strategy": "random", "seed": 0}, versions={}, request_sha256="")
        values["statistics"] = {"mean": None, "deviation": None, "pixels": 0}
        values["splits"]["train"]["shards"][0]["path"] = "train-00000-of-00003.tfrecord"

    loaded = manifest.load(_written_with(tmp_path, change))
    assert loaded.locate(loaded.splits["train"].shards[0]) == f"{tmp_path}/train-00000-of-00003.tfrecord"


@pytest.mark.parametrize("value", [None, 5, [5], "Mass", {}])
def test_a_label_order_that_is_no_list_of_names_is_refused(tmp_path: Path, value: object) -> None:
    assert "`findings" in _refusal(_written_with(tmp_path, lambda values: values.update(findings=value)))


def test_json_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text("[" * 200_000)
    assert "not a manifest of this project" in _refusal(str(path))


def test_a_file_that_the_system_refuses_is_named_by_the_check(tmp_path: Path) -> None:
    write_data_set(str(tmp_path))
    too_long = "x" * 300
    loaded = manifest.load(
        _written_with(tmp_path, lambda values: _set(values, "splits.train.index.path", too_long))
    )
    with pytest.raises(ShardError, match="x: can't be read: "):
        manifest.check_files(loaded)


def test_whole_files_pass_the_check(folder: str) -> None:
    write_data_set(folder)
    loaded = manifest.load(folder)
    manifest.check_files(loaded)
    assert manifest.read_checked(loaded, loaded.splits["train"].shards[1]) == b"second"
    assert manifest.read_checked(loaded, loaded.splits["test"].index) == INDEX_BYTES


ANY_FILE = [
    "train/train-00001-of-00002.tfrecord",
    "test/test-00000-of-00001.tfrecord",
    "validation/index.npy",
]


@pytest.mark.parametrize("path", ANY_FILE)
def test_a_missing_file_is_named_by_the_check(folder: str, path: str) -> None:
    write_data_set(folder)
    storage.delete(storage.join(folder, path))
    with pytest.raises(ShardError, match=f"{path}: missing, but the manifest names it"):
        manifest.check_files(manifest.load(folder))


@pytest.mark.parametrize("path", ANY_FILE)
def test_a_file_of_another_size_is_named_by_the_check(folder: str, path: str) -> None:
    write_data_set(folder)
    storage.write_bytes(storage.join(folder, path), b"abc")
    with pytest.raises(ShardError, match=f"{path}: 3 bytes, the manifest says ") as caught:
        manifest.check_files(manifest.load(folder))
    assert "run the conversion again with --resume" in str(caught.value)


@pytest.mark.parametrize("data", [b"firsT", b"firs", b"firstt", b""])
def test_a_damaged_file_is_not_read(folder: str, data: bytes) -> None:
    write_data_set(folder)
    loaded = manifest.load(folder)
    shard = loaded.splits["train"].shards[0]
    storage.write_bytes(loaded.locate(shard), data)
    with pytest.raises(ShardError) as caught:
        manifest.read_checked(loaded, shard)
    line = str(caught.value)
    assert line.startswith(f"{loaded.locate(shard)}: {len(data)} bytes with CRC32C {manifest.crc32c(data)}")
    assert f"the manifest says 5 with {shard.crc32c}" in line


def test_a_missing_file_is_not_read(folder: str) -> None:
    write_data_set(folder)
    loaded = manifest.load(folder)
    shard = loaded.splits["train"].shards[0]
    storage.delete(loaded.locate(shard))
    with pytest.raises(ShardError, match=f"{shard.path}: can't be read: no such .*the manifest names it"):
        manifest.read_checked(loaded, shard)


def test_a_manifest_in_an_unknown_store_is_refused() -> None:
    with pytest.raises(StorageError, match="`ftp://` is not served"):
        manifest.load("ftp://server/data")


def test_the_checksum_is_crc32c_in_eight_digits() -> None:
    assert manifest.crc32c(b"123456789") == "e3069283"
    assert manifest.crc32c(b"") == "00000000"
