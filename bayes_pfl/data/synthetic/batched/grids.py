"""Regular things: tiles and bricks, wire mesh, print."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayes_pfl.data.synthetic.batched.colours import (
    any_colour,
    colour_within,
    either,
    hsv,
    mix,
    vary,
)
from bayes_pfl.data.synthetic.batched.fields import (
    Place,
    fbm,
    grain,
    length,
    moved,
    one_each,
    sharp,
    smoothstep,
    turned,
    wave,
)
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.scene import Look


def tiles(d: Draws, at: Place) -> Look:
    """Tiles, bricks or slabs with joints; each of its own shade, some of its own colour."""
    size = at[0].shape[-1]
    rough = fbm(d, "rough", at, d.log_uniform("grit", 0.02, 0.1), 4, 0.6)
    ragged = d.uniform("ragged", 0.0, 0.004)
    x, y = turned(
        moved(at, (ragged * rough, ragged * rough)),
        d.choose("lie", 0, 0, 0.25) * math.pi + d.normal("askew", 0.04),
    )
    high = d.log_uniform("high", 0.09, 0.34)
    wide = high * d.choose("shape", 1.0, 1.0, 2.0, 2.6, 3.5)
    v = y / high + d.uniform("v")
    row = torch.floor(v)
    u = x / wide + d.uniform("u") + row * d.choose("bond", 0.0, 0.5, 0.5, 0.33)
    column = torch.floor(u)
    inner_x, inner_y = ((u - column - 0.5).abs() - 0.5) * wide, ((v - row - 0.5).abs() - 0.5) * high
    joint = d.uniform("joint", 0.004, 0.016)
    edge = torch.maximum(inner_x, inner_y) + joint
    tile = sharp(edge, size, d.uniform("soft", 0.0, 0.006))
    colour = _glaze(d, (x, y), (column, row), rough)
    grout = vary(d, "grout", hsv(d.uniform("sand"), 0.12, d.uniform("cement", 0.2, 0.9)), 0.03)
    grout = grout * (1 + 0.1 * rough + 0.04 * grain(d, "sand", size))[:, None]
    bevel = smoothstep(0.0, -d.uniform("bevel", 0.004, 0.03), edge)
    height = tile * (
        1
        + 4 * bevel * d.uniform("cushion", 0.1, 1.0)
        + d.uniform("rustic", -0.4, 0.9).clamp(min=0) * rough
    )
    return Look(mix(grout, colour, tile), height)


def _glaze(d: Draws, at: Place, tile: Place, rough: Tensor) -> Tensor:
    """The colour of tiles, whose numbers are ``tile``: one or two, each of its own shade."""
    column, row = tile
    own, again = one_each(d, "own", column, row), one_each(d, "again", column, row)
    base = any_colour(d, "base", 0.7, 0.15, 0.95)
    second = either(
        d.chance("two", 0.35), any_colour(d, "second", 0.7, 0.15, 0.95), vary(d, "kin", base, 0.08)
    )
    checked = torch.where(d.chance("checked", 0.5) > 0.5, (column + row) % 2, (again < 0.25) * 1.0)
    cloud = fbm(
        d, "clouds", (at[0] + 3 * own, at[1] + 5 * again), d.log_uniform("cloud", 0.06, 0.4), 4
    )
    shade = (
        1
        + d.uniform("shades", 0.02, 0.35) * (own - 0.5)
        + d.uniform("marbling", 0.02, 0.14) * cloud
    )
    shade = shade + d.uniform("gritty", 0.0, 0.1) * rough
    return mix(base, second, checked) * shade[:, None]


def mesh(d: Draws, at: Place) -> Look:
    """Wires that pass over and under each other, or a punched sheet, before a blurred ground."""
    size = at[0].shape[-1]
    sway = fbm(d, "sway", at, 0.5, 2) * d.uniform("sag", 0.0, 0.006)
    x, y = turned(
        moved(at, (sway, sway)), d.choose("lie", 0.0, 0.25) * math.pi + d.normal("askew", 0.08)
    )
    pitch = d.log_uniform("pitch", 0.045, 0.16)
    u, v = x / pitch, y / (pitch * d.choose("oblong", 1.0, 1.0, 1.5))
    thick = d.uniform("thick", 0.09, 0.24)
    a, b = (u - torch.floor(u) - 0.5) / thick, (v - torch.floor(v) - 0.5) / thick
    parity = wave(0.5 * torch.floor(u) + 0.5 * torch.floor(v) + 0.25)
    woven = d.chance("woven", 0.6)
    # Each wire is a cylinder whose axis rises and falls past its neighbours.
    first = (1 - a * a).clamp(min=0).sqrt() + woven * parity * (
        1 - 2 * (v - torch.floor(v) - 0.5).abs()
    )
    other = (1 - b * b).clamp(min=0).sqrt() - woven * parity * (
        1 - 2 * (u - torch.floor(u) - 0.5).abs()
    )
    first, other = torch.where(a.abs() < 1, first, -9.0), torch.where(b.abs() < 1, other, -9.0)
    hole = (d.uniform("punched", 0.28, 0.42) - length(a * thick, b * thick)) * pitch
    wires = torch.maximum(
        sharp((a.abs() - 1) * thick * pitch, size), sharp((b.abs() - 1) * thick * pitch, size)
    )
    punched = d.chance("sheet", 0.3)
    solid = torch.where(punched > 0.5, sharp(hole, size), wires)
    rise = torch.where(
        punched > 0.5, 2 * solid, torch.maximum(first, other).clamp(min=-0.5) * 256 * pitch * thick
    )
    blur = smoothstep(-1.5, 1.5, fbm(d, "behind", at, d.log_uniform("blur", 0.1, 0.5), 3))
    far, near = (any_colour(d, name, 0.7, 0.02, 0.9) for name in ("far", "near"))
    behind = mix(far, near, blur)
    base = colour_within(d, (0, 1), (0.0, 0.4), (0.25, 0.9))
    worn = 0.9 + 0.1 * fbm(d, "worn", at, 0.04, 3) + 0.04 * grain(d, "grit", size)
    depth = smoothstep(-0.6, 1.2, torch.maximum(first, other)) * (1 - punched) + punched
    return Look(mix(behind, base * (worn * (0.55 + 0.45 * depth))[:, None], solid), rise * solid)


def printed(d: Draws, at: Place) -> Look:
    """Ink on paper: halftone dots, stripes, checks, dots, zigzags, or lines of signs."""
    size = at[0].shape[-1]
    x, y = turned(at, d.choose("lie", 0.0, 0.25, 0.12) * math.pi + d.normal("askew", 0.08))
    slow = fbm(d, "slow", at, d.log_uniform("picture", 0.15, 0.5), 3)
    count = d.log_uniform("count", 8, 40)
    u, v = x * count, y * count
    coverage = _motif(d, u, v, slow, size)
    paper, ink = any_colour(d, "paper", 0.5, 0.45, 0.98), any_colour(d, "ink", 0.95, 0.03, 0.75)
    second = either(d.chance("more inks", 0.6), any_colour(d, "ink 2", 0.95, 0.1, 0.9), ink)
    part = torch.where(
        d.chance("by cell", 0.5) > 0.5,
        one_each(d, "part", torch.floor(u), torch.floor(v)),
        smoothstep(-0.2, 0.2, slow),
    )
    colour = mix(
        paper, mix(ink, second, (part > 0.5) * 1.0), coverage * d.uniform("density", 0.6, 1.0)
    )
    band = (turned(at, d.choose("band", 0, math.pi / 2))[0] - d.uniform("band at", -0.4, 0.4)).abs()
    banded = sharp(band - d.uniform("band wide", 0.02, 0.12), size) * d.chance("banded", 0.4)
    colour = mix(colour, any_colour(d, "band", 0.9, 0.1, 0.95), banded)
    fibre = fbm(d, "fibres", at, 0.03, 3, 0.8)
    return Look(
        colour * (1 + 0.03 * fibre + 0.02 * grain(d, "tooth", size))[:, None],
        d.uniform("rough", -0.2, 0.35).clamp(min=0) * fibre,
    )


def _motif(d: Draws, u: Tensor, v: Tensor, slow: Tensor, size: int) -> Tensor:
    """How much ink lies on each place of a pattern with cells of one unit."""
    column, row = torch.floor(u), torch.floor(v)
    x, y = u - column - 0.5, v - row - 0.5
    far, share, kind = length(x, y), d.uniform("share", 0.2, 0.42), d.choose("motif", *range(7))
    dots = smoothstep(0.06, -0.06, far - 0.55 * smoothstep(-2, 2, slow))
    stripes = smoothstep(-0.1, 0.1, wave(u) - 1 + 3 * share)
    checks = ((column + row) % 2) * 0.75 + 0.25 * ((torch.floor(u / 4) + torch.floor(v / 4)) % 2)
    spots = smoothstep(0.05, -0.05, far - share * (0.6 + 0.4 * one_each(d, "spots", column, row)))
    zigzag = smoothstep(-0.1, 0.1, wave(v + 0.6 * (u % 2 - 1).abs()) - 0.6 + 2 * share)
    rings = smoothstep(0.07, 0.03, (far - share).abs()) + smoothstep(0.12, 0.08, far)
    signs = _signs(d, u, v)
    options = (dots, stripes, checks, spots, zigzag, rings, signs)
    return sum(option * (kind == number) for number, option in enumerate(options))


def _signs(d: Draws, u: Tensor, v: Tensor) -> Tensor:
    """Rows of made-up letters: random strokes on three by five places, words apart."""
    u, v = 2.2 * u, 1.5 * v
    letter, line = torch.floor(u), torch.floor(v)
    x, y = (u - letter) * 4, (v - line) * 8
    stroke = one_each(d, "strokes", torch.floor(x) + 3 * letter, torch.floor(y) + 5 * line) < 0.62
    inside = (x < 3) & (y < 5)
    word = one_each(d, "words", letter, line) < 0.82
    return (stroke & inside & word).float()
