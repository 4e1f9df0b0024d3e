"""Tiny trees in the layouts of the benchmarks and further sets as distributed, and meta.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Counts = dict[str, tuple[int, int]]

SIZE = (12, 10)


class Painter:
    """Writes pictures that all differ, and masks with a square in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.number = 0

    def image(self, path: str) -> None:
        self.number += 1
        values = np.random.default_rng(self.number).integers(0, 255, (*SIZE[::-1], 3))
        self._save(path, values.astype(np.uint8))

    def mask(self, path: str, marked: bool = True, value: int = 255) -> None:
        values = np.zeros(SIZE[::-1], np.uint8)
        values[2:6, 3:8] = value if marked else 0
        self._save(path, values)

    def _save(self, path: str, values: np.ndarray) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(file)


def mvtec(paint: Painter) -> Counts:
    for category in ("bottle", "metal_nut"):
        paint.image(f"{category}/train/good/000.png")
        paint.image(f"{category}/test/good/000.png")
        for defect in ("broken large", "bent"):
            paint.image(f"{category}/test/{defect}/000.png")
            paint.mask(f"{category}/ground_truth/{defect}/000_mask.png")
    return {"bottle": (1, 2), "metal_nut": (1, 2)}


def visa(paint: Painter) -> Counts:
    rows = ["object,split,label,image,mask"]
    for category in ("candle", "macaroni2", "chewinggum"):
        for k, split in enumerate(("train", "test", "test")):
            name = f"{category}/Data/Images/Normal/{k:04d}.JPG"
            paint.image(name)
            rows.append(f"{category},{split},normal,{name},")
        name, mask = (
            f"{category}/Data/Images/Anomaly/000.JPG",
            f"{category}/Data/Masks/Anomaly/000.png",
        )
        paint.image(name)
        paint.mask(mask, value=1)
        rows.append(f"{category},test,anomaly,{name},{mask}")
    (paint.root / "split_csv").mkdir()
    (paint.root / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    return {"candle": (2, 1), "chewinggum": (2, 1), "macaroni2": (2, 1)}


def btad(paint: Painter) -> Counts:
    for folder, image, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        paint.image(f"{folder}/train/ok/0000.{image}")
        paint.image(f"{folder}/test/ok/0001.{image}")
        paint.image(f"{folder}/test/ko/0001.{image}")
        paint.mask(f"{folder}/ground_truth/ko/0001.{mask}")
    return {"metal1": (1, 1), "wood": (1, 1), "metal2": (1, 1)}


def ksdd2(paint: Painter) -> Counts:
    for split in ("train", "test"):
        for number, marked in ((20000, False), (20001, True), (20002, False)):
            paint.image(f"{split}/{number}.png")
            paint.mask(f"{split}/{number}_GT.png", marked)
    paint.image("train/10301 (copy).png")
    paint.mask("train/10301_GT (copy).png")
    return {"metal": (2, 1)}


def rsdd(paint: Painter) -> Counts:
    for folder in ("pos", "neg"):
        for k in range(2):
            paint.image(f"{folder}/{k}.jpg")
            paint.mask(f"{folder}/{k}.png", folder == "pos")
    return {"metal": (2, 2)}


def dagm(paint: Painter) -> Counts:
    for folder in ("Class1", "Class8", "Class10"):
        for split in ("Train", "Test"):
            for number in ("0001", "0002", "0003"):
                paint.image(f"{folder}/{split}/{number}.PNG")
            paint.mask(f"{folder}/{split}/Label/0002_label.PNG")
    return {"Class1": (2, 1), "Class8": (2, 1), "Class10": (2, 1)}


def dtd_synthetic(paint: Painter) -> Counts:
    for folder in ("Blotchy_099", "Woven_127"):
        paint.image(f"{folder}/train/good/000.png")
        paint.image(f"{folder}/test/good/000.png")
        paint.image(f"{folder}/test/bad/000.png")
        paint.mask(f"{folder}/ground_truth/bad/000_mask.png")
    return {"blotchy": (1, 1), "Woven_127": (1, 1)}


def headct(paint: Painter) -> Counts:
    rows = ["id, hemorrhage"]
    for number in range(5):
        paint.image(f"head_ct/{number:03d}.png")
        rows.append(f"{number},{int(number < 2)}")
    (paint.root / "labels.csv").write_text("\n".join(rows) + "\n")
    return {"head_ct": (3, 2)}


def brain(paint: Painter) -> Counts:
    for name in ("yes/Y1.jpg", "yes/Y2.JPG", "no/1 no.jpeg", "no/2.png", "no/N3.JPG"):
        paint.image(name)
    return {"brain": (3, 2)}


def isic(paint: Painter) -> Counts:
    for number in (3, 4):
        paint.image(f"ISBI2016_ISIC_Part1_Test_Data/ISIC_000000{number}.jpg")
        paint.mask(f"ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_000000{number}_Segmentation.png")
    return {"skin": (0, 2)}


def colon(images: str, masks: str, image_type: str, mask_type: str) -> Callable[[Painter], Counts]:
    def build(paint: Painter) -> Counts:
        for k in range(1, 4):
            paint.image(f"{images}/{k}.{image_type}")
            paint.mask(f"{masks}/{k}.{mask_type}")
        return {"colon": (0, 3)}

    return build


def mpdd(paint: Painter) -> Counts:
    for category in ("bracket_black", "tubes"):
        paint.image(f"{category}/train/good/000.png")
        paint.image(f"{category}/test/good/000.png")
        paint.image(f"{category}/test/anomalous/001.png")
        paint.mask(f"{category}/ground_truth/anomalous/001_mask.png")
    return {"bracket_black": (1, 1), "tubes": (1, 1)}


def mvtec_loco(paint: Painter) -> Counts:
    for split in ("train", "validation", "test"):
        paint.image(f"pushpins/{split}/good/000.png")
    for defect in ("logical_anomalies", "structural_anomalies"):
        paint.image(f"pushpins/test/{defect}/000.png")
        paint.mask(f"pushpins/ground_truth/{defect}/000/000.png")
    return {"pushpins": (1, 2)}


def mvtec_ad_2(paint: Painter) -> Counts:
    for folder in ("train", "validation", "test_public"):
        paint.image(f"sheet_metal/{folder}/good/000_regular.png")
    paint.image("sheet_metal/test_public/bad/001_regular.png")
    paint.mask("sheet_metal/test_public/ground_truth/bad/001_regular_mask.png")
    paint.image("sheet_metal/test_private/000_regular.png")
    return {"sheet_metal": (1, 1)}


def real_iad(paint: Painter) -> Counts:
    for category in ("pcb", "vcpill"):
        paint.image(f"{category}/OK/S0001/{category}_0001_OK_C1.jpg")
        paint.image(f"{category}/NG/QS/S0002/{category}_0002_NG_C1.jpg")
        paint.mask(f"{category}/NG/QS/S0002/{category}_0002_NG_C1.png")
        paint.image(
            f"{category}/NG/QS/S0002/{category}_0002_NG_C2.jpg"
        )  # the defect is out of view
    return {"pcb": (2, 1), "vcpill": (2, 1)}


def tn3k(paint: Painter) -> Counts:
    for split, count in (("trainval", 1), ("test", 2)):
        for k in range(count):
            paint.image(f"{split}-image/{k:04d}.jpg")
            paint.mask(f"{split}-mask/{k:04d}.jpg")
    return {"thyroid": (0, 2)}


BUILDERS: dict[str, Callable[[Painter], Counts]] = {
    "mvtec": mvtec,
    "visa": visa,
    "btad": btad,
    "ksdd2": ksdd2,
    "rsdd": rsdd,
    "dagm": dagm,
    "dtd_synthetic": dtd_synthetic,
    "headct": headct,
    "brainmri": brain,
    "br35h": brain,
    "isic": isic,
    "colondb": colon("images", "masks", "png", "png"),
    "clinicdb": colon("Original", "Ground Truth", "tif", "tif"),
    "endo": colon("images", "masks", "jpg", "png"),
    "kvasir": colon("images", "masks", "jpg", "jpg"),
}

FURTHER: dict[str, Callable[[Painter], Counts]] = {
    "mpdd": mpdd,
    "mvtec_loco": mvtec_loco,
    "mvtec_ad_2": mvtec_ad_2,
    "real_iad": real_iad,
    "tn3k": tn3k,
}

WORDS = {
    "mvtec": {"bottle": "bottle", "metal_nut": "metal nut"},
    "visa": {"candle": "candle", "macaroni2": "macaroni", "chewinggum": "chewing gum"},
    "btad": {"metal1": "metal1", "wood": "wood", "metal2": "metal2"},
    "ksdd2": {"metal": "metal"},
    "rsdd": {"metal": "metal"},
    "dagm": {"Class1": "fabric", "Class8": "fabric", "Class10": "fabric"},
    "dtd_synthetic": {"blotchy": "blotchy", "Woven_127": "woven"},
    "headct": {"head_ct": "head ct"},
    "brainmri": {"brain": "brain"},
    "br35h": {"brain": "brain"},
    "isic": {"skin": "skin"},
    "colondb": {"colon": "colon"},
    "clinicdb": {"colon": "colon"},
    "endo": {"colon": "colon"},
    "kvasir": {"colon": "colon"},
    "mpdd": {"bracket_black": "bracket black", "tubes": "tubes"},
    "mvtec_loco": {"pushpins": "pushpins"},
    "mvtec_ad_2": {"sheet_metal": "sheet metal"},
    "real_iad": {"pcb": "printed circuit board", "vcpill": "pill"},
    "tn3k": {"thyroid": "thyroid"},
}

# The words of the published run, where they are others.
AUTHORS_WORDS = {
    ("dagm", "Class1"): "fabric1",
    ("dagm", "Class8"): "fabric8",
    ("dagm", "Class10"): "fabric10",
    ("dtd_synthetic", "Woven_127"): "woven5",
    ("rsdd", "metal"): "metal15",
    ("brainmri", "brain"): "brain ct",
}


def write_meta(paint: Painter, file: Path, counts: Counts, image_level: bool) -> None:
    """Pictures below the file's folder, and the standardised file that names them."""
    test: dict[str, list[dict[str, object]]] = {}
    for category, (normal, anomalous) in counts.items():
        items = test.setdefault(category, [])
        for k in range(normal + anomalous):
            bad = int(k >= normal)
            name = f"{paint.root.name}/{category}/{'bad' if bad else 'good'}/{k}"
            paint.image(f"{category}/{'bad' if bad else 'good'}/{k}.png")
            if bad and not image_level:
                paint.mask(f"{category}/bad/{k}_m.png")
            items.append(
                {
                    "img_path": str(Path(f"{name}.png")),
                    "mask_path": f"{name}_m.png" if bad else "",
                    "cls_name": category,
                    "specie_name": "bad" if bad else "good",
                    "anomaly": bad,
                }
            )
    empty = {"img_path": "", "mask_path": "", "cls_name": "", "specie_name": "", "anomaly": 0}
    train = {category: [empty] for category in counts}
    below = file.parent == paint.root
    text = json.dumps({"train": train, "test": test})
    file.write_text(text.replace(f'"{paint.root.name}/', '"') if below else text)
