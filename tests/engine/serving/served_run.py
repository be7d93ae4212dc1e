"""A small ensemble with heat maps, judged by the real evaluation, and image files to send to it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import keras
import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset

from engine.evaluation import evaluate
from engine.evaluation.models import hash_file
from engine.input.reader import ShardReader
from engine.model import Preprocess, save_model
from records.labels import FINDINGS
from records.manifest import Manifest

SIDE_PX = 32
# Each of these words must never be seen outside the file.
SECRETS = ("Rossi", "Annamaria", "7781234")


def network(seed: int) -> keras.Model:
    """A convolution and a dense layer of set weights, whose logits differ from picture to picture."""
    images = keras.Input((SIDE_PX, SIDE_PX, 1), dtype="uint8")
    pixels = Preprocess(SIDE_PX, 128.0, 40.0, channels=1)(images)
    features = keras.layers.Conv2D(6, 3, strides=4, activation="relu", name="features")(pixels)
    logits = keras.layers.Dense(len(FINDINGS), name="logits")(keras.layers.Flatten()(features))
    made = keras.Model(images, logits)
    random = np.random.default_rng(seed)
    made.set_weights([random.normal(0, 0.2, weight.shape) for weight in made.get_weights()])
    return made


def make_ensemble(folder: Path, data_set: Manifest) -> Path:
    """Make an ensemble of two, and judge it."""
    members = []
    for name, seed in (("one", 4), ("two", 5)):
        path = folder / "members" / name / "best.keras"
        path.parent.mkdir(parents=True)
        save_model(network(seed), path)
        members.append({"name": name, "sha256": hash_file(path)})
    note = {"schema": 1, "rule": "logits", "weights": [0.25, 0.75], "members": members, "tta": None}
    (folder / "ensemble.json").write_text(json.dumps(note))
    known = {
        "state": "finished",
        "kind": "ensemble",
        "manifest": {"location": data_set.location, "sha256": data_set.sha256},
    }
    (folder / "run.json").write_text(json.dumps(known))
    evaluate.run(str(folder), draws=100)
    return folder


def grey(seed: int, side_px: int = 80) -> np.ndarray:
    """(side, side) uint8, like no other seed's."""
    noise = np.random.default_rng(seed).normal(0, 400, (side_px, side_px)).astype(np.float32)
    return np.clip(128 + cv2.GaussianBlur(noise, (0, 0), 4), 0, 255).astype(np.uint8)


def png(seed: int = 0) -> bytes:
    """The bytes of a PNG."""
    return cv2.imencode(".png", grey(seed))[1].tobytes()


def jpeg(seed: int = 0) -> bytes:
    """The bytes of a JPEG."""
    file = io.BytesIO()
    Image.fromarray(grey(seed)).save(file, "JPEG")
    return file.getvalue()


def dicom(seed: int = 0) -> bytes:
    """The bytes of a DICOM file of a patient, whose name and number are `SECRETS`."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2"
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientName, dataset.PatientID = "Rossi^Annamaria", "MRN-7781234"
    values = grey(seed)
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = values.tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def write_boxes(path: Path, data_set: Manifest) -> Path:
    """Write two boxes, each a quarter of the picture, for the first image of the test split."""
    with ShardReader(data_set, "test") as reader:
        (record,) = reader.records(np.array([0]))
    lines = ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    lines += [f"{record.image_id},{name},0,512,512,512" for name in ("Mass", "Infiltrate")]
    path.write_text("\n".join(lines) + "\n")
    return path
