"""DICOM files for tests, written through pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_dicom(
    path: Path,
    values: np.ndarray | None,
    *,
    syntax: str = ExplicitVRLittleEndian,
    **elements: Any,
) -> Path:
    """A file of grey (H, W), colour (H, W, 3) or frames (N, H, W); without pixels for None.

    Args:
        elements: further elements by keyword, such as WindowCenter; those below are replaced.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = UID(syntax)
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    if values is not None:
        colour = values.ndim == 3 and values.shape[2] == 3
        bits = 8 * values.dtype.itemsize
        made.Rows, made.Columns = values.shape[:2] if colour else values.shape[-2:]
        made.SamplesPerPixel = 3 if colour else 1
        made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = bits
        made.HighBit = bits - 1
        made.PixelRepresentation = int(values.dtype.kind == "i")
        if colour:
            made.PlanarConfiguration = 0
        if values.ndim == 3 and not colour:
            made.NumberOfFrames = len(values)
        made.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
        made["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in elements.items():
        setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    return path
