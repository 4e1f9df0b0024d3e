"""Faults of form: regions out of place, bent, or missing."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.data.synthetic.batched.colours import peak
from bayes_pfl.data.synthetic.batched.fields import Place, fbm, length, smoothstep, turned, warped
from bayes_pfl.data.synthetic.batched.hashing import Draws, direction
from bayes_pfl.data.synthetic.batched.marks import Mark, Spot, patch, radius_for
from bayes_pfl.data.synthetic.batched.scene import Scene


def misaligned(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A piece, box-shaped or round, that shows what belongs beside it; often with a dark seam."""
    at, radius = scene.at, radius_for(d, spot, 12, 0.3)
    u, v = turned(spot.place(at), d.choose("lie", 0.0, 0.0, 1.0) * d.uniform("turn", 0, math.pi))
    v = v / d.uniform("squash", 0.4, 1.0)
    box = torch.maximum(u.abs(), v.abs()) - radius
    far = torch.where(d.chance("box", 0.6) > 0.5, box, length(u, v) - radius)
    cover = smoothstep(0.6 / scene.size, -0.6 / scene.size, far)
    c, s = d.angle("by")
    step = d.uniform("step", 0.15, 0.7) * radius + 3 / 256
    target = warped(scene.image, (at[0] + c * step, at[1] + s * step))
    seam = smoothstep(2.2 / 256, 0.3 / 256, far.abs()) * d.uniform("seam", -0.4, 0.6).clamp(min=0)
    return _changed(scene, target * (1 - seam)[:, None], cover)


def bent(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A region pulled, twisted or pinched: what is straight there is not straight any more."""
    at, radius = scene.at, radius_for(d, spot, 18, 0.36).clamp(min=0.08)
    x, y = spot.place(at)
    weight = smoothstep(1.0, 0.0, length(x, y) / radius)
    c, s = d.angle("pull")
    pull = d.uniform("far", 0.2, 0.45) * radius * weight
    twist = d.uniform("twist", -1.1, 1.1) * weight
    cos, sin = direction(d.chance("twisted", 0.4) * twist)
    moved_x = at[0] - x + cos * x - sin * y + pull * c
    moved_y = at[1] - y + sin * x + cos * y + pull * s
    return _changed(scene, warped(scene.image, (moved_x, moved_y)), smoothstep(0.02, 0.2, weight))


def _changed(scene: Scene, target: Tensor, cover: Tensor) -> Mark:
    """The part of a moved region where it looks different; its gaps of a few pixels closed."""
    change = smoothstep(0.02, 0.06, peak((target - scene.image).abs()))[:, None]
    reach = max(1, round(2.5 * scene.size / 256))
    wide = F.max_pool2d(change, 2 * reach + 1, 1, reach)
    closed = -F.max_pool2d(-F.pad(wide, [reach] * 4, value=1.0), 2 * reach + 1, 1)
    return Mark(target, cover * closed[:, 0])


def missing_part(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A piece of the thing is gone along a ragged line: the ground is seen there."""
    x, y = spot.place(scene.at)
    rough = (
        fbm(d, "ragged", (x, y), 0.05 + 0.1 * spot.extent, 4, 0.6)
        * d.uniform("rough", 0.0, 0.06)
        * spot.extent
    )
    c, s = _outward(scene, spot)
    half = torch.maximum(rough - (c * x + s * y), length(x, y) - 0.8 * scene.span)
    bite = (
        length(x - c * 0.12 * spot.extent, y - s * 0.12 * spot.extent)
        + rough
        - d.uniform("bite", 0.12, 0.28) * spot.extent
    )
    far = torch.where(d.chance("broken off", 0.45) > 0.5, half, bite)
    gone = smoothstep(0.8 / scene.size, -0.8 / scene.size, far) * scene.where
    wall = smoothstep(-0.012, 0.0, far) * d.uniform("wall", 0.0, 0.5)
    target = scene.background + (0.6 * scene.image - scene.background) * wall[:, None]
    return _changed(scene, target, gone)


def _outward(scene: Scene, spot: Spot) -> Place:
    """From the middle of the picture to the spot, (cosine, sine)."""
    x, y = spot.middle
    far = length(x, y).clamp(min=1e-4)
    return x / far, y / far


def chip(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A splinter has come off: a faceted hollow, paler or darker than the face."""
    at, radius = spot.place(scene.at), radius_for(d, spot, 4, 0.16)
    alpha = patch(
        d, "body", at, radius, d.uniform("rough", 0.4, 1.0), 0.1, d.uniform("squash", 0.45, 1)
    )
    facets = fbm(d, "facets", at, 0.7 * radius, 2)
    fresh = 0.75 * scene.image + 0.25 * spot.colour
    tone = d.choose("tone", 0.55, 0.7, 1.35)
    side = spot.place(scene.at)
    slant = (side[0] * scene.lamp[0] + side[1] * scene.lamp[1]) / radius
    shade = tone * (
        1 - 0.3 * slant + 0.22 * torch.where(facets > 0, 1.0, -1.0) * 0.5 + 0.1 * facets
    )
    return Mark(fresh * shade.clamp(0.1, 2.0)[:, None], alpha * scene.where)
