"""Sentences about pictures, and the facts that each states.

A caption states some of three facts: what the object is, whether it is normal, and which defect it
has. It is true of every picture that agrees with these facts, not only of the one it was written
for; the training targets follow from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Rng = np.random.Generator

GOOD = "good"


def _phrases(text: str) -> tuple[str, ...]:
    """Phrases that commas and ends of lines separate."""
    return tuple(phrase.strip() for phrase in text.replace("\n", " ").split(",") if phrase.strip())


_FRAMES = _phrases(
    """
    {}, a {}, a photo of a {}, a photo of {}, a close-up of the {}, a picture of a {},
    a cropped photo of the {}, an image of one {}, the {}, a photo of a {} for inspection,
    a bright photo of a {}, a dark photo of a {}
    """
)
_NORMAL_WORDS = _phrases(
    """
    normal, flawless, perfect, intact, undamaged, unblemished, good, healthy, clean, faultless,
    pristine, regular
    """
)
_NORMAL_ENDINGS = _phrases(
    """
    without defect, without defects, without flaw, without damage, without any anomaly,
    with no defect, with no flaws, with no damage, free of defects, in good condition,
    in perfect condition, as it should be, with nothing wrong
    """
)
_DEFECT_WORDS = _phrases(
    """
    abnormal, damaged, defective, faulty, anomalous, flawed, imperfect, blemished, broken, bad,
    diseased, irregular
    """
)
_DEFECT_ENDINGS = _phrases(
    """
    with a defect, with defects, with a flaw, with flaws, with damage, with an anomaly,
    with a fault, with an abnormal area, in bad condition, not as it should be,
    with something wrong
    """
)
_KIND_FORMS = _phrases(
    """
    {noun} with a {kind}, {noun} with {kind}, {noun} that has a {kind},
    {noun} damaged by a {kind}, {kind} on a {noun}, {kind} in the {noun}, {kind} {noun}
    """
)
_THINGS = ("object", "thing", "surface", "item", "part", "sample", "product", "material")
# Other words for the renderer's kinds of defects. A kind that is not here is called by its name.
_SYNONYMS = {
    "scratch": ("scratches", "scrape", "score mark"),
    "crack": ("cracks", "fracture", "fissure", "split"),
    "cut": ("slit", "gash", "tear"),
    "stain": ("stains", "blot", "smudge", "dirty spot"),
    "contamination": ("foreign body", "foreign object", "dirt", "debris"),
    "thread": ("loose thread", "hair", "fibre"),
    "burn": ("burnt area", "scorch mark"),
    "discoloration": ("discolored area", "wrong color", "faded patch"),
    "corrosion": ("rust", "rusty spot", "corroded area"),
    "print_error": ("misprint", "smeared print", "ink fault"),
    "hole": ("holes", "pit", "puncture"),
    "dent": ("bump", "bulge", "dimple"),
    "fold": ("crease", "wrinkle"),
    "chip": ("chipped edge", "nick"),
    "broken": ("break", "broken part", "gap"),
    "missing_part": ("missing piece", "piece cut off", "gap"),
    "bent": ("bent part", "bend", "deformation", "distorted shape"),
    "misaligned": ("misaligned part", "misplaced part", "shifted part"),
    "lesion": ("sore", "diseased area", "dark spot"),
    "tumour": ("tumor", "mass", "growth"),
    "bleeding": ("blood", "hemorrhage", "bleed"),
    "polyp": ("growth", "lump", "nodule"),
    "mould": ("mold", "moldy spot", "rot"),
    "rash": ("inflamed area", "red spots"),
}


@dataclass(frozen=True)
class PictureFacts:
    """Class name, defect (``good`` for none) and caption of a picture."""

    class_name: str
    defect: str = GOOD
    caption: str | None = None

    @property
    def defective(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True)
class Caption:
    """A sentence and the facts that it states; None for a fact that it does not state."""

    text: str
    class_name: str | None = None
    defective: bool | None = None
    defect: str | None = None


@dataclass(frozen=True)
class CaptionWriter:
    """Writes captions; every choice comes from the generator that is passed in.

    Args:
        words: where nouns that mean nothing here are drawn from.
        unknown_noun: share of captions with such a noun.
    """

    words: Sequence[str]
    unknown_noun: float = 0.2

    def write(self, subject: PictureFacts, rng: Rng) -> Caption:
        """A caption that is true of ``subject``."""
        if subject.caption and rng.random() < 0.25:
            return Caption(subject.caption, subject.class_name, subject.defective, subject.defect)
        class_name, noun = self._noun(subject.class_name, rng)
        if class_name and rng.random() < 0.15:
            return Caption(_framed(noun, rng), class_name)
        if subject.defective and rng.random() < 0.5:
            text = _framed(_with_kind(noun, subject.defect, rng), rng)
            return Caption(text, class_name, True, subject.defect)
        text = _framed(_stated(noun, subject.defective, rng), rng)
        return Caption(text, class_name, subject.defective)

    def pair(self, class_name: str | None, rng: Rng) -> tuple[str, str]:
        """A normal and a defective sentence about the same noun, in the same frame.

        ``class_name`` None takes a noun that says nothing.
        """
        noun = self._noun(class_name, rng)[1] if class_name else self._unknown(rng)
        frame = _choose(_FRAMES, rng)
        ending = bool(rng.random() < 0.4)
        return (
            frame.format(_stated(noun, False, rng, ending)),
            frame.format(_stated(noun, True, rng, ending)),
        )

    def _noun(self, class_name: str, rng: Rng) -> tuple[str | None, str]:
        """The fact stated, and the noun written."""
        if rng.random() < self.unknown_noun:
            return None, self._unknown(rng)
        return class_name, class_name

    def _unknown(self, rng: Rng) -> str:
        if rng.random() < 0.3 or not self.words:
            return _choose(_THINGS, rng)
        return " ".join(_choose(self.words, rng) for _ in range(int(rng.integers(1, 3))))


def kind_words(defect: str) -> tuple[str, ...]:
    """Words for a kind of defect: its own name, then synonyms.

    >>> kind_words("print_error")
    ('print error', 'misprint', 'smeared print', 'ink fault')
    """
    return (defect.replace("_", " "), *_SYNONYMS.get(defect, ()))


def agreement(
    subjects: Sequence[PictureFacts], captions: Sequence[Caption], device: Any = None
) -> Tensor:
    """Bool (subjects, captions): which captions are true of which pictures."""
    rows = [(s.class_name, s.defective, s.defect) for s in subjects]
    columns = [(c.class_name, c.defective, c.defect) for c in captions]
    true = torch.ones(len(rows), len(columns), dtype=torch.bool, device=device)
    for fact in range(3):
        stated = [column[fact] for column in columns]
        codes = {value: code for code, value in enumerate(dict.fromkeys(r[fact] for r in rows))}
        have = torch.tensor([codes[row[fact]] for row in rows], device=device)
        want = torch.tensor([codes.get(value, -1) for value in stated], device=device)
        open_ = torch.tensor([value is None for value in stated], device=device)
        true &= open_ | (have[:, None] == want)
    return true


def _choose(options: Sequence[str], rng: Rng) -> str:
    return options[int(rng.integers(len(options)))]


def _framed(text: str, rng: Rng) -> str:
    return _choose(_FRAMES, rng).format(text)


def _stated(noun: str, defective: bool, rng: Rng, ending: bool | None = None) -> str:
    """``noun`` with a word or an ending for its state."""
    if ending is None:
        ending = bool(rng.random() < 0.4)
    if ending:
        return f"{noun} {_choose(_DEFECT_ENDINGS if defective else _NORMAL_ENDINGS, rng)}"
    return f"{_choose(_DEFECT_WORDS if defective else _NORMAL_WORDS, rng)} {noun}"


def _with_kind(noun: str, defect: str, rng: Rng) -> str:
    return _choose(_KIND_FORMS, rng).format(noun=noun, kind=_choose(kind_words(defect), rng))
