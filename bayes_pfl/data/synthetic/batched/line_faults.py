"""Faults that are lines: scratches, cracks, threads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayes_pfl.data.synthetic.batched.colours import either, hsv, mix
from bayes_pfl.data.synthetic.batched.fields import Place, fbm, moved, smoothstep
from bayes_pfl.data.synthetic.batched.hashing import Draws, direction
from bayes_pfl.data.synthetic.batched.marks import (
    Mark,
    Spot,
    apart,
    curve,
    jagged,
    stroke,
    tint,
    toned,
)
from bayes_pfl.data.synthetic.batched.scene import Scene, relief

_SCRATCHES, _BRANCHES = 3, 2


def _behind(spot: Spot, length: Tensor, heading: Tensor, shift: Place) -> Place:
    """Where a line starts that has its middle at the spot."""
    c, s = direction(heading)
    x, y = spot.middle
    return x - 0.5 * length * c + shift[0], y - 0.5 * length * s + shift[1]


def scratch(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """One to three thin, nearly straight, nearly parallel lines."""
    at, heading = scene.at, d.uniform("heading", 0, 2 * math.pi)
    length = d.log_uniform("length", 14 / 256, 1.1 * spot.extent)
    width = d.log_uniform("width", 0.7, 3.2) / 256
    count, bend = d.choose("count", 1, 1, 1, 2, 3), d.choose("bend", 0.03, 0.1, 0.5)
    alpha = torch.zeros_like(scene.where)
    for number in range(_SCRATCHES):
        k = d.under(f"line {number}")
        turn, reach = heading + k.normal("turn", 0.06), length * k.uniform("reach", 0.5, 1)
        shift = k.normal("x", 0.06) * length, k.normal("y", 0.06) * length
        points = curve(k, _behind(spot, reach, turn, shift), reach, turn, bend, 8)
        taper = torch.tensor([0.5, 0.8, 1, 1, 1, 0.9, 0.7, 0.4], device=alpha.device)
        pressure = width[:, 0] * taper * (1 + 0.25 * k.white("pressure", 8))
        alpha = torch.maximum(alpha, stroke(at, points, pressure) * (number < count))
    skips = fbm(d, "skips", at, 0.02, 2)
    alpha = alpha * either(d.chance("skipping", 0.3), smoothstep(-1.2, 0.0, skips), 1 + 0 * skips)
    target = (
        scene.image
        + (apart(d, scene, spot, 0.2, 0.9) - scene.image) * d.uniform("deep", 0.6, 1)[:, None]
    )
    furrow = relief(-4 * alpha * d.chance("furrow", 0.4), scene.lamp)
    return Mark(target * furrow[:, None], alpha * scene.where)


def crack(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A jagged, branching line, hair-thin to gaping."""
    heading, crumble = d.uniform("heading", 0, 2 * math.pi), d.uniform("crumble", 0.0, 0.005)
    shake = fbm(d, "crumbs", scene.at, 0.025, 3, 0.7)
    at = moved(scene.at, (crumble * shake, -crumble * shake))
    shortest = either(d.chance("short", 0.4), 18 / 256 + 0 * heading, 0.5 * spot.extent)
    length = d.log_uniform("length", shortest, 1.6 * spot.extent)
    width = torch.minimum(d.log_uniform("width", 0.7, 4.5) / 256, 0.12 * length)
    c, s = direction(heading)
    reach = torch.stack([(0.5 * length * c).flatten(), (0.5 * length * s).flatten()], 1)
    middle = torch.stack([spot.middle[0].flatten(), spot.middle[1].flatten()], 1)
    rough = d.uniform("rough", 0.08, 0.24)
    points = jagged(d, middle - reach, middle + reach, rough, 5)
    alpha = stroke(at, points, _tapered(d, width, 32, both=True))
    for number in range(_BRANCHES):
        alpha = torch.maximum(
            alpha, _branch(d.under(f"branch {number}"), at, points, reach, width, rough)
        )
    depth = d.uniform("depth", 0.4, 0.97)[:, None]
    soil = toned(
        scene,
        hsv(d.uniform("hue", 0.03, 0.1), d.uniform("soil", 0, 0.4), d.uniform("dark", 0.02, 0.2)),
    )
    soil = either(d.chance("filled", 0.12), apart(d, scene, spot, 0.3, 0.8), soil)
    target = scene.image + (soil - scene.image) * depth
    lips = relief(-d.uniform("lips", -4, 5).clamp(min=0) * alpha, scene.lamp)
    return Mark(target * lips[:, None], alpha * scene.where)


def _tapered(d: Draws, width: Tensor, count: int, both: bool) -> Tensor:
    """Widths of segments, thin towards one end or both, wavering; (B, count)."""
    along = (torch.arange(count, device=width.device) + 0.5) / count
    taper = (4 * torch.minimum(along, 1 - along) if both else 1.5 * (1 - along)).clamp(0.3, 1)
    return width[:, 0] * taper * (1 + 0.25 * d.white("waver", count))


def _branch(
    d: Draws, at: Place, points: Tensor, reach: Tensor, width: Tensor, rough: Tensor
) -> Tensor:
    """A line that leaves another one; there or not."""
    first = (d.bits("leaves", 1, 1) % 24 + 4).expand(-1, 1, 2)
    start = points.gather(1, first)[:, 0]
    turn = d.choose("side", -1, 1) * d.uniform("angle", 0.3, 1.3)
    c, s = (part[:, :, 0] for part in direction(turn))
    share = d.uniform("share", 0.25, 1.0)[:, 0]
    x, y = reach[:, :1], reach[:, 1:]
    end = start + share * torch.cat([c * x - s * y, s * x + c * y], 1)
    line = jagged(d, start, end, rough, 3)
    widths = _tapered(d, width * d.uniform("thin", 0.35, 0.8), 8, both=False)
    return stroke(at, line, widths) * d.chance("there", 0.55)


def thread(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A hair, thread or fibre lying in loops, with a shadow."""
    at, heading = scene.at, d.uniform("heading", 0, 2 * math.pi)
    length = d.log_uniform("length", 24 / 256, 1.4 * spot.extent)
    width = d.log_uniform("width", 0.9, 3.5) / 256
    start = _behind(spot, 0.6 * length, heading, (0.0, 0.0))
    points = curve(d, start, length, heading, d.uniform("bend", 0.5, 2.6), 18)
    widths = width[:, 0].expand(-1, 18)
    alpha = stroke(at, points, widths)
    drop = torch.cat(scene.light.unbind(1), 2)[:, 0][:, None] * (1.5 / 256)
    shadow = stroke(at, points - drop, 1.6 * widths) * d.uniform("shadow", -0.3, 0.5).clamp(min=0)
    tone = either(
        d.chance("coloured", 0.4), tint(d, scene, 0.1, 1.0), apart(d, scene, spot, 0.3, 0.9)
    )
    lit = tone * relief(2.0 * alpha, scene.lamp, 0.6)[:, None]
    target = mix(scene.image * 0.3, lit, smoothstep(0.2, 0.4, alpha))
    return Mark(target, torch.maximum(alpha, shadow * (1 - alpha)) * scene.where)
