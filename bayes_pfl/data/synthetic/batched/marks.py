"""What every fault is made of: a mark, its place, its size and its colour; patches and lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.data.synthetic.batched.colours import any_colour, vary
from bayes_pfl.data.synthetic.batched.fields import (
    Number,
    Place,
    fbm,
    length,
    moved,
    smoothstep,
    turned,
)
from bayes_pfl.data.synthetic.batched.hashing import Draws, to_uniform
from bayes_pfl.data.synthetic.batched.scene import Scene

_COARSE = 32


@dataclass(frozen=True)
class Mark:
    """A fault before it is blended in: target pictures (B, 3, S, S) and opacity (B, S, S)."""

    target: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class Spot:
    """Where a fault is: its middle, the side of a square as large as the thing, the colour.

    Where there are several things, ``extent`` is that of one.
    """

    middle: Place
    extent: Tensor
    colour: Tensor

    def place(self, at: Place) -> Place:
        return moved(at, self.middle)


def spot(draws: Draws, scene: Scene) -> Spot:
    """A random place on the inspected thing, away from its very edge."""
    coarse = _shrunk(scene.where[:, None])[:, 0]
    inner = -F.max_pool2d(-coarse[:, None], 3, 1, 1)[:, 0]
    luck = to_uniform(draws.bits("place", _COARSE, _COARSE))
    # The best: well inside; then on the thing; then, on a very thin thing, where most of it is.
    worth = torch.where(inner > 0.6, 2 + luck, torch.where(coarse > 0.5, 1 + luck, coarse))
    cell = worth.flatten(1).argmax(1)
    column, row = (cell % _COARSE)[:, None, None], (cell // _COARSE)[:, None, None]
    shake = to_uniform(draws.bits("shake", 2, 1, 1))
    middle = ((column + shake[:, 0]) / _COARSE - 0.5, (row + shake[:, 1]) / _COARSE - 0.5)
    share = coarse.double().mean((1, 2)).float()[:, None, None]
    colours = _shrunk(scene.image).flatten(2)
    here = colours.gather(2, cell[:, None, None].expand(-1, 3, 1))[..., None]
    extent = torch.minimum(share.clamp(min=0.01).sqrt(), scene.span)
    return Spot(middle, extent, here)


def _shrunk(image: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(image, _COARSE)


def radius_for(draws: Draws, spot: Spot, low_px: float = 3.0, high: float = 0.28) -> Tensor:
    """From ``low_px`` pixels (of 256) to ``high`` of the thing's side, small as often as large."""
    low = low_px / 256
    return draws.log_uniform("radius", low, (high * spot.extent).clamp(min=1.5 * low))


def apart(draws: Draws, scene: Scene, spot: Spot, low: float = 0.15, high: float = 0.7) -> Tensor:
    """A colour clearly darker, or brighter, than the material at a place, (B, 3, 1, 1)."""
    d = draws.under("apart")
    level = spot.colour.mean(1)
    share = torch.where(level >= 0.7, 0.15, torch.where(level > 0.3, 0.5, 0.85))
    brighter = d.uniform("brighter") < share
    amount = d.uniform("amount", low, high)[:, None]
    colour = torch.where(
        brighter[:, None], spot.colour + amount * (1 - spot.colour), spot.colour * (1 - amount)
    )
    return toned(scene, vary(d, "vary", colour, 0.05))


def tint(draws: Draws, scene: Scene, low: float = 0.05, high: float = 0.95) -> Tensor:
    """Any colour; a grey one in a grey picture."""
    return toned(scene, any_colour(draws, "tint", 0.9, low, high))


def toned(scene: Scene, colour: Tensor) -> Tensor:
    """Without colour where the picture has none."""
    return torch.where(scene.grey[:, None, None, None], colour.mean(1, keepdim=True), colour)


def patch(
    draws: Draws,
    name: str,
    at: Place,
    radius: Number,
    rough: Number = 0.35,
    soft: Number = 0.3,
    squash: Number = 1.0,
) -> Tensor:
    """An irregular blob about the middle: 1 inside, 0 outside, ``soft`` of its radius between."""
    d = draws.under(name)
    u, v = turned(at, d.uniform("turn", 0, math.pi))
    edge = length(u, v / squash) / radius
    edge = edge + 0.5 * rough * fbm(d, "edge", at, radius * d.uniform("cell", 0.5, 1.2), 4, 0.55)
    half = 0.5 * soft + 0.5 / (radius * at[0].shape[-1])
    return smoothstep(1 + half, 1 - half, edge)


def blob(
    draws: Draws,
    at: Place,
    radius: Number,
    rough: tuple[float, float],
    soft: tuple[float, float],
    squash: float,
) -> Tensor:
    """A patch whose form is drawn: from ``rough`` and ``soft``, and from ``squash`` to round."""
    form = (draws.uniform(name, *ends) for name, ends in (("rough", rough), ("soft", soft)))
    return patch(draws, "body", at, radius, *form, draws.uniform("squash", squash, 1))


def stroke(at: Place, points: Tensor, widths: Tensor) -> Tensor:
    """Lines along points (B, N, 2), whose segments have widths (B, N - 1), all in sides.

    The result is the opacity, with an edge a pixel wide; lines thinner than that are fainter.
    """
    pixel = 1 / at[0].shape[-1]
    best = torch.full_like(at[0] + points[:, :1, :1], -9.0)
    for k in range(points.shape[1] - 1):
        (x, y), (ex, ey) = (points[:, n, :, None, None].unbind(1) for n in (k, k + 1))
        ex, ey = ex - x, ey - y
        px, py = at[0] - x, at[1] - y
        along = ((px * ex + py * ey) / (ex * ex + ey * ey + 1e-12)).clamp(0, 1)
        far = length(px - along * ex, py - along * ey)
        best = torch.maximum(best, 0.5 * widths[:, k, None, None] - far)
    thin = (2 * (widths.amax(1)[:, None, None] / pixel)).clamp(0.6, 1)
    return thin * smoothstep(-0.75 * pixel, 0.75 * pixel, best + 0.25 * pixel)


def curve(
    draws: Draws, start: Place, reach: Tensor, heading: Tensor, bend: Tensor, count: int
) -> Tensor:
    """A wandering line of ``count`` segments, (B, count + 1, 2), turning by about ``bend``."""
    steps = draws.white("bend", count)[..., None] * bend * (2.0 / count) ** 0.5
    turns = heading + torch.cumsum(steps.double(), 1).float()
    pair = torch.cat([torch.cos(turns.double()), torch.sin(turns.double())], 2)
    path = torch.cumsum(pair * (reach.double() / count), 1).float()
    first = torch.stack([start[0].flatten(), start[1].flatten()], 1)[:, None]
    return torch.cat([first, first + path], 1)


def jagged(draws: Draws, start: Tensor, end: Tensor, rough: Tensor, levels: int) -> Tensor:
    """A broken line by midpoint displacement, (B, 2**levels + 1, 2), from (B, 2) to (B, 2)."""
    points = torch.stack([start, end], 1)
    for level in range(levels):
        steps = points[:, 1:] - points[:, :-1]
        sideways = torch.stack([-steps[..., 1], steps[..., 0]], 2)
        count = steps.shape[1]
        shift = rough * draws.white(f"shift {level}", count)[..., None]
        share = 0.35 + 0.3 * to_uniform(draws.bits(f"share {level}", count))[..., None]
        middles = points[:, :-1] + steps * share + sideways * shift
        both = torch.stack([points[:, :-1], middles], 2).flatten(1, 2)
        points = torch.cat([both, points[:, -1:]], 1)
    return points
