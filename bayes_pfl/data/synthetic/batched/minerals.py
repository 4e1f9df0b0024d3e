"""Materials without a pattern of their own: stone, chips in a ground, plaster."""

from __future__ import annotations

import math

from bayes_pfl.data.synthetic.batched.colours import any_colour, colour_within, either, mix, vary
from bayes_pfl.data.synthetic.batched.fields import (
    Place,
    cells,
    fbm,
    grain,
    hill,
    moved,
    smoothstep,
)
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.scene import Look


def stone(d: Draws, at: Place) -> Look:
    """From speckled granite to veined marble; polished, or rough from the saw."""
    base = colour_within(d, (0, 1), (0.0, 0.35), (0.2, 0.9))
    other = vary(d, "other", base, 0.16)
    clouds = fbm(d, "clouds", at, d.log_uniform("cloud", 0.08, 0.6), 5)
    colour = mix(base, other, smoothstep(-1.2, 1.2, clouds))
    flake = fbm(d, "flakes", at, d.log_uniform("flake", 0.008, 0.05), 2, 0.8)
    share = d.uniform("share", 0.3, 1.3)
    dark, light = smoothstep(share, share + 0.4, flake), smoothstep(share, share + 0.4, -flake)
    speckled = d.chance("speckled", 0.55)
    colour = mix(colour, vary(d, "dark", base * 0.35, 0.1), dark * speckled)
    colour = mix(colour, vary(d, "bright", 0.5 + 0.5 * base, 0.1), 0.8 * light * speckled)
    pull = d.uniform("pull", 0.02, 0.12)
    sway = fbm(d, "sway", at, 0.3, 3)
    bent = moved(at, (pull * sway, -pull * sway))
    vein = fbm(d, "veins", bent, d.log_uniform("vein", 0.25, 0.8), 3, stretch=2.5,
               radians=d.uniform("run", 0, math.pi))  # fmt: skip
    line = hill(vein * d.log_uniform("thin", 5, 25)) * smoothstep(-1.0, 0.8, sway)
    veined = either(speckled, d.chance("both", 0.2), d.uniform("veined", 0.3, 1.0))
    tone = either(d.chance("dark veins", 0.5), base * 0.3, 0.6 + 0.4 * base)
    colour = mix(colour, vary(d, "vein tone", tone, 0.08), line * veined)
    return Look(
        colour,
        d.uniform("rough", -0.2, 0.5).clamp(min=0) * (flake + grain(d, "saw", at[0].shape[-1])),
    )


def terrazzo(d: Draws, at: Place) -> Look:
    """Chips of two sizes and several colours, set in cement and ground flat; sometimes cobbles."""
    ground = colour_within(d, (0, 1), (0.0, 0.3), (0.25, 0.9))
    dust = fbm(d, "dust", at, 0.03, 3, 0.7)
    colour = ground * (1 + 0.06 * dust)[:, None]
    height = 0.3 * dust
    tones = [any_colour(d, f"tone {k}", 0.7, 0.1, 0.95) for k in range(3)]
    spread = d.log_uniform("spread", 0.05, 0.16)
    shaky = moved(at, (0.008 * dust, 0.006 * fbm(d, "shake", at, 0.04, 2)))
    for name, spacing in (("small", spread * 0.4), ("large", spread)):
        _, border, kind = cells(d, name, shaky, spacing)
        gap = d.uniform(name + " gap", 0.03, 0.12)
        chip = smoothstep(gap, gap + 0.03 * 0.16 / spread, border)
        chip = chip * (kind < d.uniform(name + " share", 0.3, 1.0))
        pick = kind * 37 % 1
        tone = mix(mix(tones[0], tones[1], (pick > 0.4) * 1.0), tones[2], (pick > 0.75) * 1.0)
        marbled = 1 + 0.25 * (kind * 91 % 1 - 0.5) + 0.07 * dust
        colour = mix(colour, tone * marbled[:, None], chip)
        rounded = d.chance("cobbles", 0.3) * 256 * spacing * 0.5
        height = height * (1 - chip) + chip * rounded * (smoothstep(0, 0.5, border))
    return Look(colour, height)


def plaster(d: Draws, at: Place) -> Look:
    """Paint on a wall: trowel strokes, orange peel of a roller, pits, a patchy second coat."""
    base = any_colour(d, "paint", 0.6, 0.25, 0.95)
    run = d.uniform("run", 0, math.pi)
    sway = fbm(d, "sway", at, 0.5, 2)
    bent = moved(at, (0.1 * sway, 0.06 * sway))
    strokes = fbm(d, "strokes", bent, 0.05, 3, 0.6, d.uniform("long", 2, 9), run)
    peel = fbm(d, "peel", at, d.log_uniform("roller", 0.012, 0.04), 2)
    height = d.log_uniform("trowel", 0.2, 1.8) * strokes + d.uniform("rolled", 0.0, 0.9) * peel
    near, _, kind = cells(d, "pits", at, d.log_uniform("pit", 0.04, 0.12))
    pit = smoothstep(0.24, 0.1, near / (0.2 + kind)) * (kind < d.uniform("pitted", -0.3, 0.5))
    coat = smoothstep(-0.3, 0.5, sway + 0.4 * strokes) * d.uniform("coat", 0.0, 0.7)
    colour = mix(base, vary(d, "second", base, 0.1), coat)
    shade = 1 + 0.04 * peel + d.uniform("dirt", 0, 0.08) * fbm(d, "dirt", at, 0.3)
    drip = smoothstep(0.9, 1.7, fbm(d, "drips", at, 0.02, 2, stretch=14.0,
                                    radians=0 * run + math.pi / 2))  # fmt: skip
    shade = shade - d.chance("dripped", 0.3) * 0.12 * drip
    return Look(colour * (shade * (1 - 0.45 * pit))[:, None], height - 3 * pit)
