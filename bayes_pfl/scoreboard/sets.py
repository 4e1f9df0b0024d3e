"""From what the user names (trees, folders of categories, cards) to sets of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.datasets import EvaluationData, read_cards, read_trees

_CARDS = (".yaml", ".yml")


def read_sets(names: Sequence[str], root: Path | None = None) -> list[EvaluationData]:
    """Sets in the order named: a tree in MVTec's layout (one category, or several), a meta.json, a
    card's name or file.

    Args:
        root: folder below which the datasets of cards lie.

    Raises:
        DataError: a set that does not exist, cannot be read, or is given twice.
    """
    trees = [Path(name) for name in names if _is_tree(name)]
    cards = [name for name in names if not _is_tree(name)]
    lost = [name for name in cards if "/" in name and not name.endswith(_CARDS)]
    if lost:
        raise DataError(f"{lost[0]} does not exist; give a folder of categories, or a card")
    places = [path.resolve() for path in trees]
    if twice := [
        tree for tree, place in zip(trees, places, strict=True) if places.count(place) > 1
    ]:
        raise DataError(f"set {twice[0]} is given twice; name each once")
    from_trees = iter(read_trees(trees))
    from_cards = iter([read_cards([name], root)[0][0] for name in cards])
    found = [next(from_trees if _is_tree(name) else from_cards) for name in names]
    titles = [data.name for data in found]
    if alike := [title for title in titles if titles.count(title) > 1]:
        raise DataError(f"two sets are named {alike[0]!r}; rename one")
    return found


def _is_tree(name: str) -> bool:
    path = Path(name)
    return path.exists() and path.suffix.lower() not in _CARDS
