"""Cloth, ribs and knitting, leather."""

from __future__ import annotations

import math

import torch

from bayes_pfl.data.synthetic.batched.colours import any_colour, colour_within, either, mix, vary
from bayes_pfl.data.synthetic.batched.fields import (
    Place,
    cells,
    fbm,
    grain,
    moved,
    one_each,
    smoothstep,
    turned,
    wave,
)
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.scene import Look


def _loose(d: Draws, at: Place, pull: float) -> Place:
    """Threads are never quite straight."""
    amount = d.uniform("pull", 0.0, pull)
    x, y = fbm(d, "pull x", at, 0.3, 2), fbm(d, "pull y", at, 0.3, 2)
    return moved(at, (amount * x, amount * y))


def cloth(d: Draws, at: Place) -> Look:
    """Plain weave, twill or basket of threads in stripes or checks; fine to coarse."""
    lie = d.choose("lie", 0.0, 0.25) * math.pi + d.normal("askew", 0.1)
    u, v = turned(_loose(d, at, 0.012), lie)
    count = d.log_uniform("count", 22, 75)
    u, v = u * count, v * count * d.uniform("close", 0.7, 1.3)
    warp, weft = torch.floor(u), torch.floor(v)
    weave = d.choose("weave", 0, 1, 2, 3)
    plain, basket = (warp + weft) % 2, (torch.floor(u / 2) + torch.floor(v / 2)) % 2
    twill, satin = ((warp + weft) % 4 < 2) * 1.0, ((warp + 2 * weft) % 5 < 1) * 1.0
    over = torch.where(
        weave == 0, plain, torch.where(weave == 1, basket, torch.where(weave == 2, twill, satin))
    )
    x, y = u - warp - 0.5, v - weft - 0.5
    profile = over * (1 - 3.6 * x * x) + (1 - over) * (1 - 3.6 * y * y)
    repeat = torch.floor(d.uniform("repeat", 6, 24))
    stripe = one_each(d, "warp", warp % repeat, warp * 0) < d.uniform("striped", -0.3, 0.6)
    band = one_each(d, "weft", weft % repeat, weft * 0) < d.uniform("banded", -0.5, 0.5)
    base = any_colour(d, "base", 0.85, 0.12, 0.95)
    cross = vary(d, "cross", base, 0.12)
    second = either(d.chance("tonal", 0.4), vary(d, "tone", base, 0.12), any_colour(d, "second"))
    upper, lower = mix(base, second, stripe * 1.0), mix(cross, second, band * 1.0)
    slub = one_each(d, "slub", warp, torch.floor(v / 7)) * over + one_each(
        d, "slubs", torch.floor(u / 7), weft
    ) * (1 - over)
    shade = 0.72 + 0.3 * profile + d.uniform("slubby", 0.0, 0.3) * (slub - 0.5)
    shade = shade + 0.05 * grain(d, "fuzz", at[0].shape[-1]) + 0.05 * fbm(d, "worn", at, 0.3)
    fold = d.uniform("folds", 0, 7) * fbm(d, "folds", at, 0.35, 2, stretch=2.0, radians=lie + 0.6)
    return Look(mix(lower, upper, over) * shade[:, None], profile * 100 / count * 0.4 + fold)


def ribs(d: Draws, at: Place) -> Look:
    """Corduroy, ribbed knitting with its V-shaped stitches, or a grooved mat."""
    u, v = turned(_loose(d, at, 0.015), d.choose("lie", 0, math.pi / 2) + d.normal("askew", 0.15))
    count = d.log_uniform("count", 9, 42)
    u = u * count
    knitted = d.chance("knitted", 0.5)
    x = (u - torch.floor(u) - 0.5).abs()
    stitch = v * count * d.uniform("tight", 0.9, 1.6) + 1.3 * x
    loop = wave(stitch) * (1 - 3 * (x - 0.25).abs())
    profile = torch.where(
        knitted > 0.5, 0.6 * loop - 1.2 * smoothstep(0.1, 0.0, x) + 0.4, 1 - 4.4 * x * x
    )
    row = torch.floor(stitch)
    base, second = any_colour(d, "base", 0.85, 0.12, 0.95), any_colour(d, "second", 0.85, 0.1, 0.95)
    repeat = torch.floor(d.uniform("repeat", 3, 16))
    across = one_each(d, "rows", row % repeat, row * 0) < 0.4
    along = one_each(d, "ribs", torch.floor(u) % repeat, row * 0) < 0.35
    motif = one_each(d, "motif", torch.floor(u) % repeat, row % repeat) < 0.35
    choice = d.choose("stripes", 0, 0, 1, 2, 3)
    coloured = torch.where(
        choice == 1,
        across & (knitted > 0.5),
        torch.where(choice == 2, along, motif & (choice == 3) & (knitted > 0.5)),
    )
    nap = fbm(d, "nap", at, 0.012, 2, 0.8, stretch=3.0)
    shade = (
        0.72 + 0.28 * profile + 0.06 * nap + d.uniform("worn", 0, 0.12) * fbm(d, "worn", at, 0.25)
    )
    return Look(mix(base, second, coloured * 1.0) * shade[:, None], profile * 90 / count)


def leather(d: Draws, at: Place) -> Look:
    """Cells between wrinkles, coarse and fine, drawn out; creases; a seam now and then."""
    brown = colour_within(d, (0.02, 0.11), (0.3, 0.8), (0.12, 0.8))
    base = either(d.chance("dyed", 0.35), any_colour(d, "dye", 0.8, 0.06, 0.9), brown)
    sway = fbm(d, "sway", at, 0.12, 2)
    u, v = turned(moved(at, (0.015 * sway, 0.012 * sway)), d.uniform("run", 0, math.pi))
    u = u / d.uniform("drawn", 1.0, 2.2)
    size = d.log_uniform("cell", 0.02, 0.075)
    _, coarse, own = cells(d, "coarse", (u, v), size)
    _, fine, _ = cells(d, "fine", (u, v), size * 0.38)
    pebble = smoothstep(0.0, d.uniform("round", 0.12, 0.4), coarse)
    small = smoothstep(0.0, 0.25, fine)
    crease = fbm(d, "creases", at, 0.12, 3, stretch=4.0, radians=d.uniform("crease", 0, math.pi))
    fold = (
        smoothstep(0.12, 0.0, crease.abs())
        * d.uniform("creased", 0.0, 1.0)
        * smoothstep(-0.3, 0.8, sway)
    )
    height = 256 * size * 0.22 * pebble + d.uniform("pores", 0.2, 1.0) * small - 1.6 * fold
    shade = 0.78 + 0.16 * pebble + 0.06 * small + 0.08 * (own - 0.5) - 0.16 * fold
    shade = shade + d.uniform("patina", 0.0, 0.14) * fbm(d, "patina", at, 0.3)
    seam, stitch = turned(at, d.choose("seam run", 0, math.pi / 2) + d.normal("seam tilt", 0.05))
    off = seam - d.uniform("seam at", -0.4, 0.4)
    sewn = (
        d.chance("seam", 0.25)
        * smoothstep(0.007, 0.004, off.abs())
        * smoothstep(0.2, 0.3, (stitch * 28) % 1)
    )
    groove = d.chance("seam", 0.25) * smoothstep(0.016, 0.0, off.abs())
    colour = mix(base * shade[:, None], any_colour(d, "yarn", 0.5, 0.3, 0.95), sewn)
    return Look(colour, height - 3 * groove + 2.5 * sewn)
