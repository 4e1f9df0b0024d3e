"""Sentences about a rendered picture, from a small grammar with synonyms."""

from __future__ import annotations

import numpy as np

from bayes_pfl.rendering.noise import Rng

_SHOTS = (
    "a photo of {}",
    "a close-up photo of {}",
    "a cropped photo of {}",
    "a picture of {}",
    "an image of {}",
    "a bright photo of {}",
    "a blurry photo of {}",
    "a low resolution photo of {}",
    "a jpeg corrupted photo of {}",
    "an inspection photo of {}",
    "a photo of {} for visual inspection",
    "{}",
    "there is {} in the scene",
    "this is {}",
)
_SCANS = ("a medical image of {}", "a clinical image of {}", "an image of {}", "{}", "a scan of {}")

_NORMAL = (
    "a {}",
    "a flawless {}",
    "a perfect {}",
    "an unblemished {}",
    "an intact {}",
    "a normal {}",
    "a good {}",
    "a clean {}",
    "a {} without flaw",
    "a {} without defect",
    "a {} without damage",
    "a {} with no anomaly",
    "an undamaged {}",
)
_HEALTHY = (
    "a healthy {}",
    "a normal {}",
    "a {} without lesion",
    "a {} with no abnormality",
    "an unremarkable {}",
)
_ABNORMAL = (
    "a damaged {}",
    "a defective {}",
    "a broken {}",
    "an abnormal {}",
    "an imperfect {}",
    "a flawed {}",
    "a {} with flaw",
    "a {} with defect",
    "a {} with damage",
    "a {} with an anomaly",
    "a faulty {}",
)
_DISEASED = (
    "a diseased {}",
    "an abnormal {}",
    "a {} with disease",
    "an unhealthy {}",
    "a {} with an abnormality",
)

PHRASES: dict[str, tuple[str, ...]] = {
    "scratch": ("a scratch", "scratches", "a scratched area", "a scrape", "a thin scratch mark"),
    "crack": (
        "a crack",
        "cracks",
        "a fracture",
        "a long crack line",
        "a cracked area",
        "a fissure",
    ),
    "cut": ("a cut", "a slit", "a gash", "a sharp cut"),
    "stain": ("a stain", "a dirty spot", "a smudge", "a liquid stain", "a blot"),
    "contamination": (
        "contamination",
        "foreign particles",
        "a foreign object",
        "dirt",
        "debris on it",
    ),
    "thread": ("a loose thread", "a hair on it", "a fibre", "a stray thread"),
    "burn": ("a burn", "a burnt area", "a scorch mark", "a charred spot"),
    "discoloration": ("a discoloured region", "discoloration", "a colour defect", "a faded area"),
    "corrosion": ("corrosion", "rust", "a rusty spot", "an oxidised patch"),
    "mould": ("mould", "a mouldy patch", "mold", "rot", "a rotten spot"),
    "rash": ("a rash", "an inflamed area", "a scab", "eczema"),
    "print_error": ("a print error", "a misprint", "a smeared print", "missing print"),
    "hole": ("a hole", "a pit", "a small hole", "a puncture", "holes"),
    "dent": ("a dent", "a dented area", "a bulge", "a deformation", "a bump"),
    "fold": ("a fold", "a crease", "a wrinkle", "creases"),
    "chip": ("a chipped edge", "a chip", "a broken edge", "a chipped area"),
    "broken": ("a break", "a part broken apart", "a large gap", "a broken piece"),
    "missing_part": ("a missing part", "a missing piece", "something missing", "a piece cut off"),
    "bent": ("a bent part", "a bend", "a distorted shape", "a deformed area"),
    "misaligned": (
        "a misaligned part",
        "a misplaced part",
        "a shifted region",
        "an out of place part",
    ),
    "lesion": ("a lesion", "a spot", "a dark lesion", "an abnormal patch"),
    "tumour": ("a tumour", "a tumor", "a mass", "a large mass", "an abnormal growth"),
    "bleeding": ("bleeding", "blood", "a hemorrhage", "a bleed"),
    "polyp": ("a polyp", "a growth", "a raised growth", "a nodule"),
}
"""What each fault is called in a sentence, after "with"."""


def state_phrases(class_name: str, defect: str, organic: bool = False) -> tuple[str, ...]:
    """All noun phrases of one state: ``defect`` is "good" or a kind (then the general ones too)."""
    if defect == "good":
        normal: tuple[str, ...] = _HEALTHY + _NORMAL[:5] if organic else _NORMAL
        return tuple(form.format(class_name) for form in normal)
    forms: tuple[str, ...] = _DISEASED if organic else _ABNORMAL
    named = (f"a {class_name} with {phrase}" for phrase in PHRASES[defect])
    return tuple(form.format(class_name) for form in forms) + tuple(named)


def caption(
    rng: Rng,
    class_name: str,
    defect: str,
    mask: np.ndarray,
    grey: bool = False,
    organic: bool = False,
) -> str:
    """One sentence that names the thing and its state, and sometimes what, how large and where."""
    shots = _SCANS if organic and rng.random() < 0.5 else _SHOTS
    shot = shots[int(rng.integers(len(shots)))]
    if grey and rng.random() < 0.3:
        shot = shot.replace("photo", "black and white photo")
    return _article(shot.format(_state(rng, class_name, defect, mask, organic)))


def _state(rng: Rng, class_name: str, defect: str, mask: np.ndarray, organic: bool) -> str:
    phrases = state_phrases(class_name, defect, organic)
    if defect == "good":
        # A plain name says nothing of the state, so it is kept for one caption in eight.
        first = 0 if organic or rng.random() < 0.125 else 1
        return phrases[int(rng.integers(first, len(phrases)))]
    if rng.random() < 0.35:
        return phrases[int(rng.integers(len(phrases) - len(PHRASES[defect])))]
    what = PHRASES[defect][int(rng.integers(len(PHRASES[defect])))]
    lead = ("a", "a damaged", "a defective")[int(rng.integers(3))] if not organic else "a"
    sentence = f"{lead} {class_name} with {_sized(rng, what, mask)}"
    return f"{sentence} {_place(mask)}" if rng.random() < 0.25 else sentence


def _sized(rng: Rng, what: str, mask: np.ndarray) -> str:
    """Now and then the size, where the wording takes an adjective and has none yet."""
    known = ("small", "large", "thin", "long")
    takes_none = not what.startswith("a ") or any(word in what for word in known)
    if takes_none or rng.random() < 0.7:
        return what
    share = float(mask.mean())
    word = (
        "tiny" if share < 0.002 else "small" if share < 0.012 else "large" if share > 0.06 else ""
    )
    return f"a {word} {what[2:]}" if word else what


def _place(mask: np.ndarray) -> str:
    """Where the fault is, in words."""
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return "on it"
    y, x = rows.mean() / mask.shape[0], columns.mean() / mask.shape[1]
    vertical = "upper" if y < 0.38 else "lower" if y > 0.62 else ""
    side = "left" if x < 0.38 else "right" if x > 0.62 else ""
    if not vertical and not side:
        return "in the middle"
    if not side:
        return "at the top" if vertical == "upper" else "at the bottom"
    return f"in the {vertical} {side}" if vertical else f"on the {side}"


def _article(sentence: str) -> str:
    """Turn "a" before a vowel into "an", and the other way round."""
    words = sentence.split(" ")
    for i, word in enumerate(words[:-1]):
        if word in ("a", "an"):
            words[i] = "an" if words[i + 1][:1].lower() in "aeiou" else "a"
    return " ".join(words)
