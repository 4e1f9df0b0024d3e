"""Surfaces of the body: stained tissue and skin."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayes_pfl.data.synthetic.batched.colours import colour_within, hsv, mix, vary
from bayes_pfl.data.synthetic.batched.fields import (
    Place,
    cells,
    fbm,
    hill,
    moved,
    smoothstep,
    turned,
)
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.scene import Look


def tissue(d: Draws, at: Place) -> Look:
    """A stained section: fibres, nuclei, glands round a lumen, vessels and tears left white."""
    pink = hsv(
        d.uniform("hue", 0.86, 0.98), d.uniform("eosin", 0.18, 0.5), d.uniform("value", 0.75, 0.95)
    )
    blue = hsv(
        d.uniform("blue", 0.66, 0.8), d.uniform("stain", 0.35, 0.75), d.uniform("dark", 0.25, 0.6)
    )
    white = vary(d, "glass", 0 * pink + 0.93, 0.02)
    sway = fbm(d, "sway", at, 0.25, 3)
    bent = moved(at, (0.03 * sway, 0.02 * sway))
    fibres = fbm(
        d,
        "fibres",
        bent,
        0.03,
        3,
        0.65,
        stretch=d.uniform("long", 2, 7),
        radians=d.uniform("run", 0, math.pi),
    )
    colour = mix(pink, vary(d, "stroma", 0.5 + 0.5 * pink, 0.05), smoothstep(-0.5, 1.2, fibres))
    lumen, lining = _glands(d, at, sway)
    colour = mix(colour, vary(d, "lining", 0.6 * pink + 0.4 * blue, 0.04), 0.55 * lining)
    chromatin = fbm(d, "chromatin", at, 0.012, 2, 0.7)
    nucleus, shade = _nuclei(d, bent, 0.25 * sway + 0.6 * lining, fibres)
    dark = blue * (shade + 0.12 * chromatin)[:, None]
    colour = mix(colour, dark, nucleus * (1 - lumen))
    tear = smoothstep(
        0.9, 1.1, fbm(d, "tears", bent, 0.22, 3, stretch=2.5) - d.uniform("torn", 0.0, 1.2) + 0.4
    )
    colour = mix(colour, white, torch.maximum(lumen, tear))
    return Look(colour * (1 + 0.03 * chromatin)[:, None], torch.zeros_like(tear))


def _glands(d: Draws, at: Place, sway: Tensor) -> tuple[Tensor, Tensor]:
    """The hollow of each gland, and the cells that line it."""
    place = moved(at, (0.04 * sway, 0.03 * fbm(d, "sway y", at, 0.2, 2)))
    near, _, kind = cells(d, "glands", place, d.log_uniform("gland", 0.12, 0.4))
    there, near = (kind < d.uniform("glandular", -0.2, 0.9)) * 1.0, near / (0.5 + kind)
    return there * smoothstep(0.2, 0.15, near), there * hill((near - 0.33) * 8)


def _nuclei(d: Draws, at: Place, crowd: Tensor, fibres: Tensor) -> tuple[Tensor, Tensor]:
    """Where nuclei are, denser in a crowd, and the shade of each."""
    near, _, own = cells(d, "nuclei", at, d.log_uniform("nuclei", 0.018, 0.045), 0.9)
    there = own < d.uniform("density", 0.25, 0.75) + crowd
    edge = near - (0.2 + 0.2 * (own * 57 % 1)) + 0.05 * fibres
    return smoothstep(0.05, -0.05, edge) * there, 0.85 + 0.3 * (own * 23 % 1)


def skin(d: Draws, at: Place) -> Look:
    """Skin from near: the net of its furrows, pores, freckles, veins, hair."""
    tone = colour_within(d, (0.02, 0.09), (0.2, 0.65), (0.3, 0.97))
    blush = fbm(d, "blush", at, 0.3, 3)
    u, v = turned(moved(at, (0.01 * blush, 0.01 * blush)), d.uniform("run", 0, math.pi))
    size = d.log_uniform("furrows", 0.025, 0.07)
    _, net, own = cells(d, "furrows", (u / d.uniform("drawn", 1.0, 2.5), v), size)
    furrow = smoothstep(0.16, 0.0, net) * d.uniform("dry", 0.2, 1.0)
    freckles, _, kind = cells(d, "freckles", at, d.log_uniform("freckle", 0.04, 0.15))
    freckle = smoothstep(0.3, 0.05, freckles / (0.3 + kind * 5 % 1)) * (
        kind < d.uniform("freckled", -0.3, 0.7)
    )
    vein = hill(fbm(d, "veins", at, 0.45, 2) * 22) * d.uniform("veiny", -0.15, 0.2).clamp(min=0)
    pore = smoothstep(1.9, 2.6, fbm(d, "pores", at, 0.012, 1)) * 0.35
    red = (
        torch.stack([0.25 * blush, 0 * blush, 0 * blush], 1)
        * d.uniform("flushed", 0.0, 0.35)[:, None]
    )
    shade = 1 - 0.14 * furrow - pore + 0.05 * (own - 0.5) + 0.04 * blush
    colour = mix(
        tone * (1 + red) * shade[:, None],
        tone * tone.new_tensor([0.6, 0.45, 0.36]).view(1, 3, 1, 1),
        0.75 * freckle,
    )
    colour = mix(colour, tone * tone.new_tensor([0.6, 0.68, 0.75]).view(1, 3, 1, 1), vein)
    hair = _hairs(d, at)
    colour = mix(colour, vary(d, "hair", tone * 0.25, 0.06), hair)
    return Look(colour, 256 * size * 0.12 * (1 - furrow) + 0.8 * hair)


def _hairs(d: Draws, at: Place) -> Tensor:
    """A few thin hairs, each a bow of its own."""
    total = torch.zeros_like(at[0] + d.uniform("none"))
    for number in range(7):
        h = d.under(f"hair {number}")
        place = moved(at, (h.uniform("x", -0.5, 0.5), h.uniform("y", -0.5, 0.5)))
        u, v = turned(place, d.uniform("comb", 0, math.pi) + h.normal("turn", 0.5))
        far = (v - h.normal("bow", 0.9) * u * u).abs()
        reach = smoothstep(0.0, 0.03, h.uniform("long", 0.05, 0.3) - u.abs())
        thin = h.uniform("thin", 0.6, 1.6) / 256
        there = h.chance("there", 1.0) * (d.uniform("hairy") > 0.14 * number + 0.1)
        total = torch.maximum(total, there * reach * smoothstep(2 * thin, 0.4 * thin, far))
    return total
