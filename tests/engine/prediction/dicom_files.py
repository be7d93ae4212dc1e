"""Writes DICOM files for tests: one grey picture in any encoding, with a whole patient around it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom import config, uid
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

# Each of these words must never be seen outside the file.
PATIENT = {
    "PatientName": "Rossi^Annamaria",
    "PatientID": "MRN-7781234",
    "PatientBirthDate": "19470302",
    "PatientAddress": "Via Garibaldi 12",
    "InstitutionName": "Ospedale Sant Orsola",
    "ReferringPhysicianName": "Bianchi^Carlo",
    "StudyDescription": "Torace Annamaria",
    "StudyDate": "20190817",
    "AccessionNumber": "ACC-55512",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.4242",
}
SECRETS = (
    *("Rossi", "Annamaria", "7781234", "19470302", "Garibaldi", "Orsola", "Bianchi"),
    *("20190817", "55512", "3680043.8.498"),
)


def data_set(stored: np.ndarray, *, bits: int | None = None, **elements: Any) -> Dataset:
    """(rows, columns) of integers -> MONOCHROME2 data set with a patient, before any encoding."""
    allocated = 8 * stored.dtype.itemsize
    dataset = Dataset()
    for keyword, value in PATIENT.items():
        setattr(dataset, keyword, value)
    dataset.SOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.4242.1"
    dataset.Modality = "CR"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored = allocated, bits or allocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(stored).tobytes()
    for keyword, value in elements.items():
        dataset.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=config.IGNORE))
    return dataset


def saved(dataset: Dataset, syntax: uid.UID = uid.ExplicitVRLittleEndian) -> bytes:
    """Return the file's bytes."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if dataset.get("BitsAllocated") == 8 or syntax.is_compressed else "OW"
        dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def file(stored: np.ndarray, syntax: uid.UID = uid.ExplicitVRLittleEndian, **options: Any) -> bytes:
    """Return a file of one uncompressed picture; `options` are `data_set`'s."""
    return saved(data_set(stored, **options), syntax)


def compressed(dataset: Dataset, frame: bytes, syntax: uid.UID) -> bytes:
    """Return a file whose picture is this compressed frame, whatever the data set says."""
    dataset.PixelData = encapsulate([frame])
    return saved(dataset, syntax)


def packed(stored: np.ndarray, format_name: str, **options: Any) -> bytes:
    """(rows, columns) uint8 or uint16 -> JPEG or JPEG2000 codestream by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, format_name, **options)
    return buffer.getvalue()


def look_up_table(entries: np.ndarray, first: int, bits: int) -> Dataset:
    """Return an item of a LUT sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item
