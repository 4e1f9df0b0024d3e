"""Faults put on clean scenes, with the exact masks of what they change.

The rules are those of ``synthetic.defects``: a fault can be seen within its mask, faint ones too,
and no pixel three or more away from the mask differs from the clean picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.data.synthetic.batched import (
    form_faults,
    growth_faults,
    line_faults,
    patch_faults,
)
from bayes_pfl.data.synthetic.batched.colours import mix, peak
from bayes_pfl.data.synthetic.batched.fields import reached
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.marks import Mark, Spot, patch, spot
from bayes_pfl.data.synthetic.batched.scene import Scene

FAULTS: dict[str, Callable[[Draws, Scene, Spot], Mark]] = {
    "scratch": line_faults.scratch,
    "crack": line_faults.crack,
    "thread": line_faults.thread,
    "stain": patch_faults.stain,
    "contamination": patch_faults.contamination,
    "burn": patch_faults.burn,
    "discoloration": patch_faults.discoloration,
    "hole": patch_faults.hole,
    "dent": patch_faults.dent,
    "lesion": growth_faults.lesion,
    "tumour": growth_faults.tumour,
    "misaligned": form_faults.misaligned,
    "bent": form_faults.bent,
    "missing_part": form_faults.missing_part,
    "chip": form_faults.chip,
}
"""Every kind of fault by name."""

MASK_OPACITY = 0.2
"""A pixel belongs to the mask where the fault covers at least this much of it."""

_LINES = ("scratch", "crack", "thread")
_FADING = frozenset(
    {"scratch", "crack", "stain", "discoloration", "burn", "dent", "lesion", "tumour"}
)
"""Kinds that may be faint, or strengthened; the others are there or are not."""
_GAINS = (1.0, 1.8, 3.2, -1.0, -2.5)
"""Tried in turn until such a fault can be seen; negative ones make a dark mark bright."""
_TRIES, _SMALLEST_AREA, _VISIBLE, _SHARE = 3, 8, 0.035, 0.3


def spoil(draws: Draws, scene: Scene, kind: str) -> tuple[Tensor, Tensor]:
    """Put one fault of a kind on every scene.

    Returns the spoiled pictures before lighting, float32 (B, 3, S, S), and their masks, bool
    (B, S, S), never empty.
    """
    image, mask = scene.image.clone(), torch.zeros_like(scene.where, dtype=torch.bool)
    rows = torch.arange(len(image), device=image.device)
    for attempt in range(_TRIES + 1):
        d, part = draws.rows(rows).under(f"try {attempt}"), scene.rows(rows)
        last = attempt == _TRIES
        mark = (_plain if last else FAULTS[kind])(d, part, spot(d, part))
        spoiled, changed, seen = _blend(d, part, mark, "plain" if last else kind)
        enough = changed.sum((1, 2)) >= min(_SMALLEST_AREA * scene.size / 256, 8)
        kept = torch.ones_like(enough) if last else enough & (seen.flatten() >= _VISIBLE)
        image[rows[kept]], mask[rows[kept]] = spoiled[kept], changed[kept]
        rows = rows[~kept]
        if not len(rows):
            break
    return image, mask


def _blend(d: Draws, scene: Scene, mark: Mark, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Blend the mark in; strengthen, turn round or weaken a change by what can be seen of it."""
    changed = mark.alpha >= MASK_OPACITY
    near = F.max_pool2d(changed[:, None].float(), 5, 1, 2)[:, 0]
    delta = mix(scene.image, mark.target, mark.alpha * near) - scene.image
    clean, floor = (
        scene.lit(scene.image),
        d.log_uniform("floor", 0.09 if kind in _LINES else 0.06, 0.3),
    )
    gain = torch.ones_like(floor)
    seen = _visibility(scene, clean, delta, changed)
    for other in _GAINS[1:] if kind in _FADING else ():
        level = _visibility(scene, clean, other * delta, changed)
        better = (seen < floor) & (level > seen)
        gain, seen = torch.where(better, other, gain), torch.where(better, level, seen)
    if kind in _FADING:
        faint = (d.chance("faint", 0.35) > 0.5) & (seen > 1.5 * floor)
        gain = torch.where(faint, gain * 1.5 * floor / seen.clamp(min=1e-3), gain)
        seen = _visibility(scene, clean, gain[:, None] * delta, changed)
    return scene.image + gain[:, None] * delta, changed, seen


def _visibility(scene: Scene, clean: Tensor, delta: Tensor, where: Tensor) -> Tensor:
    """Change that a third of the mask's pixels reach, in units of the full range; (B, 1, 1)."""
    return reached(peak((scene.lit(scene.image + delta) - clean).abs()), where, _SHARE)


def _plain(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A plain spot, for scenes where nothing else could be seen."""
    radius = 8 / 256 * torch.ones_like(spot.extent)
    alpha = 0.85 * patch(d, "spot", spot.place(scene.at), radius, 0.2)
    bright = (scene.lit(scene.image) * (alpha > 0.5)[:, None]).amax((1, 2, 3), keepdim=True) > 0.45
    return Mark(torch.where(bright, 0.05, 0.9).expand_as(scene.image), alpha)
