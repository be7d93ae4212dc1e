"""Archives, shards, indexes and manifests that are damaged, stale or hostile."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import Attempt, Case, Ground, auditing, converting, engine, reading
from sound import change_json, picture, png

from engine.input.reader import ShardReader
from records import index, manifest, tfrecord

NAMES = ["00000001_000.png", "00000001_001.png"]


def _tar(members: dict[str, bytes | str], packed: str = "w:gz") -> bytes:
    """Make a tar; a text is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=packed) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            if isinstance(data, str):
                header.type, header.linkname = tarfile.SYMTYPE, data
                archive.addfile(header)
            else:
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def _zip(members: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name)
            if isinstance(data, str):
                member.create_system = 3
                member.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(member, data)
    return buffer.getvalue()


def _endless_header() -> bytes:
    """Make a tar whose first header is said to take 8 GB."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 8 << 30
    return header.tobuf(tarfile.GNU_FORMAT) + bytes(4096)


def _archive(name: str, what: str, data: Callable[[], bytes], line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        ground.source()
        return converting(ground, images=ground.write(name, data()))

    return Case("archive", what, write, "beam_pipelines.convert", line)


def _pngs() -> dict[str, bytes | str]:
    return {name: png(picture(number, 200)) for number, name in enumerate(NAMES)}


ARCHIVES = [
    _archive("images.zip", "zip cut off", lambda: _zip(_pngs())[:-200], r"\S+images\.zip: no whole zip"),
    _archive("images.zip", "zip that is text", lambda: b"<html>", r"\S+images\.zip: no whole zip"),
    _archive(
        "images.zip", "zip without images", lambda: _zip({"a.txt": b"x"}), r"\S+images\.zip: no \.png file"
    ),
    _archive(
        "images.zip",
        "zip with a symbolic link",
        lambda: _zip({NAMES[0]: "/etc/passwd"}),
        r"\S+images\.zip: 00000001_000\.png is a symbolic link; unpack",
    ),
    _archive(
        "images.zip",
        "zip with names that lead out",
        lambda: _zip({"../../evil.png": png(picture(1)), **_pngs()}),
        r"\S+images\.zip!/\.\./\.\./evil\.png: not in table\.csv",
    ),
    _archive(
        "images.tar.gz", "tar cut off", lambda: _tar(_pngs())[:900], r"\S+images\.tar\.gz: ends early or"
    ),
    _archive(
        "images.tar.gz", "tar that is text", lambda: b"<html>404", r"\S+images\.tar\.gz: ends early or is"
    ),
    _archive(
        "images.tar.gz",
        "tar with a symbolic link",
        lambda: _tar({NAMES[0]: "/etc/passwd"}),
        r"\S*00000001_000\.png is a symbolic link; unpack",
    ),
    _archive(
        "images.tar", "tar with an endless header", _endless_header, r"\S+images\.tar: .*a header of 8,589"
    ),
    _archive(
        "images.zip",
        "image twice",
        lambda: _zip({"a/" + NAMES[0]: png(picture(1)), "b/" + NAMES[0]: png(picture(1))}),
        r"00000001_000\.png is there twice, as \S+a/\S+ and \S+b/",
    ),
]


def first_shard(folder: Path) -> Path:
    """Return the first shard of training."""
    return sorted((folder / "train").glob("*.tfrecord"))[0]


def _first_index(folder: Path) -> Path:
    values = json.loads((folder / "manifest.json").read_bytes())
    return folder / values["splits"]["train"]["index"]["path"]


def _reads(folder: Path) -> Attempt:
    def read() -> None:
        with ShardReader(manifest.load(str(folder)), "train") as reader:
            reader.gather(np.arange(len(reader)))
            reader.records(np.arange(len(reader)))

    return reading(read)


def _told(folder: Path, path: Path, key: str) -> None:
    """Let the manifest say of a file what is there."""
    data = path.read_bytes()
    changes: dict[str, Any] = {f"{key}__size_bytes": len(data), f"{key}__crc32c": manifest.crc32c(data)}
    change_json(folder / "manifest.json", **changes)


def _shard(what: str, spoil: Callable[[bytes], bytes | None], line: str, *, told: bool = False) -> Case:
    def write(ground: Ground) -> Attempt:
        folder = ground.data_set()
        path = first_shard(folder)
        data = spoil(path.read_bytes())
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        if told:
            _told(folder, path, "splits__train__shards__0")
        return _reads(folder)

    return Case("shard", what, write, "engine train, evaluate, ...", line)


def _of_payload(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the first record, and give it right checksums."""
    first, *rest = tfrecord.read(io.BytesIO(data), "")
    return b"".join(
        tfrecord.frame(payload) for payload in (change(first.payload), *(f.payload for f in rest))
    )


_SHARD = r"\S+train-00000-of-0000\d\.tfrecord: "
SHARDS = [
    _shard("missing", lambda _: None, _SHARD + r"missing, but the manifest names it"),
    _shard("empty", lambda _: b"", _SHARD + r"0 bytes, the manifest says"),
    _shard("cut off", lambda data: data[:-100], _SHARD + r"\d+ bytes, the manifest says \d+"),
    _shard(
        "a byte flipped", lambda data: data[:-9] + b"\x99" + data[-8:], _SHARD + r"CRC32C \w+, the manifest"
    ),
    _shard(
        "a record that is none",
        lambda data: _of_payload(data, lambda payload: b"\xff" * len(payload)),
        _SHARD + r"the record at byte 12: the payload of \d+ bytes is no tf\.train\.Example",
        told=True,
    ),
    _shard(
        "labels other than 0 and 1",
        lambda data: _of_payload(
            data,
            lambda payload: payload.replace(
                b"labels\x12\x12\x1a\x10\x0a\x0e\0", b"labels\x12\x12\x1a\x10\x0a\x0e\x07"
            ),
        ),
        _SHARD + r"the record at byte 12: 00000\d+_\d+\.png: labels \[7",
        told=True,
    ),
]


def _index(what: str, spoil: Callable[[bytes], bytes | None], line: str, *, told: bool = True) -> Case:
    def write(ground: Ground) -> Attempt:
        folder = ground.data_set()
        path = _first_index(folder)
        data = spoil(path.read_bytes())
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        if told:
            _told(folder, path, "splits__train__index")
        return _reads(folder)

    return Case("index", what, write, "engine train, evaluate, ...", r"\S+index\.npy: " + line)


def _npy(rows: np.ndarray, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=pickled)
    return buffer.getvalue()


def _rows(data: bytes, key: str, value: int) -> bytes:
    rows = index.from_bytes(data, "").copy()
    rows[key][0] = value
    return _npy(rows)


def _endless_index(data: bytes) -> bytes:
    """Let an index's header promise 10 ** 15 rows."""
    start = data.index(b"(")
    end = data.index(b")}" if b")}" in data else b"), }", start)
    shape = b"(1" + b"0" * 15 + b",)"
    spare = len(shape) - (end + 1 - start)
    rest = data[end + 1 :]
    padding = rest.index(b" " * spare)
    return data[:start] + shape + rest[:padding] + rest[padding + spare :]


INDEXES = [
    _index("missing", lambda _: None, r"can't be read: no such file.*the manifest names it", told=False),
    _index("a byte flipped", lambda data: data[:-1] + b"\x77", r"\d+ bytes with CRC32C", told=False),
    _index("text", lambda _: b"shard,offset\n", r"not an index of records: it starts with"),
    _index("cut off", lambda data: data[:-5], r"not an index of records: "),
    _index(
        "pickled objects", lambda _: _npy(np.array([{}]), pickled=True), r"not an index of records: Object"
    ),
    _index("other columns", lambda _: _npy(np.arange(3)), r"an index of int64; expected"),
    _index("endless", _endless_index, r"not an index of records: "),
    _index(
        "row outside of its shard", lambda data: _rows(data, "image_offset", 1 << 40), r"row 0 lies outside"
    ),
    _index("row before its shard", lambda data: _rows(data, "payload_offset", -5), r"row 0 lies outside"),
    _index("row of no shard", lambda data: _rows(data, "shard", 99), r"\d+ rows that don't follow"),
    _index(
        "picture of another size", lambda data: _rows(data, "image_bytes", 5), r"a raw picture of 5 bytes"
    ),
    _index(
        "a row too few", lambda data: _npy(index.from_bytes(data, "")[:-1]), r"\d+ rows that don't follow"
    ),
]


def _manifest(what: str, line: str, text: bytes | None = None, **changes: Any) -> Case:
    def write(ground: Ground) -> Attempt:
        path = ground.data_set() / "manifest.json"
        if text is None:
            change_json(path, **changes)
        else:
            path.write_bytes(text)
        return auditing(path.parent) if what != "missing" else engine("inspect", path.parent / "none.json")

    return Case("manifest", what, write, "all that read a data set", r"\S+\.json: " + line)


_NOT = r"not a manifest of this project: "
_PATH = "splits__train__shards__0__path"
MANIFESTS = [
    _manifest("missing", r"no manifest; expected a data set made by"),
    _manifest("empty", _NOT + r"Expecting value", b""),
    _manifest("cut off", _NOT + r"Unterminated string|" + _NOT, b'{"schema_version": 1, "findi'),
    _manifest("a list", _NOT + r"the whole is \[1\]; expected an object", b"[1]"),
    _manifest("not UTF-8", _NOT + r"'utf-8' codec|" + _NOT, b"\xff{}\xff\xff"),
    _manifest("nested without end", _NOT + r"it nests too deeply", b"[" * 100_000),
    _manifest(
        "of another schema", r"schema version 99; this version of cxr-engine reads 1", schema_version=99
    ),
    _manifest("other findings", r"another label order \(Flu\)", findings=["Flu"]),
    _manifest("key missing", _NOT + r"`statistics` is missing", statistics=...),
    _manifest("unknown key", _NOT + r"unknown key `extra`", extra=1),
    _manifest("negative count", _NOT + r"`splits\.train\.images` is -1; expected", splits__train__images=-1),
    _manifest("number that is none", _NOT + r"`statistics\.mean` is nan", statistics__mean=float("nan")),
    _manifest("path out of its folder", _NOT + r".*\.path` is '\.\./\.\./etc", **{_PATH: "../../etc/passwd"}),
    _manifest(
        "absolute path", _NOT + r".*\.path` is '/etc/passwd'; expected a relative", **{_PATH: "/etc/passwd"}
    ),
    _manifest("path in another store", _NOT + r".*\.path` is 's3://b/x'", **{_PATH: "s3://b/x"}),
    _manifest("path with a control", _NOT + r".*\.path` is 'a\\nb'", **{_PATH: "a\nb"}),
    _manifest("checksum that is none", _NOT + r".*crc32c` is 'x'", splits__train__index__crc32c="x"),
]

CASES = [*ARCHIVES, *SHARDS, *INDEXES, *MANIFESTS]
