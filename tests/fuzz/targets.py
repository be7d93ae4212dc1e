"""What is fuzzed: each target reads any bytes and may raise nothing but our own errors.

The suite feeds a target for a second, `run.py` for as long as one likes; both begin with valid inputs of its
kind.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from beam_pipelines import archive_list, tars, zips
from engine import config
from engine.evaluation import predictions
from engine.input import decode
from engine.prediction import pictures
from records import example, exclusions, index, manifest, picture, pixels, table, tfrecord
from records.errors import CxrError
from records.labels import FINDINGS

_ROOT = Path(__file__).parents[2]
SIDE_PX = 32


@dataclass(frozen=True)
class Target:
    """One reader of foreign bytes.

    Attributes:
        read: called with the bytes and a scratch file's path; raises a CxrError where they are no good.
        seeds: valid inputs.
    """

    read: Callable[[bytes, Path], object]
    seeds: list[bytes]


def run(target: Target, data: bytes, scratch: Path) -> bool:
    """Feed a target; tell whether it took the bytes.

    Raises:
        Exception: that is none of ours: a fault that was found.
    """
    try:
        target.read(data, scratch)
    except CxrError as error:
        text = str(error)
        if not text or not text.isprintable():
            raise AssertionError(f"an error that is no line: {text!r}") from error
        return False
    return True


def _by_path(read: Callable[[str], object]) -> Callable[[bytes, Path], object]:
    """Return a target of a reader that takes a path."""

    def target(data: bytes, scratch: Path) -> object:
        scratch.write_bytes(data)
        return read(str(scratch))

    return target


def _image(seed: int = 1) -> np.ndarray:
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (6, 6), np.uint8), (40, 40))


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _record(encoding: str = "raw") -> bytes:
    image = _image()[:SIDE_PX, :SIDE_PX]
    return example.encode(
        example.Record(
            image=picture.encode(image, channels=1, encoding=encoding, jpeg_quality=90),
            encoding=encoding,
            shape=(SIDE_PX, SIDE_PX, 1),
            image_id="00000001_000.png",
            patient_id=1,
            labels=np.arange(len(FINDINGS), dtype=np.uint8) % 2,
            view="PA",
            sex="F",
            age_years=50.0,
            follow_up=0,
        )
    )


def _read_shard(data: bytes, _: Path) -> None:
    frames = list(tfrecord.read(io.BytesIO(data), "shard"))
    index.of_frames(frames, 0)
    for frame in frames:
        _read_record(frame.payload, _)


def _read_record(data: bytes, _: Path) -> None:
    with contextlib.suppress(CxrError):
        example.locate(data)
    picture.decode(example.decode(data))


def _dicom(syntax: uid.UID = uid.ExplicitVRLittleEndian, **changes: Any) -> bytes:
    dataset = Dataset()
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.Rows = dataset.Columns = 40
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.WindowCenter, dataset.WindowWidth = "100", "200"
    dataset.PixelData = _image().tobytes()
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def _table(ages: tuple[str, str]) -> bytes:
    rows = [f"0000000{number}_000.png,Mass|Edema,0,{number},{age},F,PA" for number, age in enumerate(ages)]
    return "\n".join([",".join(table.COLUMNS), *rows, ""]).encode()


def _listed(path: str) -> None:
    for found in zips.list_images(path):
        with contextlib.suppress(CxrError):
            zips.read_image(found.location)


def _tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("a/00000001_000.png", "b" * 120 + ".png"):
            header = tarfile.TarInfo(name)
            header.size = 40
            archive.addfile(header, io.BytesIO(bytes(40)))
    return buffer.getvalue()


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/00000001_000.png", bytes(300))
    return buffer.getvalue()


def _read_manifest(path: str) -> None:
    # By a name that ends otherwise a folder is meant.
    target = Path(path).replace(f"{path}.json")
    made = manifest.load(str(target))
    target.write_bytes(made.to_json())
    if manifest.load(str(target)) != made:
        raise AssertionError("a manifest that isn't read back as itself")


def _predictions() -> bytes:
    logits = np.linspace(-2, 2, 2 * len(FINDINGS)).reshape(2, -1)
    return predictions.to_csv(
        predictions.Predictions(
            image_ids=np.array(["a", "b"]),
            patient_ids=np.arange(2),
            logits=logits,
            labels=(logits > 0).astype(np.uint8),
            sex=np.array(["F", ""]),
            view=np.array(["PA", ""]),
            age_years=np.array([50.0, np.nan]),
            follow_up=np.arange(2),
        ),
        "model",
    )


def _read_exclusions(path: str) -> None:
    scratch = Path(f"{path}.csv")
    scratch.write_bytes(_table(("50", "60")))
    exclusions.read_exclusions(path, table.read_table(str(scratch)))


_jpeg = cv2.imencode(".jpg", _image())[1].tobytes()
_rows = index.to_bytes(index.of_frames([tfrecord.Frame(12, _record())], 0))
_deep = _image().astype(np.uint16) * 257

TARGETS: dict[str, Target] = {
    "png": Target(
        lambda data, _: pixels.reduce_checked(pixels.decode_grey(data), SIDE_PX),
        [_png(_image()), _png(cv2.cvtColor(_image(), cv2.COLOR_GRAY2BGRA)), _png(_deep)],
    ),
    "upload": Target(lambda data, _: pictures.read_picture(data, SIDE_PX), [_jpeg, _png(_image())]),
    "dicom": Target(
        lambda data, _: pictures.read_picture(data, SIDE_PX),
        [_dicom(), _dicom(uid.ImplicitVRLittleEndian), _dicom(uid.DeflatedExplicitVRLittleEndian)],
    ),
    "picture": Target(
        lambda data, _: decode.into(np.frombuffer(data, np.uint8), np.empty((40, 40, 1), np.uint8)),
        [_png(_image()), _jpeg],
    ),
    "shard": Target(_read_shard, [tfrecord.frame(_record()) * 2, b""]),
    "record": Target(_read_record, [_record(), _record("png"), _record("jpeg")]),
    "index": Target(lambda data, _: index.from_bytes(data, "index"), [_rows]),
    "manifest": Target(
        _by_path(_read_manifest), [(_ROOT / "tests" / "records" / "golden" / "manifest.json").read_bytes()]
    ),
    "table": Target(_by_path(table.read_table), [_table(("50", "60")), _table(("050Y", "011M"))]),
    "boxes": Target(
        _by_path(table.read_boxes),
        [b"Image Index,Finding Label,Bbox [x,y,w,h],,,\n0.png,Mass,1,2,3,4\n0.png,Infiltrate,1.5,2,3,4\n"],
    ),
    "list": Target(_by_path(table.read_list), [b"a.png\nb.png\n"]),
    "exclusions": Target(
        _by_path(_read_exclusions), [b"Index,Rotated\n00000001_000.png,1\n", b"00000001_000.png\n"]
    ),
    "archives": Target(
        _by_path(lambda path: archive_list.read_archives(Path(path))),
        [b"archive,name,url,size_bytes,md5\n1,x.tar.gz,http://h/x,10," + b"0" * 32 + b"\n"],
    ),
    "predictions": Target(_by_path(predictions.read), [_predictions()]),
    "config": Target(_by_path(config.load), [(_ROOT / "configs" / "demo.yaml").read_bytes()]),
    "override": Target(
        lambda data, _: config.load(
            str(_ROOT / "configs" / "demo.yaml"), [data.decode(errors="surrogateescape")]
        ),
        [b"train.epochs=3", b"loss={name: bce}", b"input.oversampled_findings=[Hernia]"],
    ),
    "tar": Target(_by_path(lambda path: list(tars.read_images(path))), [_tarred()]),
    "zip": Target(_by_path(_listed), [_zipped()]),
}
