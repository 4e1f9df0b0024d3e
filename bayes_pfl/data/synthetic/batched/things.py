"""Things on a ground: one or several alike, by signed distances, with pose, light and shadow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_pfl.data.synthetic.batched import drawn, fabrics, minerals
from bayes_pfl.data.synthetic.batched.colours import any_colour, either, mix, vary
from bayes_pfl.data.synthetic.batched.fields import (
    Place,
    fbm,
    hill,
    length,
    moved,
    one_each,
    sharp,
    smoothstep,
    turned,
)
from bayes_pfl.data.synthetic.batched.hashing import Draws, direction, rounded
from bayes_pfl.data.synthetic.batched.scene import Look, Scene, finished, lamp, relief

Shape = Callable[[Draws, Place], Tensor]
"""Signed distance of places about a thing's middle, in half its size: below 0 inside."""


def washer(d: Draws, at: Place) -> Tensor:
    far = length(*at)
    return torch.maximum(far - 0.95, d.uniform("bore", 0.2, 0.62) - far)


def disc(d: Draws, at: Place) -> Tensor:
    return length(at[0], at[1] / d.choose("oval", 1.0, 1.0, 0.75)) - 0.95


def block(d: Draws, at: Place) -> Tensor:
    """A box with rounded corners, often with a notch or a row of holes."""
    wide, high, corner = 0.93, d.uniform("high", 0.4, 0.93), d.uniform("corner", 0.02, 0.35)
    x, y = at[0].abs() - wide + corner, at[1].abs() - high + corner
    box = length(x.clamp(min=0), y.clamp(min=0)) + torch.maximum(x, y).clamp(max=0) - corner
    hole = d.uniform("hole", 0.06, 0.14) - length(at[0].abs() - 0.7, at[1].abs() - (high - 0.22))
    return torch.where(d.chance("drilled", 0.5) > 0.5, torch.maximum(box, hole), box)


def gear(d: Draws, at: Place) -> Tensor:
    """Teeth round a wheel with a bore, and windows between its spokes."""
    far, turns = length(*at), rounded("atan2", at[1] + 0 * at[0], at[0] + 0 * at[1]) / (2 * math.pi)
    teeth = torch.floor(d.uniform("teeth", 9, 25))
    tooth = (turns * teeth - torch.floor(turns * teeth) - 0.5).abs()
    rim = 0.8 + 0.15 * smoothstep(0.34, 0.18, tooth)
    wheel = torch.maximum(far - rim, d.uniform("bore", 0.1, 0.3) - far)
    spokes = torch.floor(d.uniform("spokes", 3, 7))
    between = (
        ((turns * spokes - torch.floor(turns * spokes) - 0.5).abs() - 0.5) * far / spokes * 6.28
    )
    window = torch.maximum(torch.maximum(0.42 - far, far - 0.64), between + 0.09)
    return torch.where(d.chance("windows", 0.5) > 0.5, torch.maximum(wheel, -window), wheel)


def nut(d: Draws, at: Place) -> Tensor:
    """Five to eight sides round a hole."""
    sides, apothem = d.choose("sides", 6.0, 6.0, 6.0, 5.0, 8.0), 0.85
    edge = torch.full_like(at[0] + sides, -9.0)
    for side in range(8):
        c, s = direction(2 * math.pi * side / sides)
        edge = torch.where(side < sides, torch.maximum(edge, c * at[0] + s * at[1] - apothem), edge)
    return torch.maximum(edge, d.uniform("hole", 0.3, 0.55) - length(*at))


def capsule(d: Draws, at: Place) -> Tensor:
    thick = d.uniform("thick", 0.25, 0.55)
    return length((at[0].abs() - 0.95 + thick).clamp(min=0), at[1]) - thick


def pebble(d: Draws, at: Place) -> Tensor:
    """Of no rule: a bean, a nut, a stone."""
    bump = fbm(d, "outline", at, d.uniform("bumps", 0.7, 1.6), 3)
    return length(at[0], at[1] / d.uniform("flat", 0.6, 1.0)) - 0.84 - 0.07 * bump


@dataclass(frozen=True)
class Layout:
    """Where the copies are: ``local`` places about each one's middle, in half its size."""

    local: Place
    half: Tensor
    own: Tensor


def layout(d: Draws, at: Place) -> Layout:
    """One thing, large, or a grid of them, each turned and pushed a little."""
    one = d.chance("one", 0.55)
    pitch = either(one, 4 + 0 * one, d.log_uniform("pitch", 0.24, 0.5))
    share = either(one, d.uniform("alone", 0.055, 0.115), d.uniform("share", 0.3, 0.42))
    x, y = turned(at, either(one, 0 * one, d.normal("rows", 0.2)))
    x, y = (
        x - pitch * either(one, d.normal("x", 0.012), d.uniform("x", 0, 1)),
        y - pitch * either(one, d.normal("y", 0.012), d.uniform("y", 0, 1)),
    )
    u, v = x / pitch + 0.5, y / pitch + 0.5
    column, row = torch.floor(u), torch.floor(v)
    own = one_each(d, "own", column, row)
    slack = (0.5 - share) * (1 - one) * 0.8
    push = slack * (own - 0.5), slack * (one_each(d, "push", column, row) - 0.5)
    turn = d.uniform("turn", 0, 2 * math.pi) + d.choose("unruly", 0.0, 0.3, 6.3) * (own - 0.5)
    u, v = turned((u - column - 0.5 - push[0], v - row - 0.5 - push[1]), turn)
    return Layout((u / share, v / share), share * pitch, own)


def things(shape: Shape, stuff: Callable[[Draws, Place], Look], draws: Draws, at: Place) -> Scene:
    """Copies of a shape made of a material, on a ground, before the same lamp."""
    d, light, size = draws.under("thing"), lamp(draws), at[0].shape[-1]
    lay = layout(d, at)
    inside = shape(d, lay.local) * lay.half
    cover = sharp(inside, size)
    ground = _ground(draws.under("ground"), at)
    reach = d.uniform("tall", 0.08, 0.35) * lay.half
    shift = moved(at, (-light[0] * reach, -light[1] * reach))
    cast = shape(d, layout(d, shift).local) * lay.half
    shadow = smoothstep(0.6 * reach, -0.6 * reach, cast) * d.uniform("shadow", 0.2, 0.75)
    background = ground.colour * relief(ground.height, light)[:, None]
    look = stuff(draws.under("stuff"), moved(lay.local, (lay.own, 3 * lay.own)))
    turn = d.uniform("bevel", 0.08, 0.9) * lay.half
    round_ = (1 - (1 + inside / turn).clamp(0, 1) ** 2).clamp(min=0).sqrt()
    marked, height = _markings(d, look, lay.local, inside / lay.half, size)
    height = 256 * turn * d.uniform("dome", 0.25, 0.8) * round_ + 1.8 * lay.half * height
    shade = relief(height, light) * (1 + d.uniform("tones", 0.0, 0.25) * (lay.own - 0.5))
    front = marked * shade[:, None] + _glint(d, round_, height, light)[:, None]
    image = mix(background * (1 - shadow)[:, None], front, cover)
    return finished(draws, at, image, cover, background, light, 2 * lay.half)


def _markings(d: Draws, look: Look, at: Place, inside: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A groove along the outline, a printed bar, dots or a second half: or none of them."""
    x, y = at
    kind = d.choose("marking", 0, 1, 2, 3, 4, 5)
    deep = d.uniform("inset", 0.1, 0.3)
    line = hill((inside + deep) * 30) * (kind == 1)
    bar = smoothstep(0.02, -0.02, torch.maximum((y - 0.1).abs() - 0.09, x.abs() - 0.55)) * (
        kind == 2
    )
    letters = bar * (one_each(d, "letters", torch.floor(x * 14), torch.floor(y * 14 + 0.5)) < 0.6)
    dots = smoothstep(0.11, 0.07, length((x * 2.4) % 1 - 0.5, (y * 2.4) % 1 - 0.5) / 2.4) * (
        kind == 3
    )
    half = smoothstep(-0.02, 0.02, x) * (kind == 4)
    ink = vary(d, "ink", any_colour(d, "ink tone", 0.95, 0.05, 0.9), 0.02)
    colour = mix(look.colour, ink, torch.maximum(torch.maximum(letters, dots), half) * 0.9)
    colour = colour * (1 - 0.3 * line)[:, None]
    return colour, look.height - 4 * line + d.choose("embossed", 0.0, 3.0, -3.0) * dots


def _glint(d: Draws, round_: Tensor, height: Tensor, light: Place) -> Tensor:
    """The lamp in a glossy rim."""
    facing = relief(height, light, 1.3) - 1
    return d.uniform("gloss", -0.3, 0.5).clamp(min=0) * smoothstep(0.35, 1.0, facing) * round_


def _ground(d: Draws, at: Place) -> Look:
    """A table, a cloth, a belt: quiet or busy."""
    base = any_colour(d, "base", 0.7, 0.03, 0.9)
    clouds = fbm(d, "clouds", at, d.log_uniform("cloud", 0.03, 0.5), 4, 0.6)
    plain = Look(
        base * (1 + d.uniform("uneven", 0.0, 0.12) * clouds)[:, None],
        d.uniform("rough", -0.4, 0.7).clamp(min=0) * clouds,
    )
    kind = d.choose("kind", 0, 0, 0, 1, 2, 3)
    makers = (fabrics.cloth, drawn.wood, minerals.stone)
    for number, maker in enumerate(makers, 1):
        rows = (kind.flatten() == number).nonzero().flatten()
        if len(rows):
            part = maker(d.rows(rows).under("pattern"), (at[0][rows], at[1][rows]))
            plain.colour[rows], plain.height[rows] = part.colour, part.height
    return plain
