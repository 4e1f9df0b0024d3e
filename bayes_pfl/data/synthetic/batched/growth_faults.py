"""Faults of the body: lesions and tumours."""

from __future__ import annotations

import torch

from bayes_pfl.data.synthetic.batched.colours import colour_within, either, mix
from bayes_pfl.data.synthetic.batched.fields import cells, fbm, hill, smoothstep
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.marks import Mark, Spot, apart, patch, radius_for, toned
from bayes_pfl.data.synthetic.batched.scene import Scene


def lesion(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A spot of altered tissue: darker or brighter, mottled, with a halo now and then."""
    at, radius = spot.place(scene.at), radius_for(d, spot, 5, 0.22)
    form = d.uniform("rough", 0.15, 0.8), d.uniform("soft", 0.1, 0.8), d.uniform("squash", 0.5, 1)
    alpha = patch(d, "body", at, radius, *form)
    halo = patch(d, "body", at, radius * d.uniform("wide", 1.2, 1.7), *form) * d.uniform(
        "halo", -0.6, 0.5
    ).clamp(min=0)
    mottle = fbm(d, "mottle", at, 0.6 * radius, 4, 0.65)
    tone = apart(d, scene, spot, 0.25, 0.8)
    warm = toned(scene, colour_within(d, (0.94, 1.08), (0.3, 0.9), (0.15, 0.7)))
    tone = either(d.chance("warm", 0.5) * (~scene.grey)[:, None, None], warm, tone)
    keep = d.uniform("keep", 0.1, 0.6)[:, None]
    target = (tone * (1 + 0.16 * mottle)[:, None]) * (1 - keep) + keep * scene.image * (
        0.6 + 0.6 * tone
    )
    return Mark(
        target, torch.maximum(alpha, halo * (1 - alpha)) * scene.where * d.uniform("strong", 0.6, 1)
    )


def tumour(d: Draws, scene: Scene, spot: Spot) -> Mark:
    """A mass of crowded cells or lobes: bright or dark core, rim, dead middle, displaced detail."""
    at, radius = spot.place(scene.at), radius_for(d, spot, 12, 0.3)
    form = d.uniform("rough", 0.1, 0.5), d.uniform("soft", 0.05, 0.4), d.uniform("squash", 0.6, 1)
    alpha = patch(d, "body", at, radius, *form)
    core = patch(d, "core", at, radius * d.uniform("dead", 0.3, 0.7), 0.5, 0.5)
    near, _, own = cells(
        d,
        "crowd",
        at,
        torch.where(scene.grey[:, None, None], 0.3 * radius, d.uniform("crowd", 0.014, 0.026)),
    )
    nuclei = smoothstep(0.5, 0.25, near) * (own < 0.9)
    crowd = torch.where(scene.grey[:, None, None], 0.25, d.uniform("crowded", 0.3, 0.9)) * nuclei
    tone = apart(d, scene, spot, 0.2, 0.75)
    other = toned(scene, colour_within(d, (0.66, 0.95), (0.3, 0.7), (0.2, 0.55)))
    dark = either(1.0 * scene.grey[:, None, None], tone * 0.75, other)
    target = mix(tone * (1 + 0.12 * fbm(d, "mottle", at, 0.5 * radius, 3))[:, None], dark, crowd)
    dead = either(d.chance("pale", 0.5), 0.5 + 0.5 * tone, 0.35 * tone)
    target = mix(target, dead, core * d.uniform("necrosis", -0.4, 0.8).clamp(min=0))
    ring = hill((alpha - 0.6) / 0.15) * d.uniform("ring", -0.6, 0.7).clamp(min=0)
    target = mix(target, either(d.chance("bright ring", 0.6), 0.4 + 0.6 * tone, 0.4 * tone), ring)
    return Mark(target, alpha * scene.where * d.uniform("strong", 0.7, 1))
