"""Good files, small, for a search to start from; made, not kept."""

from __future__ import annotations

import io
import json
import re
import struct
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from bayes_pfl.config import ModelConfig, TrainConfig
from bayes_pfl.support.resources import resource_dir

CARD = """\
name: mine
title: "a & b"
categories: {nut: hex nut, bolt: {word: bolt, folders: [b], test: [1, 2]}}
layouts:
  - mvtec
  - name: table
    table: {file: list.csv, image: image, label: label, anomalous: ["yes", "1"], category: image}
  - name: patterns
    counts: {test: [1, 1]}
    test:
      - {images: "ok/*", label: normal, category: nut}
      - {images: ["{category}/{defect}/*"], label: mask exists, mask: "m/{stem}.*", exclude: "*x"}
"""
_WORDS = (
    "null",
    "true",
    "NaN",
    "1e999",
    "-1",
    '"": ',
    "[[",
    "{}",
    "../",
    "&a",
    "*a",
    "<<: *a",
    "!!",
)
_WORDS += ("? ", "- ", "|\n", "0x", "0b_", "1:2", "2001-99-99", "\\ud800", "\\u0000", "9" * 40)
META = {
    "train": {},
    "test": {
        "nut": [
            {"img_path": "a/b.png", "mask_path": "m.png", "cls_name": "n", "anomaly": 1},
            {"img_path": "c.png", "mask_path": "", "specie_name": "good", "anomaly": 0},
        ]
    },
}


def seeds(target: str) -> list[bytes]:
    """Starting points of a target."""
    return {
        "card": lambda: [CARD.encode(), *_cards(), b"a: &x [1]\nb: *x\n<<: {c: 0x1f}"],
        "meta": lambda: [json.dumps(META).encode()],
        "config": _configs,
        "image": _images,
        "safetensors": _tensors,
        "pickle": _pickles,
        "question": _questions,
        "tree": _trees,
        "run_line": _lines,
        "backbone": lambda: [b"\x80\x02}q\x00.", *_archives()],
    }[target]()


def _trees() -> list[bytes]:
    good = b"\1nut/test/good/0.png\n\1nut/test/bent/1.png\n\2nut/ground_truth/bent/1_mask.png\n"
    odd = b"\1.ipynb_checkpoints/test/bad/0.png\n\1nut/test/good/._0.png\n\4nut/test/Thumbs.db"
    return [good, good + odd, b"\1nut/test/Good /0.PNG\n\3nut/test/bent/1.jfif"]


def _lines() -> list[bytes]:
    lines = [
        (0, "tree", "--class-name", "nut", "--out", "o", "--threshold", "nan", "--seed", "9"),
        (1, "--data", "tree", "--out", "o", "--seeds", "0,1", "--samples", "2"),
        (2, "--data", "tree", "--out", "o", "--layers", "6,12", "--held-out", "0.5"),
        (3, "tree", "--out", "o", "--resamples", "0", "--samples", "0"),
        (4, "tree", "--class-name", "a|b", "--fpr", "0.05", "--device", "cuda:7"),
        (5, "tree", "--class-name", "nut|bolt"),
        (6, "tree"),
    ]
    return [bytes([first]) + "\0".join(rest).encode() for first, *rest in lines]


def _questions() -> list[bytes]:
    file = {"path": "/uploads/a.png", "url": "http://127.0.0.1/a.png", "meta": {}}
    asked = {"data": [[file], "nut", "0.5", "tiny", 3, ""], "fn_index": 0, "session_hash": "a"}
    return [
        json.dumps(asked).encode(),
        json.dumps(asked | {"data": [None, "", "", "", 0, "part"]}).encode(),
    ]


def _cards() -> list[bytes]:
    paths = sorted(resource_dir("datasets").glob("*.yaml"), key=lambda path: path.stat().st_size)
    return [path.read_bytes() for path in paths[:3]]


def _configs() -> list[bytes]:
    folder = resource_dir("checkpoints")
    files = sorted(folder.glob("*/*.json"))
    made = [{"format_version": 1, "model": asdict(ModelConfig())}, asdict(TrainConfig())]
    return [path.read_bytes() for path in files] + [json.dumps(item).encode() for item in made]


def _images() -> list[bytes]:
    picture = Image.fromarray(np.arange(108, dtype=np.uint8).reshape(6, 6, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = [_saved(picture, form) for form in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM")]
    found += [_saved(picture, "TIFF", compression=c) for c in ("raw", "tiff_lzw", "jpeg")]
    found += [_saved(picture.convert(mode), "PNG") for mode in ("1", "LA", "P", "RGBA")]
    found += [_saved(picture.convert(mode), "TIFF") for mode in ("F", "I", "CMYK")]
    found.append(_saved(picture, "JPEG", exif=exif))
    found.append(_saved(Image.fromarray(np.arange(9, dtype=np.uint16).reshape(3, 3)), "PNG"))
    return found


def _tensors() -> list[bytes]:
    whole = save({"a": torch.zeros(2, 3), "b": torch.ones(4).half()})
    (length,) = struct.unpack("<Q", whole[:8])
    return [whole, b"\x01" + whole[8 : 8 + length]]


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _archives() -> list[bytes]:
    buffer = io.BytesIO()
    torch.save({"visual.conv1.weight": torch.zeros(2, 2)}, buffer)
    return [buffer.getvalue()]


def _pickles() -> list[bytes]:
    import zipfile

    found = []
    for data in _archives():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
            found += [struct.pack("B", first) + archive.read(name) for first in (0, 1)]
    return found


def write_words(target: str, path: Path) -> Path | None:
    """The words of a text format, which chance alone would hardly write; None for others."""
    if target not in ("card", "meta", "config", "question", "tree", "run_line"):
        return None
    text = " ".join(data.decode("ascii", "ignore") for data in seeds(target))
    words = sorted(set(re.findall(r"[\w./{}*-]{2,40}", text)) | set(_WORDS))
    lines = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in words)
    path.write_text("".join(f'"{line}"\n' for line in lines), encoding="ascii")
    return path


def write_seeds(target: str, folder: Path) -> Path:
    """The starting points as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(target)):
        (folder / f"seed-{number:02d}").write_bytes(data)
    return folder
