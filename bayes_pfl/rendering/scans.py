"""Grey pictures of the inside of a body: MRI, CT, X-ray, ultrasound."""

from __future__ import annotations

import math

import cv2
import numpy as np

from bayes_pfl.rendering.noise import (
    Field,
    Rng,
    axes,
    fbm,
    grain,
    pick,
    ridges,
    smoothstep,
    white,
)
from bayes_pfl.rendering.scene import Light, Scene, paint, rgb, text_stamp
from bayes_pfl.rendering.solids import wavy


def scan_scene(rng: Rng, value: Field, where: Field, noise: float) -> Scene:
    """A grey picture from a scanner: no lamp, no shadow; noise of the machine, burnt-in text."""
    size = value.shape[0]
    value, where = value.astype(np.float32), where.astype(np.float32)
    value = value + np.float32(noise) * white(rng, size) * (0.3 + 0.7 * np.clip(value * 3, 0, 1))
    if rng.random() < 0.25:
        value = _burnt_in_text(rng, value)
    image = paint(np.clip(value, 0, 1.1), rgb(1, 1, 1))
    light = Light.draw(rng)
    behind = np.zeros_like(image) + np.float32(0.02)
    field = 1 + np.float32(rng.uniform(0, 0.12)) * fbm(rng, size, 0.8, 1)
    return Scene(image, where, behind, light, field, grey=True, surface=False)


def _burnt_in_text(rng: Rng, value: Field) -> Field:
    size = value.shape[0]
    for _ in range(int(rng.integers(1, 5))):
        stamp = text_stamp(rng, rng.uniform(5, 10) * size / 256, int(rng.integers(1, 8)))
        high, wide = stamp.shape
        top = int(pick(rng, [rng.uniform(0, 0.1), rng.uniform(0.86, 0.94)]) * size)
        left = int(pick(rng, [rng.uniform(0, 0.05), rng.uniform(0.7, 0.95)]) * size)
        window = value[top : top + high, left : left + wide]
        np.maximum(window, stamp[: window.shape[0], : window.shape[1]] * 0.9, out=window)
    return value


_BRAIN_TONES = {  # white matter, grey matter, fluid, scalp fat, skull
    "t1": (0.62, 0.45, 0.12, 0.85, 0.06),
    "t2": (0.32, 0.48, 0.95, 0.75, 0.05),
    "flair": (0.4, 0.52, 0.08, 0.7, 0.06),
    "ct": (0.42, 0.47, 0.2, 0.3, 0.98),
}


def brain_scan(rng: Rng, size: int, styles: tuple[str, ...] = ("t1", "t2", "flair")) -> Scene:
    """Axial slice of a head: skull, folded cortex, ventricles, all nearly mirror-symmetric."""
    style = styles[int(rng.integers(len(styles)))]
    white_m, grey_m, fluid, fat, bone = (v * rng.uniform(0.85, 1.15) for v in _BRAIN_TONES[style])
    turn, ratio, reach = rng.normal(0, 0.06), rng.uniform(1.1, 1.35), rng.uniform(0.78, 0.97)
    x, y = axes(size, turn, tuple(rng.normal(0, 0.03, 2)))
    x, y = x / np.float32(reach), y / np.float32(reach)
    outline = wavy(rng, 0.012)
    radius = np.sqrt((x * np.float32(ratio)) ** 2 + y * y) - outline(np.arctan2(y, np.abs(x)))
    soft = 3.0 / size
    inner = 1.0 - rng.uniform(0.09, 0.15)
    brain = smoothstep(inner + soft, inner - soft, radius)
    tissue = _tissue(rng, size, x, y, radius / np.float32(inner), (white_m, grey_m, fluid), ratio)
    skull = smoothstep(inner + 0.01, inner + 0.03, radius) * smoothstep(0.965, 0.945, radius)
    ring = fat * smoothstep(1.0 + soft, 1.0 - soft, radius) * (1 + 0.15 * fbm(rng, size, 0.06, 3))
    value = ring + skull * (np.float32(bone) - ring)
    gap = smoothstep(inner + 0.012, inner - 0.005, radius)
    value = value * (1 - gap) + fluid * 0.9 * gap
    value = value * (1 - brain) + tissue * brain
    value *= np.float32(rng.uniform(0.6, 1.15))
    scene = scan_scene(
        rng, value + np.float32(rng.uniform(0, 0.04)), brain, rng.uniform(0.005, 0.04)
    )
    return scene


def _tissue(
    rng: Rng, size: int, x: Field, y: Field, radius: Field, tones: tuple, ratio: float
) -> Field:
    """Folded cortex round white matter, with midline and ventricles; nearly mirrored."""
    white_m, grey_m, fluid = (np.float32(t) for t in tones)
    fold = fbm(rng, size, rng.uniform(0.05, 0.085), 2, 0.5)
    own, mirror = fold, cv2.flip(fold, 1)
    fold = np.where(x > 0, own, 0.75 * mirror + 0.25 * own)
    # Grey matter lines every furrow; furrows run from the surface some way in.
    furrow = np.abs(fold) + 1.6 * smoothstep(
        rng.uniform(0.72, 0.85), rng.uniform(0.35, 0.6), radius
    )
    cortex = np.maximum(smoothstep(0.75, 0.4, furrow), smoothstep(0.88, 0.93, radius))
    value = white_m + (grey_m - white_m) * cortex
    sulci = smoothstep(np.float32(rng.uniform(0.15, 0.4)), 0.0, furrow)
    value += (fluid - value) * sulci * np.float32(rng.uniform(0.4, 0.95))
    midline = np.exp(-((x / np.float32(0.012)) ** 2)) * smoothstep(0.35, 0.6, np.abs(y))
    value += (fluid - value) * midline * np.float32(rng.uniform(0.4, 0.9))
    deep = np.exp(-(((np.abs(x) - 0.24) / 0.11) ** 2 + ((y - 0.02) / 0.18) ** 2))
    value += (grey_m - value) * smoothstep(0.2, 0.8, deep) * np.float32(rng.uniform(0, 0.7))
    if rng.random() < 0.75:
        value += (fluid - value) * _ventricles(rng, x, y)
    return value + np.float32(0.04) * fbm(rng, size, 0.4, 3)


def _ventricles(rng: Rng, x: Field, y: Field) -> Field:
    """Two mirrored horns at the front and two at the back."""
    wide, spread = rng.uniform(0.025, 0.08), rng.uniform(0.2, 0.6)
    a = np.abs(x) * (1 + 0.1 * np.sign(x) * np.float32(rng.normal(0, 1)))
    long_front, long_back = rng.uniform(0.18, 0.3), rng.uniform(0.12, 0.24)
    taper = np.sqrt(np.clip(1 - ((y + 0.16) / np.float32(long_front)) ** 2, 1e-4, 1))
    lean = np.float32(spread) * (1.2 * (y + 0.12) ** 2 + 0.25 * np.clip(-0.1 - y, 0, 1))
    front = np.abs(a - 0.055 - lean) / (np.float32(wide) * taper) + 9 * (taper < 0.02)
    taper = np.sqrt(np.clip(1 - ((y - 0.26) / np.float32(long_back)) ** 2, 1e-4, 1))
    lean = np.float32(spread) * (0.9 * (y - 0.08) + 1.2 * (y - 0.25) ** 2)
    back = np.abs(a - 0.06 - lean) / (np.float32(wide * 1.2) * taper) + 9 * (taper < 0.02)
    return smoothstep(1.15, 0.8, np.minimum(front, back))


def head_ct(rng: Rng, size: int) -> Scene:
    """The same anatomy under X-rays: bright bone, little contrast inside."""
    return brain_scan(rng, size, ("ct",))


def _organs(rng: Rng) -> list[tuple[float, float, float, float, float]]:
    """(x, y, half width, half height, brightness) of liver, spleen, kidneys and loops of gut."""
    fixed = [(-0.35, -0.05, 0.42, 0.38, 0.52), (0.5, 0.0, 0.2, 0.26, 0.5)]
    kidneys = [(side * 0.4, 0.32, 0.14, 0.17, 0.62) for side in (-1, 1)]
    low, high = (-0.1, -0.45, 0.06, 0.06, 0.05), (0.45, 0.1, 0.13, 0.13, 0.6)
    gut = [(x, y, w, h, value) for x, y, w, h, value in rng.uniform(low, high, (7, 5)).tolist()]
    return [*fixed, *kidneys, *gut]


def abdomen_ct(rng: Rng, size: int) -> Scene:
    """Axial slice of a body: liver, spine, kidneys, gut, vessels."""
    x, y = axes(size, rng.normal(0, 0.04), tuple(rng.normal(0, 0.03, 2)))
    outline = wavy(rng, 0.015)
    body = np.sqrt((x / 0.95) ** 2 + (y / np.float32(rng.uniform(0.62, 0.8))) ** 2) - outline(
        np.arctan2(y, x)
    )
    inside, muscle = smoothstep(1.0, 0.98, body), smoothstep(0.9, 0.88, body)
    cavity = smoothstep(0.8, 0.77, body)
    value = 0.18 * inside + 0.3 * muscle
    value += (np.float32(rng.uniform(0.15, 0.3)) - value) * cavity
    where = np.zeros_like(value)
    for cx, cy, a, b, tone in _organs(rng):
        edge = wavy(rng, 0.08)
        dx, dy = (x - np.float32(cx)) / np.float32(a), (y - np.float32(cy)) / np.float32(b)
        organ = smoothstep(1.0, 0.94, np.hypot(dx, dy) - edge(np.arctan2(dy, dx))) * cavity
        value += (np.float32(tone * rng.uniform(0.9, 1.1)) - value) * organ
        where = np.maximum(where, organ)
    spine = smoothstep(1.0, 0.9, np.hypot(x / 0.14, (y - 0.42) / 0.12))
    value += (0.95 - 0.25 * grain(rng, size, 3) * 0.3 - value) * spine
    ribs = smoothstep(0.04, 0.02, np.abs(body - 0.86)) * smoothstep(
        0.5, 0.8, np.sin(np.arctan2(y, x) * int(rng.integers(9, 15)))
    )
    value += (0.9 - value) * ribs
    vessels = smoothstep(0.75, 0.9, ridges(rng, size, 0.12, 1)) * where
    value += 0.08 * vessels + 0.03 * fbm(rng, size, 0.2, 3) * inside
    return scan_scene(rng, value, np.maximum(where, 0.001) * cavity, rng.uniform(0.01, 0.06))


def chest_xray(rng: Rng, size: int) -> Scene:
    """Lungs, ribs, heart, spine."""
    x, y = axes(size, rng.normal(0, 0.03), tuple(rng.normal(0, 0.04, 2)))
    lungs = np.zeros_like(x)
    for side in (-1, 1):
        edge = wavy(rng, 0.05)
        dx, dy = (
            (x - np.float32(side * 0.43)) / 0.36,
            (y + 0.05) / np.float32(rng.uniform(0.65, 0.8)),
        )
        lungs = np.maximum(
            lungs, smoothstep(1.05, 0.85, np.hypot(dx, dy) - edge(np.arctan2(dy, dx)))
        )
    value = 0.72 - np.float32(rng.uniform(0.35, 0.5)) * lungs
    heart = smoothstep(1.1, 0.85, np.hypot((x - 0.12) / 0.34, (y - 0.3) / 0.36))
    value += (0.8 - value) * heart * 0.9
    spine = np.exp(-((x / 0.1) ** 2)) * (1 + 0.15 * np.sin(y * 30))
    value += 0.12 * spine
    arch = y - 0.5 * (np.abs(x) - 0.1) ** 2 + 0.35 * np.abs(x)
    rib = smoothstep(0.2, 0.75, np.sin(arch * np.float32(rng.uniform(16, 22))))
    value += (
        np.float32(rng.uniform(0.05, 0.13))
        * rib
        * smoothstep(1.0, 0.7, np.abs(x))
        * smoothstep(0.9, 0.6, np.abs(y))
    )
    value += 0.05 * ridges(rng, size, 0.1) * lungs + 0.03 * fbm(rng, size, 0.3, 4)
    body = smoothstep(1.05, 0.95, np.abs(x) + 0.25 * smoothstep(-0.4, -1, y))
    return scan_scene(rng, value * body, lungs * body, rng.uniform(0.008, 0.03))


def ultrasound(rng: Rng, size: int) -> Scene:
    """A sector of speckle with layers and echo-poor hollows."""
    x, y = axes(size)
    y = y + 1.15
    radius, theta = np.hypot(x, y), np.arctan2(x, y)
    half = rng.uniform(0.55, 0.75)
    sector = (
        smoothstep(half, half - 0.015, np.abs(theta))
        * smoothstep(0.15, 0.17, radius)
        * smoothstep(2.05, 2.03, radius)
    )
    layers = fbm(rng, size, 0.12, 4, 0.6, rng.uniform(1, 4), rng.normal(0, 0.3))
    speckle = np.abs(grain(rng, size, 2.2 * size / 256))
    value = (0.32 + 0.13 * layers) * (0.62 + 0.36 * speckle)
    value *= 1.2 - 0.35 * radius
    vessel = smoothstep(0.75, 0.9, ridges(rng, size, 0.4, 1))
    value *= 1 - np.float32(rng.uniform(0, 0.8)) * vessel
    return scan_scene(rng, np.clip(value, 0, 1) * sector, sector, 0.005)


def bone_xray(rng: Rng, size: int) -> Scene:
    """Long bones in soft tissue, with bright cortex and a marrow of fine struts."""
    turn = rng.uniform(0, math.pi)
    x, y = axes(size, turn, tuple(rng.normal(0, 0.1, 2)))
    limb = smoothstep(0.75, 0.6, np.abs(y) + 0.05 * np.sin(3 * x))
    value, where = 0.25 * limb, np.zeros_like(limb)
    for offset in ([0.0], [-0.25, 0.25])[int(rng.integers(2))]:
        flare = np.float32(rng.uniform(0.1, 0.16)) * (
            1 + np.float32(rng.uniform(0.2, 0.7)) * smoothstep(0.3, 1.0, np.abs(x))
        )
        across = np.abs(y - np.float32(offset) - 0.03 * np.sin(2 * x)) / flare
        bone = smoothstep(1.05, 0.95, across)
        shell = np.exp(-(((across - 0.85) / 0.14) ** 2))
        struts = fbm(rng, size, 0.02, 3, 0.7, 3, turn)
        value += bone * (0.3 + 0.25 * shell + 0.04 * struts)
        where = np.maximum(where, bone)
    value += 0.02 * fbm(rng, size, 0.3, 4)
    return scan_scene(rng, value * rng.uniform(0.8, 1.2), where, rng.uniform(0.01, 0.04))
