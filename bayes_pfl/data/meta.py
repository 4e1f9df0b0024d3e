"""Reads the field's standardised meta.json, which is not trusted: no path leaves its folder."""

from __future__ import annotations

import os
import warnings
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from bayes_pfl.data.image_files import LEFT_OUT, is_leftover, remark
from bayes_pfl.data.records import DatasetWarning, Sample
from bayes_pfl.data.wording import published_word
from bayes_pfl.errors import DataError, NoSplitError
from bayes_pfl.support.parsing import MAX_LISTING, Malformed, read_json, short

_SHOWN = 3


def read_meta(meta_json: str | Path, split: str = "test", dataset: str = "") -> list[Sample]:
    """Read a standardised meta.json; paths in it are relative to its folder, and stay inside.

    `{"train": {category: [item]}, "test": {category: [item]}}`, item = {"img_path", "mask_path",
    "cls_name", "specie_name", "anomaly"}. Placeholders (img_path "") are skipped; a mask that does
    not exist becomes None, because image-level sets list such masks. Pictures are not opened.
    The prompt word is the item's "cls_name", as in the published run: see `published_word`. Items
    that name leftovers of other programs are left out, with a DatasetWarning.

    Args:
        dataset: the name of the set; an item's own "dataset_name" comes first.

    Raises:
        NoSplitError: the split is not in it.
        DataError: not such a JSON, or paths that leave the folder; all faults together.
    """
    path = Path(meta_json)
    root = path.parent
    categories = _load(path, split)
    samples: list[Sample] = []
    faults: list[str] = []
    for name, items in categories.items():
        for index, item in enumerate(_item_list(name, items, faults)):
            try:
                sample = _sample(root, name, item, dataset)
            except DataError as error:
                faults.append(f"{split}/{name}[{index}]: {error}")
            else:
                samples += [sample] if sample else []
    if faults:
        more = f" (and {len(faults) - _SHOWN} more)" if len(faults) > _SHOWN else ""
        raise DataError(f"{path}: {'; '.join(faults[:_SHOWN])}{more}")
    kept: list[Sample] = []
    left: list[Path] = []
    for sample in samples:
        if any(map(is_leftover, sample.path.relative_to(root).parts)):
            left.append(sample.path)
        else:
            kept.append(sample)
    for line in remark(LEFT_OUT, left, root):
        warnings.warn(line, DatasetWarning, stacklevel=2)
    return kept


def confined(root: Path, relative: object) -> Path:
    """Join a path read from a file to its root, and refuse one that would leave it.

    Raises:
        DataError: not a text, an absolute path, or one that leaves the root by ".." or by a link.
    """
    if not isinstance(relative, str) or not _is_path_text(relative):
        raise DataError(f"path {short(relative)} is not a file name")
    inner = relative.replace("\\", "/")  # some published files were written on Windows
    if PurePosixPath(inner).is_absolute() or PureWindowsPath(relative).drive:
        raise DataError(f"path {short(relative)} is absolute; only paths below {root} are read")
    path = root / inner
    real, real_root = os.path.realpath(path), os.path.realpath(root)
    if os.path.commonpath([real, real_root]) != real_root or real == real_root:
        raise DataError(f"path {short(relative)} leaves {root}; only paths below it are read")
    return path


def _is_path_text(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return bool(text) and all(character >= " " for character in text)


def safe_name(name: object, what: str) -> str:
    """A name that can be a folder of the results: text, in one line, without separators.

    Raises:
        DataError: anything else.
    """
    if isinstance(name, str) and name.isprintable() and not set(name) & set('/\\:*?"<>|'):
        text = name.strip()
        if 0 < len(text) <= 100 and text not in (".", ".."):
            return name
    raise DataError(f"{what} {short(name)} cannot be a name; give 1 to 100 plain characters")


def _load(path: Path, split: str) -> dict[str, Any]:
    try:
        content = read_json(path, MAX_LISTING)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except Malformed as error:
        raise DataError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get(split), dict):
        has = short(list(content) if isinstance(content, dict) else content)
        kind = NoSplitError if isinstance(content, dict) and split not in content else DataError
        raise kind(f'{path} must hold {{"{split}": {{category: [item]}}}}; it holds {has}')
    return content[split]


def _item_list(name: object, items: object, faults: list[str]) -> list[Any]:
    try:
        safe_name(name, "category")
    except DataError as error:
        faults.append(str(error))
        return []
    if not isinstance(items, list):
        faults.append(f"{name}: a list of items is wanted, not {short(items)}")
        return []
    return items


def _sample(root: Path, category: str, item: object, dataset: str) -> Sample | None:
    if not isinstance(item, dict):
        raise DataError(f"an item is an object with img_path and anomaly, not {short(item)}")
    if item.get("img_path") == "":
        return None
    label = item.get("anomaly")
    if isinstance(label, float) or label not in (0, 1):
        raise DataError(f"anomaly is {short(label)}; allowed are 0 and 1")
    image = confined(root, item.get("img_path"))
    named = item.get("mask_path") or None
    mask = confined(root, named) if named is not None else None
    mask = mask if mask is not None and label and os.path.isfile(mask) else None
    word = published_word(safe_name(item.get("cls_name") or category, "cls_name"))
    default = "anomaly" if label else "good"
    defect = safe_name(item.get("specie_name") or default, "specie_name")
    name = item.get("dataset_name") or dataset
    name = safe_name(name, "dataset_name") if name else ""
    return Sample(image, category, word, int(label), mask, defect, name)
