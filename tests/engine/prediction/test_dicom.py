from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import dicom_files
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.pixels import apply_voi_lut

from engine.prediction import dicom
from records.errors import ImageError

SIDE_PX = 24


def ramp(dtype: str = "u1", top: int = 256, bottom: int = 0) -> np.ndarray:
    """(24, 20), so that rows and columns can't be mistaken; holds `bottom` and `top - 1`."""
    values = np.random.default_rng(3).integers(bottom, top, (SIDE_PX, 20))
    values[0, :2] = bottom, top - 1
    return values.astype(dtype)


def to_8_bits(shares: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        dicom.decode_grey(data)
    line = str(caught.value)
    assert not [secret for secret in dicom_files.SECRETS if secret in line]
    return line


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("dtype", "bits", "bottom", "top"),
    [
        ("u1", 8, 0, 256),
        ("u2", 12, 0, 4096),
        ("u2", 16, 0, 65536),
        ("i2", 12, -2048, 2048),
        ("i2", 16, -9, 99),
    ],
)
def test_without_a_window_the_full_range_is_shown(
    photometric: str, dtype: str, bits: int, bottom: int, top: int
) -> None:
    stored = ramp(dtype, top, bottom)
    shown = dicom.decode_grey(dicom_files.file(stored, bits=bits, PhotometricInterpretation=photometric))
    expected = to_8_bits((stored.astype(float) - bottom) / (top - 1 - bottom))
    np.testing.assert_array_equal(shown, 255 - expected if photometric == "MONOCHROME1" else expected)


def test_eight_bits_over_their_whole_range_stay_as_they_are() -> None:
    np.testing.assert_array_equal(dicom.decode_grey(dicom_files.file(ramp())), ramp())


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("slope", [1.0, 0.25, -2.0])
def test_a_window_is_applied_to_rescaled_values_as_the_standard_says(
    function: str | None, slope: float
) -> None:
    stored = ramp("u2", 4096)
    elements = {
        "RescaleSlope": slope,
        "RescaleIntercept": -100.0,
        "WindowCenter": 150.0,
        "WindowWidth": 300.0,
    }
    if function:
        elements["VOILUTFunction"] = function
    shown = dicom.decode_grey(dicom_files.file(stored, bits=12, **elements))
    values = stored * slope - 100
    # PS3.3, C.11.2.1.2 and C.11.2.1.3.
    shares = {
        "LINEAR": (values - 149.5) / 299 + 0.5,
        "LINEAR_EXACT": (values - 150) / 300 + 0.5,
        "SIGMOID": 1 / (1 + np.exp(-4 * (values - 150) / 300)),
    }[function or "LINEAR"]
    difference = shown.astype(int) - to_8_bits(shares)
    assert np.abs(difference).max() <= 1  # where half a grey level is rounded one way or the other
    assert np.abs(difference).sum() <= 2


def test_the_first_of_several_windows_counts() -> None:
    stored = ramp("u2", 4096)
    several = dicom_files.file(stored, bits=12, WindowCenter=[500, 3000], WindowWidth=[400, 100])
    first = dicom_files.file(stored, bits=12, WindowCenter=500, WindowWidth=400)
    np.testing.assert_array_equal(dicom.decode_grey(several), dicom.decode_grey(first))


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_voi_lut_goes_before_a_window_and_gives_what_pydicom_gives(bits: int) -> None:
    stored = ramp("u2", 4096)
    entries = (np.linspace(0, 1, 2000) ** 2 * (2**bits - 1)).astype(int)
    dataset = dicom_files.data_set(
        stored,
        bits=12,
        VOILUTSequence=[dicom_files.look_up_table(entries, 700, bits)],
        WindowCenter=5,
        WindowWidth=2,
    )
    shown = dicom.decode_grey(dicom_files.saved(dataset))
    reference = apply_voi_lut(stored, pydicom.dcmread(io.BytesIO(dicom_files.saved(dataset))))
    np.testing.assert_array_equal(shown, to_8_bits(reference / (2**bits - 1)))


def test_a_long_lut_of_8_bits_keeps_its_values_apart() -> None:
    stored = ramp("u2", 4096)
    table = dicom_files.look_up_table(np.arange(4096) // 16, 0, 8)
    shown = dicom.decode_grey(dicom_files.file(stored, bits=12, VOILUTSequence=[table]))
    np.testing.assert_array_equal(shown, stored // 16)


def test_a_modality_lut_comes_before_the_window() -> None:
    stored = ramp("u2", 256)
    table = dicom_files.look_up_table(np.arange(256)[::-1] * 4, 0, 16)
    shown = dicom.decode_grey(
        dicom_files.file(stored, bits=8, ModalityLUTSequence=[table], WindowCenter=400.5, WindowWidth=201)
    )
    np.testing.assert_array_equal(shown, to_8_bits(((255 - stored.astype(float)) * 4 - 400) / 200 + 0.5))


def test_padding_does_not_stretch_the_range() -> None:
    stored = ramp("i2", 1000, 100)
    stored[:, -1] = -2000
    shown = dicom.decode_grey(dicom_files.file(stored, PixelPaddingValue=-2000))
    inside = dicom.decode_grey(dicom_files.file(np.ascontiguousarray(stored[:, :-1])))
    np.testing.assert_array_equal(shown[:, :-1], inside)
    assert not shown[:, -1].any()


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.RLELossless,
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_every_lossless_encoding_gives_the_same_picture(syntax: uid.UID, dtype: str) -> None:
    stored = ramp(dtype, 200)
    elements = {"WindowCenter": 90, "WindowWidth": 120}
    dataset = dicom_files.data_set(stored, **elements)
    if syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    if syntax == uid.RLELossless:
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        dataset.compress(uid.RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(
        dicom.decode_grey(dicom_files.saved(dataset, syntax)),
        dicom.decode_grey(dicom_files.file(stored, **elements)),
    )


@pytest.mark.parametrize(("dtype", "top"), [("u1", 256), ("u2", 4096)])
def test_lossless_jpeg_2000_gives_the_same_picture(dtype: str, top: int) -> None:
    stored = ramp(dtype, top)
    frame = dicom_files.packed(stored, "JPEG2000", no_jp2=True, irreversible=False)
    data = dicom_files.compressed(dicom_files.data_set(stored), frame, uid.JPEG2000Lossless)
    np.testing.assert_array_equal(dicom.decode_grey(data), dicom.decode_grey(dicom_files.file(stored)))


def test_baseline_jpeg_gives_nearly_the_same_picture() -> None:
    stored = np.add.outer(np.arange(0, 240, 10), np.arange(0, 15)).astype(np.uint8)
    frame = dicom_files.packed(stored, "JPEG", quality=98)
    elements = {"WindowCenter": 128, "WindowWidth": 256}
    data = dicom_files.compressed(dicom_files.data_set(stored, **elements), frame, uid.JPEGBaseline8Bit)
    difference = dicom.decode_grey(data).astype(int) - stored
    assert np.abs(difference).max() <= 4


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"NumberOfFrames": 3}, "a DICOM of 3 frames"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "a DICOM in colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a DICOM in colour"),
        ({"PhotometricInterpretation": "Annamaria"}, "a DICOM in colour"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "a DICOM of 32 bits of 32"),
        ({"BitsStored": 6}, "a DICOM of 6 bits of 8"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels of 1 bytes; expected at most 67,108,864"),
        ({"Rows": 25}, "damaged DICOM"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "a DICOM whose window is 0 wide"),
        ({"WindowCenter": [5, 6], "WindowWidth": [-2, 1]}, "a DICOM whose window is -2 wide"),
        (
            {"RescaleSlope": 0, "RescaleIntercept": 1, "WindowCenter": 5, "WindowWidth": 9},
            "a DICOM whose resc",
        ),
        ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "ANNAMARIA"}, "damaged DICOM"),
    ],
)
def test_what_is_no_grey_picture_is_refused_in_a_line(elements: dict, expected: str) -> None:
    assert refusal(dicom_files.file(ramp(), **elements)).startswith(expected)


def test_a_dicom_without_a_picture_is_refused() -> None:
    dataset = dicom_files.data_set(ramp())
    del dataset.PixelData
    assert refusal(dicom_files.saved(dataset)).startswith("a DICOM without a picture")


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        (uid.JPEGLosslessSV1, "JPEG Lossless, Non-Hierarchical, First-Order Prediction"),
        (uid.JPEGLSLossless, "JPEG-LS Lossless"),
        (uid.UID("1.2.3680043.8.498.4242"), "an unknown transfer syntax"),
    ],
)
def test_a_compression_that_cannot_be_decoded_is_named(syntax: uid.UID, name: str) -> None:
    data = dicom_files.compressed(dicom_files.data_set(ramp()), b"\xff\xd8" + bytes(40), uid.JPEGLosslessSV1)
    plain = str(uid.JPEGLosslessSV1).encode()
    line = refusal(data.replace(plain, syntax.encode().ljust(len(plain), b"\0")))
    assert line.startswith(f"a DICOM stored as {name}")


def test_a_jpeg_of_12_bits_is_named() -> None:
    dataset = dicom_files.data_set(ramp("u2", 4096), bits=12)
    frame = dicom_files.packed(ramp(), "JPEG")
    line = refusal(dicom_files.compressed(dataset, frame, uid.JPEGExtended12Bit))
    assert line.startswith("a DICOM stored as JPEG Extended (Process 2 and 4), which can't be decoded here")


def compressed_examples() -> dict[str, bytes]:
    stored = ramp("u2", 4096)
    deflated = dicom_files.file(stored, uid.DeflatedExplicitVRLittleEndian)
    run_length = dicom_files.data_set(stored)
    run_length.file_meta = pydicom.dataset.FileMetaDataset()
    run_length.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    run_length.compress(uid.RLELossless, generate_instance_uid=False)
    jpeg = dicom_files.packed(ramp(), "JPEG")
    jpeg_2000 = dicom_files.packed(stored, "JPEG2000", no_jp2=True)
    return {
        "native": dicom_files.file(stored),
        "deflated": deflated,
        "rle": dicom_files.saved(run_length, uid.RLELossless),
        "jpeg": dicom_files.compressed(dicom_files.data_set(ramp()), jpeg, uid.JPEGBaseline8Bit),
        "jpeg 2000": dicom_files.compressed(dicom_files.data_set(stored), jpeg_2000, uid.JPEG2000Lossless),
    }


EXAMPLES = compressed_examples()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_file_cut_off_anywhere_is_refused(kind: str) -> None:
    data = EXAMPLES[kind]
    dicom.decode_grey(data)
    # What stands last may be padding or the mark of an end that nothing hangs on.
    for end in range(dicom._META_AT, len(data) - 12, 7):
        refusal(data[:end])


@given(st.sampled_from(sorted(EXAMPLES)), st.integers(132), st.binary(min_size=1, max_size=8))
@settings(max_examples=300)
def test_a_damaged_file_raises_nothing_but_an_image_error(kind: str, place: int, rubbish: bytes) -> None:
    data = bytearray(EXAMPLES[kind])
    place = 132 + place % (len(data) - 132)
    data[place : place + len(rubbish)] = rubbish
    line = ""
    try:
        shown = dicom.decode_grey(bytes(data))
    except ImageError as error:
        line = str(error)
    else:
        assert (shown.dtype, shown.ndim) == (np.uint8, 2)
    assert not [secret for secret in dicom_files.SECRETS if secret in line]


@given(st.binary(max_size=300))
def test_rubbish_behind_the_magic_bytes_raises_nothing_but_an_image_error(rubbish: bytes) -> None:
    refusal(bytes(128) + b"DICM" + rubbish)
    refusal(EXAMPLES["native"][:340] + rubbish)


def test_a_deflated_bomb_is_not_inflated() -> None:
    whole = dicom_files.file(ramp(), uid.DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(whole[140:144], "little")
    body = zlib.compress(bytes(300 << 20), 9)[2:-4]
    tracemalloc.start()
    line = refusal(whole[:start] + body)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "when inflated" in line
    assert peak_bytes < 300 << 20


def test_a_run_length_bomb_is_not_unpacked() -> None:
    bomb = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + b"\x81\0" * 200_000
    tracemalloc.start()
    line = refusal(dicom_files.compressed(dicom_files.data_set(ramp()), bomb, uid.RLELossless))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "not of the size that it says" in line
    assert peak_bytes < 8_000_000


@pytest.mark.parametrize(
    ("format_name", "syntax"), [("JPEG", uid.JPEGBaseline8Bit), ("JPEG2000", uid.JPEG2000Lossless)]
)
def test_a_compressed_picture_larger_than_its_header_says_is_not_decoded(
    format_name: str, syntax: uid.UID
) -> None:
    frame = dicom_files.packed(np.zeros((4000, 4000), np.uint8), format_name)
    line = refusal(dicom_files.compressed(dicom_files.data_set(ramp()), frame, syntax))
    assert "not of the size that it says" in line


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's size from /proc")
def test_the_largest_picture_takes_a_few_times_its_bytes() -> None:
    code = (
        "import resource, sys\n"
        "from engine.prediction import dicom\n"
        "data = sys.stdin.buffer.read()\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20),) * 2)\n"
        "print(dicom.decode_grey(data).shape)\n"
    )
    stored = np.arange(1 << 25, dtype=np.uint16).reshape(4096, 8192)
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=dicom_files.file(stored, WindowCenter=900, WindowWidth=500),
        capture_output=True,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert result.stdout == b"(4096, 8192)\n", result.stderr.decode()


def test_no_warning_of_pydicom_gets_out(capfd: pytest.CaptureFixture[str]) -> None:
    dataset = dicom_files.data_set(ramp(), WindowCenter=128, WindowWidth=256)
    data = dicom_files.saved(dataset)
    # Superfluous bytes behind the pixels, and a name in a character set that isn't.
    data = data.replace(b"Rossi^Annamaria", b"Rossi^\xff\xfe\x80\x00maria") + bytes(10)
    dicom.decode_grey(data)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
