"""Which pictures are the references of a category: k normal ones, a few of the test set itself, or
those of a profile.

The draw depends on the seed, the category's name and the paths of its pictures, never on their
order. It is nested: the k references of a seed are the first k of one permutation.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np

from bayes_pfl.data.images import read_image
from bayes_pfl.data.labelled_batches import file_identity
from bayes_pfl.data.records import Sample
from bayes_pfl.data.tiles import TileSettings
from bayes_pfl.data.transforms import resize_image
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.fit.normal_pictures import NormalPicture, tile_of_profile
from bayes_pfl.fit.profile import Profile, no_pictures
from bayes_pfl.fit.references import (
    DRAWN_MUTUAL,
    FEWEST_MUTUAL,
    ReferenceOptions,
    fit_references,
)
from bayes_pfl.fit.tile_references import with_tiles
from bayes_pfl.support.progress import NullProgress

Mutual = Literal["mutual"]
OfProfile = Literal["profile"]
Method = int | Mutual | OfProfile
"""What images are compared with: so many normal pictures, 0 for none; one another; a profile."""

MUTUAL: Mutual = "mutual"
PROFILE: OfProfile = "profile"
_TRAIN = "for each category, of train/good"
_TEST = "for each category, of test/good and left out of the test"
_ITSELF = "for each category, of the test itself, labels unused"
_LESS = "use --shots 0, or leave it out with --categories"


@dataclass(frozen=True)
class Drawn:
    """The references of one category.

    Attributes:
        samples: the pictures; none where they are those of a profile.
        source: where they are from, in the words of a note.
        mutual: they may be anomalous themselves.
        profile: one that is fitted already, in place of samples.
    """

    samples: tuple[Sample, ...]
    source: str
    mutual: bool = False
    profile: Profile | None = None

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.profile.pictures if self.profile else self.samples)

    def fitted(self, scorer: Scorer) -> Scorer:
        """The scorer with these references, for the category's class name.

        Where tiles are asked for and no reference is larger than one, it has none: then pictures
        are looked at as a whole, as the references are.

        Raises:
            DataError: a reference that cannot be read, or too few that differ.
        """
        if self.profile is not None and self.profile.references is not None:
            own = {self.profile.class_name: self.profile.references}
            return scorer.with_references(own, scorer.settings.tile)
        name, side = self.samples[0].class_name, scorer.model.backbone.image_size
        pictures = [_normal_picture(sample, side) for sample in self.samples]
        options = ReferenceOptions(mutual=self.mutual)
        pixels, labels = [one.pixels for one in pictures], [one.name for one in pictures]
        found = fit_references(scorer, pixels, name, options, labels)
        largest, tile = max(max(one.size) for one in pictures), scorer.settings.tile
        if isinstance(tile, str) or (tile is not None and tile < largest):
            tile = tile_of_profile(pictures, scorer.settings, side)
        else:
            tile = None
        references = found.references
        if tile is not None:
            cut = TileSettings(tile, scorer.settings.overlap, side)
            references, _ = with_tiles(scorer, found, pictures, cut, name, NullProgress())
        return scorer.with_references({name: references}, tile)


def _normal_picture(sample: Sample, side: int) -> NormalPicture:
    read = partial(read_image, sample.path)
    image = read()
    return NormalPicture(str(sample.path), resize_image(image, side), image.size, read)


@dataclass(frozen=True)
class Draw:
    """The references of every category of a dataset, and what is left to test on.

    Attributes:
        data: without the references, unless they are drawn for mutual scoring.
        references: by category; a category without any is scored by words alone.
        remarks: what else a reader must know, one line each.
    """

    data: EvaluationData
    references: Mapping[str, Drawn] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def first(self, count: int) -> Draw:
        """With so many of the references of each category, and the same test."""
        fewer = {
            category: replace(drawn, samples=drawn.samples[:count])
            for category, drawn in self.references.items()
        }
        return replace(self, references=fewer)

    @property
    def identity(self) -> str:
        """Hash of the references' files, or of the profile; "" where there are none."""
        parts = [
            f"{category}\0{one}"
            for category, drawn in sorted(self.references.items())
            for one in (
                [drawn.profile.sha256] if drawn.profile else map(file_identity, drawn.samples)
            )
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16] if parts else ""


def method_label(method: Method) -> str:
    """Its short name: "words", "4-shot", "mutual", "profile"."""
    if isinstance(method, str):
        return method
    return f"{method}-shot" if method else "words"


def draw_references(data: EvaluationData, method: int | Mutual, seed: int) -> Draw:
    """Draw the references of every category.

    Normal pictures are those of the train split. Where a category has none there, they are drawn
    from the test and left out of it; at least one stays in the test. A train split that cannot be
    read counts as none, with a remark.

    Raises:
        DataError: a category with several class names, or with too few pictures.
    """
    if method == 0:
        return Draw(data)
    train, remarks = _train(data) if method != MUTUAL else ([], ())
    references: dict[str, Drawn] = {}
    for category, test in _by_category(data).items():
        name = f"{data.name}/{category}"
        _check_one_name(name, test)
        if method == MUTUAL:
            references[category] = _mutual(name, category, test, seed)
        else:
            normal = [sample for sample in train if sample.category == category]
            drawn = _shots(name, category, normal, test, method, seed)
            # one word for all, also where a meta.json words its splits differently
            worded = [replace(one, class_name=test[0].class_name) for one in drawn.samples]
            references[category] = replace(drawn, samples=tuple(worded))
    if method == MUTUAL:
        return Draw(data, references)
    taken = {sample.path for drawn in references.values() for sample in drawn.samples}
    left = tuple(sample for sample in data.samples if sample.path not in taken)
    return Draw(replace(data, samples=left), references, remarks)


def profile_references(data: EvaluationData, profile: Profile) -> Draw:
    """The pictures of a profile as references of the categories of its class name.

    Raises:
        ConfigError: a profile of words alone.
        DataError: such a category with several class names.
    """
    if profile.references is None:
        raise no_pictures(profile)
    source = f"of the profile {profile.folder or 'in memory'}"
    references: dict[str, Drawn] = {}
    for category, test in _by_category(data).items():
        if any(sample.class_name == profile.class_name for sample in test):
            _check_one_name(f"{data.name}/{category}", test)
            references[category] = Drawn((), source, profile=profile)
    return Draw(data, references)


def _train(data: EvaluationData) -> tuple[list[Sample], tuple[str, ...]]:
    """The normal pictures of the train split that are there, and what a reader must know."""
    try:
        train = data.train()
    except DataError as error:
        return [], (f"{data.name}: its train split cannot be read and counts as none: {error}.",)
    return [sample for sample in train if sample.label == 0 and sample.path.is_file()], ()


def _by_category(data: EvaluationData) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in data.samples:
        found.setdefault(sample.category, []).append(sample)
    return found


def reference_notes(method: Method, draws: Iterable[Draw]) -> list[str]:
    """What a reader of the tables must know of the references, one line for each kind."""
    categories: dict[tuple[str, int], list[str]] = {}
    lines: list[str] = []
    alone = False
    for draw in draws:
        lines += draw.remarks
        alone |= bool(_by_category(draw.data).keys() - draw.references.keys())
        for category, drawn in draw.references.items():
            key = drawn.source, drawn.count
            categories.setdefault(key, []).append(f"{draw.data.name}/{category}")
    for (source, count), names in categories.items():
        kind = "pictures" if method == MUTUAL else "normal pictures"
        kind = kind if count > 1 else kind.removesuffix("s")
        of = f": {', '.join(names)}" if alone or len(categories) > 1 else ""
        of += "; the other categories by words alone" if alone else ""
        lines.append(f"{method_label(method)}: {count} {kind} {source}{of}.")
    return lines


def _check_one_name(name: str, test: Sequence[Sample]) -> None:
    words = dict.fromkeys(sample.class_name for sample in test)
    if len(words) > 1:
        raise DataError(
            f"{name} has pictures of {len(words)} class names ({', '.join(list(words)[:5])}), and "
            "references have one: use one class name, or leave --shots, --mutual and "
            "--profile out"
        )


def _mutual(name: str, category: str, test: Sequence[Sample], seed: int) -> Drawn:
    if len(test) < FEWEST_MUTUAL:
        raise DataError(
            f"{name} has {len(test)} test pictures: too few to be compared with each other, "
            f"{FEWEST_MUTUAL} at least; leave --mutual out, or the category with --categories"
        )
    chosen = _permuted(test, category, seed)[:DRAWN_MUTUAL]
    return Drawn(tuple(chosen), _ITSELF, mutual=True)


def _shots(
    name: str,
    category: str,
    train: Sequence[Sample],
    test: Sequence[Sample],
    count: int,
    seed: int,
) -> Drawn:
    if train:
        drawn = Drawn(tuple(_permuted(train, category, seed)[:count]), _TRAIN)
    else:
        normal = [sample for sample in test if sample.label == 0]
        if len(normal) < 2:
            there = f"{len(normal)} normal test picture" + ("" if len(normal) == 1 else "s")
            raise DataError(
                f"{name} has no normal pictures in its train split and {there}, of which one must "
                f"stay in the test: none is left for --shots {count}; {_LESS}"
            )
        chosen = _permuted(normal, category, seed)[: min(count, len(normal) - 1)]
        drawn = Drawn(tuple(chosen), _TEST)
    taken = {sample.path for sample in drawn.samples}
    if all(sample.path in taken for sample in test):
        raise DataError(
            f"{name}: its {len(test)} test pictures are also in its train split and all would be "
            f"references of --shots {count}; use fewer shots, or correct the splits"
        )
    return drawn


def _permuted(samples: Sequence[Sample], category: str, seed: int) -> list[Sample]:
    ordered = sorted(samples, key=lambda sample: str(sample.path))
    generator = np.random.default_rng([seed, zlib.crc32(category.encode())])
    return [ordered[at] for at in generator.permutation(len(ordered))]
