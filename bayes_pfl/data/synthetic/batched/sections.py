"""Grey pictures as scanners make them: sections of a head and of a trunk."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayes_pfl.data.synthetic.batched.fields import (
    Place,
    fbm,
    grain,
    hill,
    length,
    moved,
    smoothstep,
    turned,
)
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.scene import Scene

_ORGANS = 6


def section(draws: Draws, at: Place, head: bool) -> Scene:
    """A grey section as scanners make them: of a head (halves alike), or of a trunk."""
    d = draws.under("section")
    batch, size = len(draws.keys), at[0].shape[-1]
    x, y = turned(moved(at, (d.normal("x", 0.025), d.normal("y", 0.025))), d.normal("tilt", 0.12))
    wide, high = (d.uniform("wide", 0.28, 0.38), d.uniform("high", 0.36, 0.45)) if head else (
        d.uniform("wide", 0.38, 0.47), d.uniform("high", 0.25, 0.36))  # fmt: skip
    wobble = fbm(d, "outline", at, 0.4, 2)
    depth = (1 - length(x / wide, y / high) + d.uniform("wobbly", 0.01, 0.05) * wobble) * high
    body = smoothstep(-0.004, 0.004, depth)
    rim, layer = d.uniform("rim", 0.012, 0.03), d.uniform("layer", 0.012, 0.035)
    inner = smoothstep(rim + layer - 0.004, rim + layer + 0.004, depth)
    inside = _brain(d, x, y, wide, high) if head else _trunk(d, x, y, wide, high)
    bone = smoothstep(0.005, -0.005, (depth - rim - 0.5 * layer).abs() - 0.5 * layer)
    shell = d.uniform("fat", 0.25, 0.75) + (d.choose("bone", -0.5, 0.5, 0.7) * bone if head else 0)
    value = body * (inner * inside + (1 - inner) * shell)
    texture = fbm(d, "texture", at, 0.02, 3, 0.8)
    value = value * (1 + d.uniform("textured", 0.02, 0.1) * texture) + d.uniform("dark", 0.0, 0.04)
    value = value * (1 + d.uniform("coil", 0.0, 0.25) * at[1])
    value = value + d.uniform("noise", 0.0, 0.035) * grain(d, "noise", size) * (0.3 + value)
    image = (value * d.uniform("window", 0.75, 1.15)).clamp(0, 1)[:, None].expand(-1, 3, -1, -1)
    c, s = draws.angle("lamp")
    return Scene(
        image.contiguous(),
        inner * body,
        torch.zeros_like(image) + 0.02,
        torch.ones_like(value),
        0.6 * torch.stack([c, s], 1),
        torch.ones_like(c),
        torch.ones(batch, dtype=torch.bool, device=value.device),
    )


def _brain(d: Draws, x: Tensor, y: Tensor, wide: Tensor, high: Tensor) -> Tensor:
    """Folded bark round white matter, two ventricles, the cleft between the halves."""
    half = torch.sqrt(x * x + 1e-4)
    lean = 0.012 * fbm(d, "lean", (x, y), 0.2, 2)
    folds = fbm(d, "folds", (half + lean, y + lean), d.uniform("fold", 0.05, 0.085), 2)
    depth = 1 - length(x / wide, y / high)
    bark = smoothstep(0.3, 0.2, depth + 0.3 * (hill(folds * 2.2) - 0.5))
    furrow = hill((folds.abs() - 1.1) * 7) * smoothstep(0.45, 0.2, depth)
    white, water = d.uniform("white", 0.35, 0.8), d.choose("water", 0.05, 0.1, 0.95)
    grey = white * d.choose("bark", 0.55, 0.7, 1.3)
    value = white + (grey - white) * bark
    value = value + (water - value) * 0.7 * furrow
    cleft = smoothstep(0.012, 0.003, x.abs() + lean.abs()) * smoothstep(0.05, 0.12, y.abs())
    u, v = turned(
        (half - d.uniform("apart", 0.03, 0.06), y + d.uniform("up", -0.03, 0.03)),
        d.uniform("splay", -0.5, 0.5),
    )
    horn = (
        length(u / d.uniform("thick", 0.012, 0.035), v / d.uniform("long", 0.06, 0.13)) + 3 * lean
    )
    kernel = length((half - 0.075) / 0.035, (y - 0.01) / 0.05)
    value = value + (grey - value) * 0.7 * smoothstep(1.15, 0.85, kernel)
    value = value + (water - value) * torch.maximum(0.8 * cleft, smoothstep(1.12, 0.9, horn))
    return value


def _trunk(d: Draws, x: Tensor, y: Tensor, wide: Tensor, high: Tensor) -> Tensor:
    """Organs of random place and grey in fat, a spine, vessels; ribs in a row along the wall."""
    value = d.uniform("base", 0.15, 0.4) + 0.03 * fbm(d, "fat", (x, y), 0.08, 3)
    edge = fbm(d, "edges", (x, y), 0.12, 3)
    for organ in range(_ORGANS):
        o = d.under(f"organ {organ}")
        u, v = turned(
            (x - o.uniform("x", -0.7, 0.7) * wide, y - o.uniform("y", -0.65, 0.4) * high),
            o.uniform("turn", 0, math.pi),
        )
        far = (
            length(u / o.log_uniform("long", 0.05, 0.2), v / o.log_uniform("broad", 0.035, 0.13))
            + 0.12 * edge
        )
        cover = smoothstep(1.06, 0.94, far)
        own = o.uniform("grey", 0.25, 0.8) + 0.05 * edge - 0.1 * smoothstep(0.75, 1.0, far)
        hollow = o.chance("hollow", 0.3) * smoothstep(0.75, 0.65, far)
        value = value + (own * (1 - 0.8 * hollow) - value) * cover
    spine_y = y - d.uniform("spine", 0.5, 0.62) * high
    spine = torch.minimum(
        length(x / 0.045, spine_y / 0.038), length(x / 0.085, (spine_y - 0.05) / 0.02)
    )
    marrow = smoothstep(0.75, 0.6, length(x / 0.045, spine_y / 0.038))
    value = value + (0.95 - 0.3 * marrow - value) * smoothstep(1.1, 0.9, spine)
    vessel = length((x - d.uniform("aorta", -0.06, 0.06)) / 0.022, (spine_y + 0.075) / 0.022)
    value = value + (d.uniform("blood", 0.5, 0.9) - value) * smoothstep(1.1, 0.9, vessel)
    return value
