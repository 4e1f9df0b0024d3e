"""From the path that a user gives (MVTec's layout or a meta.json) to samples; held-out ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from bayes_pfl.data.image_files import check_folder, images_in
from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.records import Sample
from bayes_pfl.data.wording import prompt_word
from bayes_pfl.errors import DataError


def read_source(path: Path, split: str = "test", dataset: str = "") -> list[Sample]:
    """Samples of an MVTec-style tree, or of a standardised meta.json (or its folder).

    Raises:
        DataError: there is neither, or it has no images.
    """
    if path.is_file():
        samples = read_meta(path, split, dataset or path.parent.name)
    elif (path / "meta.json").is_file():
        samples = read_meta(path / "meta.json", split, dataset or path.name)
    else:
        samples = read_mvtec(path, split, dataset or path.name)
    if not samples:
        raise DataError(f"{path}: no images in split {split!r}; see docs/datasets.md for layouts")
    return samples


def read_mvtec(root: str | Path, split: str = "test", dataset: str = "") -> list[Sample]:
    """Read a tree in MVTec's layout, the most common one; the pictures are not opened.

    `<category>/<split>/{good,<defect>}/<stem>.<ext>` with masks
    `<category>/ground_truth/<defect>/<stem>_mask.<ext>` or `<stem>.<ext>`. A root that is itself
    one category is read as that category.

    Raises:
        DataError: the root is missing or holds no such tree.
    """
    root = Path(root)
    check_folder(root, "the folder that holds the categories")
    if (root / split).is_dir():
        folders = {root.resolve().name: root}
    else:
        folders = {p.name: p for p in sorted(root.iterdir()) if (p / split).is_dir()}
    if not folders:
        raise DataError(f"{root} holds no category: expected <category>/{split}/good/<image>")
    samples = [x for name in folders for x in _read_category(folders[name], name, split, dataset)]
    if not samples:
        raise DataError(f"{root} has no images in <category>/{split}/good or /<defect>")
    return samples


def _read_category(folder: Path, name: str, split: str, dataset: str) -> list[Sample]:
    samples = []
    for defect in sorted(p for p in (folder / split).iterdir() if p.is_dir()):
        label = int(defect.name != "good")
        truth = images_in(folder / "ground_truth" / defect.name) if label else []
        masks = {path.stem: path for path in truth}
        for image in images_in(defect):
            mask = masks.get(f"{image.stem}_mask") or masks.get(image.stem)
            word = prompt_word(name)
            samples.append(Sample(image, name, word, label, mask, defect.name, dataset))
    return samples


def hold_out(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Split by prompt word: (samples to train on, samples to validate on).

    Categories of one word, such as macaroni1 and macaroni2, are nearly the same thing: they stay
    on one side.

    Args:
        fraction: of the words that are held out, in (0, 1).

    Raises:
        DataError: fewer than two words, or a fraction that leaves a side empty.
    """
    first = {
        s.class_name: s.category for s in sorted(samples, key=lambda s: s.category, reverse=True)
    }
    names = sorted(first, key=lambda name: first[name])
    count = max(1, round(fraction * len(names)))
    if len(names) < 2 or not 0 < fraction < 1 or count >= len(names):
        raise DataError(
            f"cannot hold out {fraction:g} of {len(names)} class names ({', '.join(names[:5])}): "
            "two at least are needed; name others with --validation-data"
        )
    held = set(random.Random(seed).sample(names, count))
    kept = [sample for sample in samples if sample.class_name not in held]
    return kept, [sample for sample in samples if sample.class_name in held]
