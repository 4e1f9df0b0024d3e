"""Trees in MVTec's layout, which most users already have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bayes_pfl.data.images import IMAGE_SUFFIXES
from bayes_pfl.data.records import Sample
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
    words = class_names or {}
    samples = [
        sample
        for name, folder in folders.items()
        for sample in _read_category(folder, name, words.get(name, prompt_word(name)), split)
    ]
    if not samples:
        raise DataError(f"{root} has no images in <category>/{split}/good or /<defect>")
    return [replace(sample, dataset=dataset) for sample in samples]


def _category_folders(root: Path, split: str, wanted: Sequence[str] | None) -> dict[str, Path]:
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root} {state}; give the folder that holds the categories")
    if (root / split).is_dir():
        found = {root.resolve().name: root}
    else:
        found = {p.name: p for p in sorted(root.iterdir()) if (p / split).is_dir()}
    if not found:
        raise DataError(f"{root} holds no category: expected <category>/{split}/good/<image>")
    missing = [name for name in wanted or () if name not in found]
    if missing:
        raise DataError(f"{root} has no category {', '.join(missing)}; it has {', '.join(found)}")
    return {name: found[name] for name in wanted} if wanted else found


def _read_category(folder: Path, name: str, word: str, split: str) -> list[Sample]:
    samples = []
    for defect in sorted(p for p in (folder / split).iterdir() if p.is_dir()):
        label = int(defect.name != "good")
        masks = stems(folder / "ground_truth" / defect.name) if label else {}
        for image in images_in(defect):
            mask = masks.get(f"{image.stem}_mask") or masks.get(image.stem)
            samples.append(Sample(image, name, word, label, mask, defect.name))
    return samples


def images_in(folder: Path) -> list[Path]:
    """The visible image files right in a folder, sorted by name; none if there is no folder."""
    if not folder.is_dir():
        return []
    visible = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted(p for p in visible if p.suffix.lower() in IMAGE_SUFFIXES)


def stems(folder: Path) -> dict[str, Path]:
    """The image files right in a folder, by their name without extension."""
    return {path.stem: path for path in images_in(folder)}
