from __future__ import annotations

import gzip
import random
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutate
from targets import TARGETS, run

from beam_pipelines import tars, zips
from engine.prediction import pictures
from records import example, picture, pixels, table
from records.errors import CxrError

INPUTS = 400
INPUT_S = 10
# Far above what our largest inputs take, and far below what a bomb would.
MOST_BYTES = 800 << 20


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """End a test whose reader hangs."""

    def stop(*_: object) -> None:
        raise TimeoutError("a reader hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(6 * INPUT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Hold that a test took less memory than a bomb unfolds to."""
    before = _most_bytes()
    yield
    assert _most_bytes() - before < MOST_BYTES


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", TARGETS)
def test_nearly_valid_bytes_are_taken_or_refused_by_an_error_of_ours(name: str, tmp_path: Path) -> None:
    target, rng = TARGETS[name], random.Random(name)
    assert all(run(target, seed, tmp_path / "input") for seed in target.seeds)
    for _ in range(INPUTS):
        run(target, mutate(rng.choice(target.seeds), target.seeds, rng), tmp_path / "input")


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_taken_or_refused_by_an_error_of_ours(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("fuzz") / "input"

    @given(st.binary(max_size=200))
    @settings(max_examples=60, derandomize=True, database=None)
    def feed(data: bytes) -> None:
        run(TARGETS[name], data, scratch)

    feed()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _bomb_png(width: int, height: int, unfolded_bytes: int, extra: bytes = b"") -> bytes:
    """Make a PNG of few bytes that unfold to many."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(unfolded_bytes >> 20)) + packer.flush()
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    ("width", "height", "extra"),
    [
        (30_000, 30_000, b""),
        (2**31 - 1, 2**31 - 1, b""),
        (48, 48, b""),
        (48, 48, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20)))),
        (48, 48, _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(64 << 20)))),
    ],
)
def test_a_png_that_unfolds_to_a_gigabyte_is_not_unfolded(width: int, height: int, extra: bytes) -> None:
    data = _bomb_png(width, height, 1 << 30, extra)
    for read in (lambda: pixels.decode_grey(data), lambda: pictures.read_picture(data, 32)):
        _taken_or_refused(read)


def _taken_or_refused(read) -> None:
    try:
        read()
    except CxrError as error:
        assert str(error)  # noqa: PT017 - either is right


@pytest.mark.usefixtures("little_memory")
def test_a_gzip_that_unfolds_to_a_gigabyte_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(1 << 10):
            file.write(bytes(1 << 20))
    with pytest.raises(CxrError, match="unpacks to more than"):
        table.read_table(str(path))


@pytest.mark.usefixtures("little_memory")
def test_a_zip_that_unfolds_to_a_gigabyte_is_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("00000001_000.png", "w") as member,
    ):
        for _ in range(1 << 10):
            member.write(bytes(1 << 20))
    (found,) = zips.list_images(str(path))
    with pytest.raises(CxrError, match="expected an image of at most"):
        zips.read_image(found.location)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_a_tar_that_unfolds_to_a_gigabyte_is_not_read(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = kind, 1 << 30
    path = tmp_path / "images.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(1 << 10):
            file.write(b"x" * (1 << 20))
    with pytest.raises(CxrError, match="a header of 1,073,741,824 bytes"):
        list(tars.read_images(str(path)))


def test_a_number_without_end_in_a_record_is_refused_at_once() -> None:
    with pytest.raises(CxrError):
        example.locate(b"\x0a" + b"\xff" * (32 << 20))


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_a_picture_of_a_record_that_is_larger_than_it_says_is_refused(encoding: str) -> None:
    large = np.zeros((6000, 6000), np.uint8)
    record = example.Record(
        image=cv2.imencode(f".{encoding}", large)[1].tobytes(),
        encoding=encoding,
        shape=(32, 32, 1),
        image_id="a",
        patient_id=1,
        labels=np.zeros(14, np.uint8),
        view="PA",
        sex="F",
        age_years=1.0,
        follow_up=0,
    )
    with pytest.raises(CxrError, match=r"expected uint8 of \(32, 32, 1\)"):
        picture.decode(record)


@pytest.mark.parametrize("flags", [["--plain"], []])
def test_the_longer_form_runs(tmp_path: Path, flags: list[str]) -> None:
    if not flags:
        pytest.importorskip("atheris", reason="not installed: pip install atheris")
    program = Path(__file__).with_name("run.py")
    arguments = ["--seconds", "1", "--target", "index", "--corpus", str(tmp_path), *flags]
    ended = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 targets" in ended.stdout
    assert not list(tmp_path.iterdir())


def test_what_is_mutated_from_a_seed_is_the_same_again() -> None:
    seed = b"0123456789" * 9
    assert mutate(seed, [seed], random.Random(3)) == mutate(seed, [seed], random.Random(3)) != seed
