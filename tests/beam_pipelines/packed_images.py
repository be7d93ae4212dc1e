"""Small PNGs, as folders, zips and tars that tests make of them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

SIDE_PX = 32


def picture(seed: int, side_px: int = 48) -> bytes:
    """Draw a grey PNG."""
    random = np.random.Generator(np.random.Philox(seed))
    return cv2.imencode(".png", random.integers(0, 256, (side_px, side_px), np.uint8))[1].tobytes()


def pictures(count: int, first: int = 0) -> dict[str, bytes]:
    """Draw images that are named as the NIH's."""
    return {f"{number:08d}_000.png": picture(number) for number in range(first, first + count)}


def nested(images: Mapping[str, bytes], folder: str = "images_001/images") -> dict[str, bytes]:
    """Put images below a folder of an archive."""
    return {f"{folder}/{name}": data for name, data in images.items()}


def write_zip(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Make a zip."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tar_bytes(members: Mapping[str, bytes], mode: str = "w:gz", **options: int) -> bytes:
    """Make a tar in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w:gz", **options: int) -> Path:
    """Make a tar, by its name's sort unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members, "w" if path.suffix == ".tar" else mode, **options))
    return path


def write_folder(folder: Path, members: Mapping[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, data in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
