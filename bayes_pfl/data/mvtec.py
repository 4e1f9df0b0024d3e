"""Trees in MVTec's layout, the most common one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bayes_pfl.data.image_files import check_folder, images_in
from bayes_pfl.data.records import Sample, check_categories
from bayes_pfl.data.wording import prompt_word
from bayes_pfl.errors import DataError


def read_mvtec(
    root: str | Path,
    split: str = "test",
    class_names: Mapping[str, str] | None = None,
    dataset: str = "",
    categories: Sequence[str] | None = None,
) -> list[Sample]:
    """Read a tree in MVTec's layout; the pictures are not opened.

    `<category>/<split>/{good,<defect>}/<stem>.<ext>` with masks
    `<category>/ground_truth/<defect>/<stem>_mask.<ext>` or `<stem>.<ext>`. A root that is itself
    one category is read as that category.

    Args:
        class_names: prompt words by category; others get `prompt_word(category)`.
        categories: those to read, in this order; all, sorted by name, by default.

    Raises:
        DataError: the root is missing or holds no such tree, or lacks a category asked for.
    """
    root = Path(root)
    folders = _category_folders(root, split, categories)
    samples: list[Sample] = []
    for name, folder in folders.items():
        word = (class_names or {}).get(name, prompt_word(name))
        samples += _read_category(folder, name, word, split, dataset)
    if not samples:
        raise DataError(f"{root} has no images in <category>/{split}/good or /<defect>")
    return samples


def _category_folders(root: Path, split: str, wanted: Sequence[str] | None) -> dict[str, Path]:
    check_folder(root, "the folder that holds the categories")
    if (root / split).is_dir():
        found = {root.resolve().name: root}
    else:
        found = {p.name: p for p in sorted(root.iterdir()) if (p / split).is_dir()}
    if not found:
        raise DataError(f"{root} holds no category: expected <category>/{split}/good/<image>")
    check_categories(wanted or (), found, str(root))
    return {name: found[name] for name in wanted} if wanted else found


def _read_category(folder: Path, name: str, word: str, split: str, dataset: str) -> list[Sample]:
    samples = []
    for defect in sorted(p for p in (folder / split).iterdir() if p.is_dir()):
        label = int(defect.name != "good")
        truth = images_in(folder / "ground_truth" / defect.name) if label else []
        masks = {path.stem: path for path in truth}
        for image in images_in(defect):
            mask = masks.get(f"{image.stem}_mask") or masks.get(image.stem)
            samples.append(Sample(image, name, word, label, mask, defect.name, dataset))
    return samples
