"""DICOM files made from arrays, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def make_dicom(pixels: np.ndarray, **attributes: Any) -> Dataset:
    """An uncompressed data set: (H, W) gray, (H, W, 3) colour, or either with frames in front where
    NumberOfFrames is given; `attributes` by keyword, over the defaults."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID
    made.StudyInstanceUID = generate_uid()
    made.PatientID = "MRN-77120431"
    made.PatientName = "Featherstone^Wilhelmina"
    made.PatientBirthDate = "19510203"
    shape = pixels.shape[1:] if "NumberOfFrames" in attributes else pixels.shape
    made.Rows, made.Columns = shape[:2]
    made.SamplesPerPixel = 3 if len(shape) == 3 else 1
    made.PhotometricInterpretation = "RGB" if len(shape) == 3 else "MONOCHROME2"
    if len(shape) == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    made.HighBit = made.BitsStored - 1
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    made["PixelData"].VR = "OB" if made.BitsAllocated == 8 else "OW"
    return made


def save_dicom(path: Path, pixels: np.ndarray, **attributes: Any) -> Path:
    """`make_dicom` written to a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_dicom(pixels, **attributes).save_as(path, enforce_file_format=True)
    return path
