"""Writes a dataset for other tools: as a tree in MVTec's layout, or as a standardised meta.json."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from bayes_pfl.data.images import TURN, read_image
from bayes_pfl.data.meta import confined, safe_name
from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import mask_and_doubts
from bayes_pfl.errors import DataError
from bayes_pfl.support.files import raising_not_written, write_atomically

Splits = Mapping[str, Sequence[Sample]]
"""Samples by split: "train", "test"."""

_UPRIGHT = Image.Exif()  # masks lie as the picture does after its EXIF has turned it
_UPRIGHT[ExifTags.Base.Orientation] = 1


def export_mvtec(splits: Splits, out: str | Path) -> Path:
    """Copy a dataset into a new tree in MVTec's layout; masks become PNG files of 0 and 255.

    Files of the same name, from different folders of the source, get a number.

    Raises:
        DataError: the folder is not empty or cannot be written, or a file cannot be read.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; give a new one")
    taken: set[tuple[Path, str]] = set()
    for split, samples in splits.items():
        for sample in samples:
            try:
                _copy(sample, split, out, taken)
            except OSError as error:
                raise DataError(
                    f"{error.filename or sample.path} cannot be copied to {out}: {error.strerror}"
                ) from error
    return out


def export_meta(splits: Splits, file: str | Path) -> Path:
    """Write the standardised meta.json of a dataset; the images stay where they are, below it.

    Raises:
        DataError: an image is not below the file's folder, or the file exists or cannot be written.
    """
    file = Path(file)
    if file.exists():
        raise DataError(f"{file} exists; move it away, or give another name")
    content: dict[str, dict[str, list[dict[str, Any]]]] = {"train": {}, "test": {}}
    for split, samples in splits.items():
        for sample in samples:
            items = content[split].setdefault(sample.category, [])
            items.append(_item(sample, file.parent))
    with raising_not_written(file, "choose another file, on a disk with room", DataError):
        return write_atomically(file, json.dumps(content, indent=1))


def _copy(sample: Sample, split: str, out: Path, taken: set[tuple[Path, str]]) -> None:
    defect = safe_name(sample.defect if sample.label else "good", "defect")
    defect = "anomaly" if sample.label and defect == "good" else defect
    category = out / safe_name(sample.category, "category")
    folder = category / split / defect
    stem, number = sample.path.stem, 2
    while (folder, stem) in taken:
        stem, number = f"{sample.path.stem}_{number}", number + 1
    taken.add((folder, stem))
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sample.path, folder / f"{stem}{sample.path.suffix}")
    if sample.mask is not None:
        masks = category / "ground_truth" / defect
        masks.mkdir(parents=True, exist_ok=True)
        image = read_image(sample.path)
        pixels = mask_and_doubts(sample, image)[0].astype(np.uint8) * 255
        upright = _UPRIGHT if TURN in image.info else None
        Image.fromarray(pixels).save(masks / f"{stem}_mask.png", exif=upright)


def _item(sample: Sample, folder: Path) -> dict[str, Any]:
    return {
        "img_path": _relative(sample.path, folder),
        "mask_path": _relative(sample.mask, folder) if sample.mask else "",
        "cls_name": sample.class_name,
        "specie_name": sample.defect,
        "anomaly": sample.label,
        "dataset_name": sample.dataset,
    }


def _relative(path: Path, folder: Path) -> str:
    inner = Path(os.path.relpath(os.path.abspath(path), os.path.abspath(folder))).as_posix()
    try:
        confined(folder, inner)
    except DataError as error:
        raise DataError(
            f"{path} does not lie below {folder}; write the file into the folder of the dataset"
        ) from error
    return inner
