"""A DICOM file -> the grey picture that a viewer would show first, 8 bits, 0 is black.

Stored value -> modality LUT or rescale -> VOI LUT, else the first window, else the full range -> 8 bits, and
MONOCHROME1 inverted. Only the elements of `_NEEDED` are ever parsed: names, dates and numbers of a patient
stay bytes that nobody looks at. Reducing and the checks of a picture are `pictures`'.
"""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_modality_lut, apply_windowing, pixel_array
from pydicom.tag import BaseTag, Tag

from engine.prediction.hostile import parsing
from records.errors import ImageError
from records.pixels import MAX_DECODED_BYTES

_NEEDED = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "WindowCenter",
    "WindowWidth",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTFunction",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "PixelData",
)
_MONOCHROME1, _MONOCHROME2 = "MONOCHROME1", "MONOCHROME2"
_NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000Lossless, uid.JPEG2000)
# Named, so that the same decoder runs wherever others are installed.
_PLUGIN = {uid.RLELossless: "pydicom"} | dict.fromkeys(_JPEG, "pillow")
_READABLE = (*_NATIVE, uid.DeflatedExplicitVRLittleEndian, *_PLUGIN)

_PIXELS = Tag("PixelData")

_MAGIC_AT, _META_AT = 128, 132
# The first element of every file: how many bytes the others of its header take.
_META_LENGTH = b"\x02\0\0\0UL\x04\0"
_META_LENGTH_END = _META_AT + len(_META_LENGTH) + 4
# Of an inflated file: the pixels, and as much again for overlays and what else stands beside them.
_MAX_INFLATED_BYTES = 2 * MAX_DECODED_BYTES


def is_dicom(data: bytes) -> bool:
    """Tell a DICOM file by its magic bytes."""
    return data[_MAGIC_AT:_META_AT] == b"DICM"


def decode_grey(data: bytes) -> np.ndarray:
    """Decode a DICOM file with one grey picture.

    Args:
        data: the whole file, with the preamble of part 10.

    Returns:
        (rows, columns) uint8, 0 is black.

    Raises:
        ImageError: damaged, no picture, several frames, coloured, too large, or compressed in a way that
            can't be decoded; one line that quotes nothing of the file but numbers of its picture.
    """
    with parsing("DICOM"):
        dataset = _parse(data)
        _check(dataset)
        _check_compressed(dataset)
        plugin = _PLUGIN.get(dataset.file_meta.TransferSyntaxUID, "")
        stored = pixel_array(dataset, decoding_plugin=plugin)
        if stored.shape != (dataset.Rows, dataset.Columns):
            raise ImageError("damaged DICOM: its pixels are not of the rows and columns that it says")
        return _shown(stored.astype(stored.dtype.newbyteorder("="), copy=False), dataset)


def _parse(data: bytes) -> Dataset:
    """Read what is needed for the picture, and nothing else."""
    if data[_META_AT : _META_AT + len(_META_LENGTH)] != _META_LENGTH:
        raise ImageError("damaged DICOM: its header doesn't begin with its length")
    start = _META_LENGTH_END + int.from_bytes(data[_META_LENGTH_END - 4 : _META_LENGTH_END], "little")
    # Of the header alone: of a whole deflated file, pydicom would inflate whatever came.
    meta = pydicom.dcmread(io.BytesIO(data[:start])).file_meta
    syntax = meta.get("TransferSyntaxUID")
    if syntax not in _READABLE:
        raise ImageError(_unreadable(syntax))
    body = data[start:]
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        body = _inflated(body)
    dataset = read_dataset(
        io.BytesIO(body),
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
        stop_when=_is_behind_the_pixels,
        specific_tags=[Tag(keyword) for keyword in _NEEDED],
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _is_behind_the_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:  # noqa: ARG001
    # A tag of zeros is no element: some files end in zeros.
    return tag > _PIXELS or tag == 0


def _unreadable(syntax: uid.UID | None) -> str:
    # A UID that no dictionary knows may say anything.
    name = (
        syntax.name if syntax is not None and syntax in uid.UID_dictionary else "an unknown transfer syntax"
    )
    return (
        f"a DICOM stored as {name}, which can't be decoded here; store it uncompressed, as RLE or JPEG 2000"
    )


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(data, _MAX_INFLATED_BYTES)
    if not inflater.eof:
        raise ImageError(
            f"damaged DICOM: deflated and cut off, or over {_MAX_INFLATED_BYTES:,} bytes when inflated"
        )
    return body


def _check(dataset: Dataset) -> None:
    """Refuse by its elements what is no grey picture of up to 16 bits, before its pixels are decoded."""
    if "PixelData" not in dataset or not dataset.get("Rows") or not dataset.get("Columns"):
        raise ImageError("a DICOM without a picture (no pixel data); expected an X-ray image")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"a DICOM of {frames} frames; expected one picture")
    if dataset.SamplesPerPixel != 1 or dataset.PhotometricInterpretation not in (_MONOCHROME1, _MONOCHROME2):
        raise ImageError("a DICOM in colour; expected MONOCHROME1 or MONOCHROME2")
    allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if allocated not in (8, 16) or not 1 <= bits <= allocated or dataset.get("HighBit", bits - 1) != bits - 1:
        raise ImageError(
            f"a DICOM of {bits} bits of {allocated} a pixel; expected the lowest 1 to 16 bits of 8 or 16"
        )
    if dataset.file_meta.TransferSyntaxUID == uid.JPEGExtended12Bit and bits != 8:
        raise ImageError(_unreadable(uid.JPEGExtended12Bit))
    width, height = int(dataset.Columns), int(dataset.Rows)
    if width * height * (allocated // 8) > MAX_DECODED_BYTES:
        raise ImageError(
            f"{width} x {height} pixels of {allocated // 8} bytes; expected at most {MAX_DECODED_BYTES:,} "
            "bytes in all"
        )


def _check_compressed(dataset: Dataset) -> None:
    """Refuse compressed pixels that would grow to more than the picture, before they do."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    size = (dataset.Columns, dataset.Rows)
    if syntax == uid.RLELossless:
        fits = _unpacked_bytes(frame[64:]) <= 2 * size[0] * size[1] * (dataset.BitsAllocated // 8)
    else:
        with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
            fits = image.size == size and len(image.getbands()) == 1
    if not fits:
        raise ImageError("damaged DICOM: its compressed picture is not of the size that it says")


def _unpacked_bytes(packed: bytes) -> int:
    """Return at most how many bytes runs of RLE unpack to (PackBits, as part 5, annex G has it)."""
    total = position = 0
    while position < len(packed):
        head = packed[position]
        total += 257 - head if head > 128 else head + 1
        position += 2 if head > 128 else head + 2
    return total


def _shown(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """(rows, columns) of stored values -> uint8, by a table of all values that such pixels can have."""
    unsigned = np.dtype(f"u{stored.dtype.itemsize}")
    values = np.arange(2 ** (8 * unsigned.itemsize)).astype(unsigned).view(stored.dtype)
    modality = _modality(values.astype(np.int64), dataset)
    low, high = _span(stored, dataset)
    used = modality[(values >= low) & (values <= high)]
    shares = _voi(modality, used, dataset)
    if not np.isfinite(shares).all():
        raise ImageError("a DICOM whose rescale or window gives no numbers")
    table = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    if dataset.PhotometricInterpretation == _MONOCHROME1:
        table = 255 - table
    # Row by row: indices take eight bytes each.
    return np.stack([table[row] for row in stored.view(unsigned)])


def _span(stored: np.ndarray, dataset: Dataset) -> tuple[int, int]:
    """Return the lowest and highest stored value of the picture, without what pads it."""
    padding = dataset.get("PixelPaddingValue")
    if isinstance(padding, int):
        limit = dataset.get("PixelPaddingRangeLimit", padding)
        outside = (stored >= min(padding, limit)) & (stored <= max(padding, limit))
        if not outside.all():
            stored = stored[~outside]
    return int(stored.min()), int(stored.max())


def _modality(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    if dataset.get("ModalityLUTSequence"):
        return _look_up(values, dataset, "ModalityLUTSequence")[0]
    return apply_modality_lut(values, dataset)


def _voi(modality: np.ndarray, used: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Modality values -> from 0, black, to 1, white; MONOCHROME1 is not inverted yet."""
    if dataset.get("VOILUTSequence"):
        output, bits = _look_up(np.rint(modality).astype(np.int64), dataset, "VOILUTSequence")
        return output / (2**bits - 1)
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        if (width := _first(dataset.WindowWidth)) <= 0:
            raise ImageError(f"a DICOM whose window is {width:g} wide")
        # Far below and far above the window: the ends of pydicom's output, which differ by file.
        black, white = apply_windowing(np.array([-np.inf, np.inf]), dataset)
        return (apply_windowing(modality, dataset) - black) / (white - black)
    black, white = used.min(), used.max()
    # Of one value: nothing to stretch, and `pictures` will refuse it.
    return (modality - black) / ((white - black) or 1)


def _first(value: Any) -> float:
    """Return a number, or the first of several."""
    return float(value if isinstance(value, (int, float)) else value[0])


def _look_up(values: np.ndarray, dataset: Dataset, sequence: str) -> tuple[np.ndarray, int]:
    """Return the output of a sequence's first LUT for whole numbers, and of how many bits it is.

    Not pydicom's: that holds indices in the type of the output, so 8-bit output of a longer LUT goes wrong.
    """
    item = dataset[sequence][0]
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 2**16
    table = item.LUTData
    if isinstance(table, bytes):
        words = "<u2" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">u2"
        # 8-bit entries may stand one in each byte.
        table = np.frombuffer(table, np.uint8 if len(table) < 2 * entries else words)
    table = np.asarray(table)[:entries].astype(np.int64)
    if len(table) < entries or not 8 <= bits <= 16:
        raise ImageError("damaged DICOM: a LUT without all its entries")
    return table[np.clip(values - first, 0, entries - 1)], bits
