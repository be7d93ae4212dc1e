"""PNGs, JPEGs and DICOM files that are no picture of a chest, or no whole one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pydicom
from cases import Attempt, Case, Ground, reading
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from sound import SIDE_PX, picture, png

from beam_pipelines import reading as image_reading
from engine.prediction import pictures

_RGBA = cv2.cvtColor(picture(1), cv2.COLOR_GRAY2BGRA)


def _flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :]


def _with_header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """Make a PNG of other sides than its pixels have, with right checksums."""
    data = png(picture(1))
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


_colour = np.dstack([picture(seed) for seed in range(3)])
_jpeg = cv2.imencode(".jpg", picture(1))[1].tobytes()
_deep = png(picture(1).astype(np.uint16) * 257)

# What stands in the file, and the reason that quarantine lists.
PNGS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"not a PNG: the file is empty"),
    "text": (b"<html>404</html>", r"not a PNG: it starts with b'<html>40'"),
    "a JPEG": (_jpeg, r"not a PNG: it starts with"),
    "nothing behind the signature": (
        png(picture(1))[:8],
        r"damaged PNG: it doesn't begin with an IHDR chunk",
    ),
    "another first chunk": (png(picture(1)).replace(b"IHDR", b"IHDS"), r"damaged PNG: it doesn't begin"),
    "cut off in its pixels": (png(picture(1))[:-500], r"damaged PNG: unexpected end of file"),
    "cut off before its end": (png(picture(1))[:-12], r"damaged PNG: unexpected end of file"),
    "RGBA, cut off": (png(_RGBA)[:-500], r"damaged PNG: unexpected end of file"),
    "RGBA, a byte flipped": (_flipped(png(_RGBA), 200), r"damaged PNG: CRC error in chunk b'IDAT'"),
    "16-bit, a byte flipped": (_flipped(_deep, 200), r"damaged PNG: CRC error in chunk b'IDAT'"),
    "a byte flipped": (_flipped(png(picture(1)), 200), r"damaged PNG: "),
    "in colour": (png(_colour), r"a colour image; expected grey"),
    "too small": (png(picture(1, 20)), r"20 x 20 pixels; expected at least 32 on a side"),
    "a strip": (png(picture(1)[:10]), r"48 x 10 pixels; expected sides of at most 2 to 1"),
    "of one value": (png(np.full((48, 48), 7, np.uint8)), r"every pixel is 7; expected a picture"),
    "said to be huge": (_with_header(60000, 60000), r"60000 x 60000 pixels of 1 bytes; expected 1 to"),
    "said to have no width": (_with_header(0, 48), r"0 x 48 pixels of 1 bytes; expected 1 to"),
    "of an unknown colour type": (_with_header(48, 48, 8, 5), r"damaged PNG: OpenCV can't decode it"),
    "of three bits": (_with_header(48, 48, 3), r"damaged PNG: OpenCV can't decode it"),
}


def _png(what: str, data: bytes, reason: str) -> Case:
    def spoil(ground: Ground) -> Attempt:
        path = ground.write("00000001_000.png", data)
        return reading(lambda: image_reading.load(str(path), SIDE_PX))

    return Case("PNG", what, spoil, "beam_pipelines.convert", reason)


def _dicom(**changes: object) -> bytes:
    dataset = Dataset()
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = 48
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PatientName = "Secret^Patient"
    dataset.PixelData = picture(1).tobytes()
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def _upload(kind: str, what: str, make: Callable[[], bytes], reason: str) -> Case:
    def spoil(ground: Ground) -> Attempt:
        path = ground.write("image", make())
        return reading(lambda: pictures.read_picture(path.read_bytes(), SIDE_PX))

    return Case(kind, what, spoil, "engine predict, engine serve", reason)


CASES = [
    *(_png(what, data, reason) for what, (data, reason) in PNGS.items()),
    _upload("JPEG", "cut off", lambda: _jpeg[:-200], r"damaged JPEG: unexpected end of file"),
    _upload("JPEG", "in colour", lambda: cv2.imencode(".jpg", _colour)[1].tobytes(), r"a colour image"),
    _upload(
        "JPEG", "only its first bytes", lambda: b"\xff\xd8\xff\xe0\xff\xd9", r"damaged JPEG: it can't be"
    ),
    _upload(
        "image", "none of the three kinds", lambda: b"GIF89a" + bytes(99), r"neither PNG, JPEG nor DICOM"
    ),
    _upload("DICOM", "no pixels", lambda: _dicom(PixelData=b""), r"a DICOM without a picture|damaged DICOM"),
    _upload("DICOM", "several frames", lambda: _dicom(NumberOfFrames=3), r"a DICOM of 3 frames"),
    _upload("DICOM", "in colour", lambda: _dicom(PhotometricInterpretation="RGB"), r"a DICOM in colour"),
    _upload("DICOM", "fewer pixels than it says", lambda: _dicom(Rows=4096), r"damaged DICOM: it can't be"),
    _upload("DICOM", "cut off", lambda: _dicom()[:-600], r"damaged DICOM: it can't be decoded"),
    _upload("DICOM", "only the magic bytes", lambda: bytes(128) + b"DICM", r"damaged DICOM: its header"),
]
