"""What is drawn before the camera sees it, for a batch: materials, light, borders, scenes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bayes_pfl.data.synthetic.batched.colours import any_colour, either, mix, peak
from bayes_pfl.data.synthetic.batched.fields import (
    Place,
    fbm,
    hill,
    plane,
    reached,
    sharp,
    slope,
    smoothstep,
    turned,
)
from bayes_pfl.data.synthetic.batched.hashing import Draws

_SHARE = 0.18
"""Of pictures with a shadow from outside, with a glare, with an edge of the surface."""


@dataclass(frozen=True)
class Look:
    """A material laid out flat: colour (B, 3, S, S), and height (B, S, S) in 256ths of a side."""

    colour: Tensor
    height: Tensor


@dataclass
class Scene:
    """Pictures without a fault, and what a fault needs to know of them.

    image       (B, 3, S, S), before lighting; may leave [0, 1] a little
    where       (B, S, S) in [0, 1], the inspected thing (all ones for a surface)
    background  (B, 3, S, S), what lies behind the thing
    lighting    (B, S, S), factor applied last, with a fault and without
    light       (B, 2, 1, 1), towards the lamp, as long as the lamp is raking
    span        (B, 1, 1), side of one thing of those in sight; 1 for a surface
    grey        bool (B,)
    """

    image: Tensor
    where: Tensor
    background: Tensor
    lighting: Tensor
    light: Tensor
    span: Tensor
    grey: Tensor

    @property
    def size(self) -> int:
        return self.image.shape[-1]

    @property
    def lamp(self) -> Place:
        return self.light[:, 0], self.light[:, 1]

    @property
    def at(self) -> Place:
        return plane(len(self.image), self.size, self.image.device)

    def lit(self, image: Tensor) -> Tensor:
        return (image * self.lighting[:, None]).clamp(0, 1)

    def rows(self, rows: Tensor) -> Scene:
        return Scene(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def gather(cls, parts: list[Scene], rows: Tensor) -> Scene:
        """Several batches as one; picture i of them, one after the other, becomes ``rows[i]``."""
        order = torch.argsort(rows)
        joined = (torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls))
        return cls(*(tensor[order] for tensor in joined))


def lamp(draws: Draws) -> Place:
    """A distant lamp: direction in the picture's plane, as long as it is raking."""
    c, s = draws.angle("lamp")
    raking = draws.uniform("raking", 0.3, 1.0)
    return c * raking, s * raking


def relief(height: Tensor, light: Place, depth: float = 1.0) -> Tensor:
    """Brightness factor around 1 of a bumpy surface."""
    return 1 + (slope(height, light) * depth).clamp(-0.8, 1.2)


def shaded(look: Look, light: Place) -> Tensor:
    return look.colour * relief(look.height, light)[:, None]


def uneven_light(draws: Draws, at: Place, light: Place, share: float) -> Tensor:
    """Slow changes of light; in a ``share`` the edge of a shadow, or the glare of a window."""
    d = draws.under("uneven light")
    slant = d.uniform("slant", 0.0, 0.6)
    lighting = 1 + slant * (light[0] * at[0] + light[1] * at[1])
    slow = fbm(d, "slow", at, 0.6, 2)
    lighting = lighting + d.uniform("waves", -0.08, 0.1).clamp(min=0) * slow
    along, across = turned(at, d.uniform("turn", 0.0, 2 * math.pi))
    edge = along + d.uniform("edge", 0.0, 0.08) * slow
    place, soft = d.uniform("place", -0.35, 0.45), d.uniform("soft", 0.01, 0.25)
    shadow = d.chance("shadow", share) * d.uniform("dark", 0.15, 0.5)
    lighting = lighting * (1 - shadow * smoothstep(place, place + soft, edge))
    u = (along - d.uniform("glare x", -0.4, 0.4)) / d.uniform("glare long", 0.15, 0.6)
    v = (across - d.uniform("glare y", -0.4, 0.4)) / d.uniform("glare wide", 0.08, 0.3)
    glare = d.chance("glare", share) * d.uniform("bright", 0.1, 0.5)
    return (lighting + glare * hill(torch.sqrt(u * u + v * v))).clamp(0.25, 1.8)


def surface_scene(draws: Draws, at: Place, look: Look, light: Place, staged: bool = True) -> Scene:
    """A surface that fills the picture; where ``staged``, in a share of them all but an edge."""
    d = draws.under("border")
    size = at[0].shape[-1]
    image = shaded(look, light)
    across = turned(at, d.choose("side", 0.0, 0.5, 1.0, 1.5) * math.pi + d.normal("tilt", 0.06))[0]
    framed = d.chance("framed", _SHARE if staged else 0.0)
    place = either(framed, d.uniform("place", 0.12, 0.46), across.new_tensor(2.0))
    inside = sharp(across - place, size)
    shadow = d.uniform("shadow", 0.0, 0.8) * smoothstep(0.06, 0.0, across - place)
    shade = (1 - shadow) * (1 + 0.1 * fbm(d, "ground", at, 0.1))
    behind = any_colour(d, "behind", 0.6, 0.02, 0.6) * shade[:, None]
    rim = 1 + d.uniform("rim", -0.4, 0.5) * hill((across - place) * 90) * inside
    image = mix(behind, image * rim[:, None], inside)
    return finished(draws, at, image, inside, behind, light, 1 + 0 * place, staged)


def finished(
    draws: Draws,
    at: Place,
    image: Tensor,
    where: Tensor,
    background: Tensor,
    light: Place,
    span: Tensor,
    staged: bool = True,
) -> Scene:
    """A scene in colour, lit, and neither too dark for anything to be seen nor all white.

    ``staged`` scenes have lamps and windows about them; the others are lit by an instrument.
    """
    scene = Scene(
        image,
        where,
        background.expand_as(image).contiguous(),
        uneven_light(draws, at, light, _SHARE if staged else 0.0),
        torch.stack([light[0], light[1]], 1),
        span,
        torch.zeros(len(image), dtype=torch.bool, device=image.device),
    )
    seen = peak(scene.lit(image)[:, :, ::4, ::4])
    there = where[:, ::4, ::4] > 0.5
    bright, middle = reached(seen, there, 0.1), reached(seen, there, 0.5)
    glaring = reached(seen, torch.ones_like(there), 0.3)
    most = (1 / glaring.clamp(min=0.06)).clamp(min=1.2)
    lift = torch.minimum(0.38 / bright.clamp(min=0.06), most)
    gain = torch.where(bright < 0.38, lift, 0.86 / middle.clamp(min=0.86))
    scene.lighting = scene.lighting * gain
    return scene
