"""What an evaluation reads: trees, meta.json files and dataset cards, all as lists of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bayes_pfl.data.card_schema import LEVELS, Card
from bayes_pfl.data.cards import card_names, load_card, locate
from bayes_pfl.data.records import Sample, select_categories
from bayes_pfl.data.sources import read_source
from bayes_pfl.errors import ConfigError, DataError, NoSplitError
from bayes_pfl.evaluate.records import Skipped

ALL = "all"
_CARDS = (".yaml", ".yml")


def _nothing() -> list[Sample]:
    return []


@dataclass(frozen=True)
class EvaluationData:
    """One dataset to evaluate on.

    Attributes:
        domain: "industrial", "medical" or "other": its part of the table.
        levels: results it is meant for, of "image" and "pixel".
        notes: where it differs from its card, one line each.
        train: reads its train split; nothing where there is none, DataError where it cannot be
            read.
    """

    name: str
    samples: tuple[Sample, ...]
    domain: str = "other"
    levels: tuple[str, ...] = LEVELS
    notes: tuple[str, ...] = ()
    train: Callable[[], list[Sample]] = field(default=_nothing, repr=False, compare=False)

    def only(self, categories: Sequence[str]) -> EvaluationData:
        """The same with these categories alone; DataError for one that is not there."""
        return replace(self, samples=tuple(select_categories(self.samples, categories)))


def read_trees(sources: Sequence[Path]) -> list[EvaluationData]:
    """MVTec-style trees and meta.json files by folder name; equal ones get their parent's before.

    A source without any mask is meant for image-level results.

    Raises:
        DataError: one that cannot be read, or given twice.
    """
    datasets: dict[str, EvaluationData] = {}
    places = [source.resolve() for source in sources]
    for source, root in zip(sources, places, strict=True):
        if places.count(root) > 1:
            raise DataError(f"{source} is given twice; name each once")
        root = root.parent if root.is_file() else root
        name = root.name if root.name not in datasets else f"{root.parent.name}/{root.name}"
        if name in datasets:
            raise DataError(f"{source}: given twice, or named like another; rename its folder")
        samples = tuple(read_source(source, dataset=name))
        masked = any(s.mask for s in samples) or not any(s.label for s in samples)
        levels = LEVELS if masked else LEVELS[:1]
        train = partial(_or_nothing, partial(read_source, source, "train", name))
        datasets[name] = EvaluationData(name, samples, levels=levels, train=train)
    return list(datasets.values())


def read_cards(
    wanted: Sequence[str], root: Path | None, form: str = "auto"
) -> tuple[list[EvaluationData], list[Skipped]]:
    """Datasets by card name, card file, or "all" for every benchmark found below the root.

    Returns:
        Datasets in the order asked for (all: industrial first), each once; and those that "all"
        found but that cannot be read. Ones that were asked for by name raise instead.

    Raises:
        ConfigError: "all" without a root.
        DataError: an unknown card, nothing found, two cards of one name.
    """
    datasets: dict[str, tuple[Card, EvaluationData]] = {}
    skipped: list[Skipped] = []
    for name in wanted:
        if name == ALL:
            found, faults = _all_of(root, form)
            skipped += faults
        else:
            card = load_card(name)
            found = [(card, _read(card, root, form))]
        for card, data in found:
            known = datasets.setdefault(data.name, (card, data))
            if known[0].path != card.path:
                raise DataError(
                    f"{card.path} and {known[0].path} both describe {data.name!r}; rename one"
                )
    return [data for _, data in datasets.values()], skipped


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
    from_trees = iter(read_trees(trees))
    from_cards = iter([read_cards([name], root)[0][0] for name in cards])
    found = [next(from_trees if _is_tree(name) else from_cards) for name in names]
    titles = [data.name for data in found]
    if alike := [title for title in titles if titles.count(title) > 1]:
        raise DataError(f"two datasets are named {alike[0]!r}; rename one")
    return found


def _all_of(
    root: Path | None, form: str
) -> tuple[list[tuple[Card, EvaluationData]], list[Skipped]]:
    if root is None:
        raise ConfigError("--dataset all: say where the benchmarks lie, with --data ROOT")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder that holds the datasets")
    found, skipped = [], []
    names = card_names()
    for name in names:
        card = load_card(name)
        try:
            locate(card, root, form, own_folder=True)
        except DataError:
            continue
        try:
            found.append((card, _read(card, root, form, own_folder=True)))
        except DataError as error:
            skipped.append(Skipped(name, "", str(root), str(error)))
    if not found and not skipped:
        raise DataError(
            f"none of the {len(names)} benchmarks was found in {root}: looked for folders such as "
            f"{root}/{names[0]}; `bayes-pfl datasets --data {root}` tells what is missing"
        )
    return found, skipped


def _read(card: Card, root: Path | None, form: str, own_folder: bool = False) -> EvaluationData:
    found = locate(card, root, form, own_folder=own_folder)
    samples = found.read()
    if not any(sample.path.is_file() for sample in samples):
        raise DataError(
            f"{found.path} names {len(samples)} images and none of them is there, first "
            f"{samples[0].path}; put the images next to it"
        )
    notes = (*found.differences(samples), *found.remarks(samples))
    train = partial(_or_nothing, partial(found.read, "train"))
    return EvaluationData(card.name, tuple(samples), card.domain, card.supports, notes, train)


def _or_nothing(read: Callable[[], list[Sample]]) -> list[Sample]:
    try:
        return read()
    except NoSplitError:
        return []


def _is_tree(name: str) -> bool:
    path = Path(name)
    return path.exists() and path.suffix.lower() not in _CARDS
