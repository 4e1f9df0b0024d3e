"""Faults that are patches: stains, dirt, burns, holes, dents."""

from __future__ import annotations

import torch

from bayes_pfl.data.synthetic.batched.colours import either, hsv, mix
from bayes_pfl.data.synthetic.batched.fields import fbm, grain, hill, moved, smoothstep
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.marks import (
    Mark,
    Spot,
    apart,
    blob,
    patch,
    radius_for,
    tint,
    toned,
)
from bayes_pfl.data.synthetic.batched.scene import Scene, relief

_DROPS, _SPECKS = 3, 5


def stain(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """Dried liquid or grease: a tinted patch, often with a darker rim and splashes."""
    at, radius = spot.place(scene.at), radius_for(d, spot)
    alpha = blob(d, at, radius, (0.1, 0.8), (0.05, 0.8), 0.4)
    rim = hill((alpha - 0.5) / 0.3) * 0.6 + 0.4
    alpha = alpha * either(d.chance("rimmed", 0.4), rim, 1 + 0 * rim)
    for number in range(_DROPS):
        k = d.under(f"drop {number}")
        by = k.normal("x", 1.2) * radius, k.normal("y", 1.2) * radius
        drop = patch(
            k,
            "drop",
            moved(at, by),
            (radius * k.uniform("size", 0.06, 0.28)).clamp(min=1.5 / 256),
            0.2,
        )
        alpha = torch.maximum(alpha, drop * k.chance("there", 0.35))
    alpha = (alpha * (1 + 0.15 * fbm(d, "uneven", at, 0.05, 3))).clamp(0, 1)
    tone = apart(d, scene, spot, 0.15, 0.75)
    tone = either(d.chance("coloured", 0.5), tone * (0.4 + tint(d, scene, 0.5, 1.0)), tone)
    keep = d.uniform("keep", 0.2, 0.8)[:, None]
    target = scene.image * keep * tone * 1.2 + (1 - keep) * tone
    return Mark(target, alpha * scene.where * d.uniform("strong", 0.55, 1))


def contamination(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A foreign body, or a sprinkle of them: lumps and chips of another colour, with shadows."""
    at, count = spot.place(scene.at), d.choose("count", 1, 1, 2, 4, 5)
    small = radius_for(d, spot, 2.5, 0.06)
    radius = either((count < 3) * 1.0, radius_for(d, spot, 3.0, 0.16), small)
    alpha, shadow = torch.zeros_like(scene.where), torch.zeros_like(scene.where)
    light = scene.lamp
    for number in range(_SPECKS):
        k = d.under(f"speck {number}")
        spread = (number > 0) * (2.5 * radius + 6 / 256)
        own = radius * k.uniform("size", 0.5, 1.1)
        place = moved(at, (k.normal("x") * spread, k.normal("y") * spread))
        form = k.uniform("rough", 0.1, 0.9), 0.08, k.uniform("squash", 0.3, 1)
        there = (number < count) * 1.0
        alpha = torch.maximum(alpha, there * patch(k, "body", place, own, *form))
        fallen = moved(place, (-light[0] * 0.4 * own, -light[1] * 0.4 * own))
        shadow = torch.maximum(
            shadow, there * patch(k, "body", fallen, own * 1.1, form[0], 0.6, form[2])
        )
    near = apart(d, scene, spot, 0.35, 0.85)
    loud = tint(d, scene)
    clear = ((loud - spot.colour).abs().amax(1) > 0.25) * d.chance("loud", 0.55)
    lumps = fbm(d, "lumps", at, 0.03, 3)
    body = relief(alpha * (256 * radius * 0.5 + lumps), light, 0.6) * (1 + 0.1 * lumps)
    target = either(clear, loud, near) * body[:, None]
    target = mix(scene.image * 0.3, target, smoothstep(0.2, 0.4, alpha))
    shadow = shadow * d.uniform("shadow", 0.0, 0.7)
    return Mark(target, torch.maximum(alpha, shadow * (1 - alpha)) * scene.where)


def burn(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """Scorched: black to brown from the middle outwards, ragged, with ash."""
    at, radius = spot.place(scene.at), radius_for(d, spot, 5, 0.3)
    alpha = blob(d, at, radius, (0.3, 0.8), (0.5, 1.2), 0.5)
    char = toned(scene, hsv(0.08, 0.4, d.uniform("char", 0.02, 0.14)))
    brown = scene.image * toned(scene, hsv(0.08, 0.5, 0.62 + 0 * radius))
    target = mix(brown, char, smoothstep(d.uniform("deep", 0.4, 0.8), 1.0, alpha))
    ash = (
        smoothstep(1.2, 2.2, grain(d, "ash", scene.size))
        * alpha
        * d.uniform("ashes", -0.5, 0.6).clamp(min=0)
    )
    target = mix(target, 0.75 + 0 * target, ash)
    return Mark(target, (alpha * 1.6).clamp(max=1) * scene.where * d.uniform("strong", 0.7, 1))


def discoloration(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A region whose colour or brightness is off, its texture kept."""
    at, radius = spot.place(scene.at), radius_for(d, spot, 8, 0.42)
    alpha = blob(d, at, radius, (0.1, 0.6), (0.05, 0.9), 0.4)
    side = d.choose("side", -1, 1)
    gain = 1 + side * d.uniform("gain", 0.15, 0.5)
    shift = toned(scene, 0.35 * (2 * hsv(d.uniform("hue"), 0.8, 1 + 0 * radius) - 1))
    target = scene.image * (gain[:, None] * (1 + shift * d.uniform("tinted", 0, 1)[:, None]))
    return Mark(target + 0.06 * side[:, None], alpha * scene.where * d.uniform("strong", 0.7, 1))


def hole(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A pit or a hole: dark, or with what lies behind, one wall lit and a rim."""
    at, radius = spot.place(scene.at), radius_for(d, spot, 2.5, 0.17)
    form = d.uniform("rough", 0.02, 0.6), 0.12, d.uniform("squash", 0.5, 1)
    alpha = patch(d, "body", at, radius, *form)
    light, sunk = scene.lamp, 0.35 * radius
    floor = patch(d, "body", moved(at, (light[0] * sunk, light[1] * sunk)), radius * 0.9, *form)
    through = d.chance("through", 0.4)
    dark = scene.image * d.uniform("dark", 0.03, 0.4)[:, None]
    bottom = either(through, scene.background * 0.6, dark)
    wall = scene.image * d.uniform("wall", 0.7, 1.5)[:, None]
    inside = mix(wall, bottom, floor)
    rim = patch(d, "body", at, radius + 1.5 / 256, *form) * d.uniform("rim", -0.4, 0.8).clamp(min=0)
    lip = scene.image * relief(3 * alpha, light)[:, None]
    alpha = alpha * scene.where
    return Mark(
        mix(lip, inside, smoothstep(0.3, 0.8, alpha)), torch.maximum(alpha, rim * scene.where)
    )


def dent(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """Pressed in or bulging: the light on it changes, the material stays."""
    at, radius = spot.place(scene.at), radius_for(d, spot, 6, 0.26)
    bump = blob(d, at, radius, (0.0, 0.35), (0.7, 1.6), 0.35)
    depth = 256 * radius * d.uniform("depth", 0.2, 0.75) * d.choose("side", -1, -1, 1)
    lit = relief(depth * bump, scene.lamp) - d.uniform("dull", 0.0, 0.12) * bump
    change = (lit - 1).abs()
    alpha = smoothstep(0.02, 0.12, change + 0.1 * bump)
    return Mark(scene.image * lit[:, None], alpha * scene.where)
