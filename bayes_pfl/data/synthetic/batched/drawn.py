"""Materials drawn out along one direction: wood and brushed or rolled metal."""

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
    hill,
    length,
    moved,
    one_each,
    smoothstep,
    turned,
    wave,
)
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.scene import Look

_KNOTS = 3


def wood(d: Draws, at: Place) -> Look:
    """Boards, or one board, with rings that flow round their knots."""
    along, across = turned(at, d.choose("run", 0.0, math.pi / 2) + d.normal("askew", 0.12))
    wide, boarded = d.log_uniform("board", 0.14, 0.6), d.chance("boards", 0.5)
    board = torch.floor(across / wide + d.uniform("first")) * boarded
    own = one_each(d, "boards", board, board * 0)
    gap = (across / wide + d.uniform("first")) % 1
    joint = boarded * smoothstep(1.6 / 256, 0.4 / 256, torch.minimum(gap, 1 - gap) * wide)
    run = along + 5 * own
    across, ring, core = _knots(d, run, across + 3 * own)
    slow = fbm(d, "slow", (run, across), 0.25, 3, stretch=d.uniform("long", 3, 8))
    rings = across * d.log_uniform("rings", 8, 45) + d.uniform("wander", 0.2, 1.6) * slow + ring
    late = smoothstep(0.1, 1.0, rings % 1) * smoothstep(1.0, 0.93, rings % 1)
    fibres = fbm(d, "fibres", (run, across), 0.012, 3, 0.7, stretch=18.0)
    early = colour_within(d, (0.03, 0.12), (0.2, 0.75), (0.3, 0.95))
    early = mix(early, any_colour(d, "paint", 0.6, 0.3, 0.9), d.chance("painted", 0.12))
    dark = vary(d, "late", early * d.uniform("deep", 0.45, 0.85)[:, None], 0.04)
    colour = mix(early, dark, (0.85 * late + 0.12 * slow).clamp(0, 1))
    tone = 1 + 0.3 * (own - 0.5) * boarded + d.uniform("fibrous", 0.03, 0.12) * fibres
    pores = smoothstep(1.3, 1.9, fibres) * d.uniform("pores", 0.0, 0.5)
    colour = mix(colour * (tone * (1 - pores))[:, None], dark * 0.45, core)
    colour = colour * (1 - 0.8 * joint)[:, None]
    return Look(colour, d.uniform("planed", 0.0, 1.0) * (late + 0.4 * fibres) - 2 * joint)


def _knots(d: Draws, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates across that bend round knots, rings of the knots, and how much is knot."""
    ring, core = torch.zeros_like(along), torch.zeros_like(along)
    bend = torch.zeros_like(along)
    for knot in range(_KNOTS):
        k = d.under(f"knot {knot}")
        there, radius = k.chance("there", 0.45), k.log_uniform("radius", 0.012, 0.045)
        u = (along - k.uniform("u", -0.5, 5.5)) / 1.6
        v = across - k.uniform("v", -0.5, 3.5)
        far = length(u, v) / radius
        core = torch.maximum(core, there * smoothstep(1.0, 0.6, far))
        bend = bend + there * 1.6 * v * hill(far * 0.45)
        ring = ring + there * 2.5 * hill(far * 0.6)
    return across - bend, ring, 0.8 * core


def metal(d: Draws, at: Place) -> Look:
    """Brushed, milled, rolled or cast; steel, brass, copper, or painted sheet."""
    run = d.uniform("run", 0, math.pi)
    along, across = turned(at, run)
    brushed = fbm(d, "brush", at, 0.006, 3, 0.8, d.log_uniform("long", 12, 90), run)
    streaks = fbm(d, "streaks", at, 0.05, 2, 0.7, 25.0, run)
    blotch = fbm(d, "blotches", at, d.log_uniform("blotch", 0.1, 0.5), 4)
    steel = hsv(
        d.uniform("blue", 0.5, 0.7), d.uniform("cold", 0, 0.12), d.uniform("value", 0.3, 0.85)
    )
    warm = hsv(
        d.uniform("warm", 0.03, 0.14), d.uniform("vivid", 0.2, 0.6), d.uniform("gold", 0.45, 0.9)
    )
    base = either(d.chance("alloy", 0.25), warm, steel)
    base = either(d.chance("painted", 0.15), any_colour(d, "paint"), base)
    finish = d.choose("finish", 0, 0, 1, 2)
    mill = wave(across * d.log_uniform("mill", 12, 70) + 0.1 * blotch)
    cast = fbm(d, "cast", at, d.log_uniform("sand", 0.008, 0.05), 3, 0.7)
    fine = torch.where(
        finish == 0, brushed, torch.where(finish == 1, 0.7 * mill + 0.4 * brushed, 0.5 * cast)
    )
    sheen = hill(
        (across - d.uniform("glance", -0.5, 0.5) + 0.04 * blotch) / d.uniform("broad", 0.1, 0.6)
    )
    shade = 0.85 + d.uniform("contrast", 0.03, 0.12) * fine + 0.04 * streaks
    shade = shade + d.uniform("sheen", 0.0, 0.45) * sheen + d.uniform("worn", 0.0, 0.06) * blotch
    height = torch.where(
        finish == 2,
        d.uniform("sanded", 0.3, 1.1) * cast,
        torch.where(finish == 1, 1.2 * mill, 0.15 * brushed),
    )
    line = ((across + d.uniform("rest")) / d.log_uniform("pitch", 0.12, 0.5)) % 1
    groove = hill((line - 0.5) * d.uniform("narrow", 60, 160)) * d.chance("grooved", 0.25)
    speck = smoothstep(2.3, 3.0, grain(d, "specks", at[0].shape[-1])) * d.chance("specked", 0.3)
    return Look(base * (shade - 0.25 * groove - 0.15 * speck)[:, None], height - 2.5 * groove)


def plastic(d: Draws, at: Place) -> Look:
    """Moulded: even, glossy or finely pitted; now and then marbled."""
    base = any_colour(d, "base", 0.95, 0.06, 0.95)
    swirl = fbm(d, "swirl", moved(at, (0.1 * fbm(d, "flow", at, 0.3, 2), 0.0)), 0.25, 3)
    colour = mix(
        base, vary(d, "swirled", base, 0.15), smoothstep(0, 1, swirl) * d.chance("marbled", 0.25)
    )
    pitted = fbm(d, "pits", at, d.log_uniform("pit", 0.008, 0.03), 2)
    return Look(colour * (1 + 0.025 * pitted)[:, None], d.uniform("matt", 0.0, 0.6) * pitted)
