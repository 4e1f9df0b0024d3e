"""Electric things: solar cells, circuit boards and what sits on them, chips, cables."""

from __future__ import annotations

import math

import cv2
import numpy as np

from bayes_pfl.rendering.goods import stamp_mark
from bayes_pfl.rendering.noise import Field, Rng, axes, cells, fbm, pick, smoothstep, white
from bayes_pfl.rendering.scene import (
    Light,
    Part,
    Scene,
    any_colour,
    draw_part,
    hsv,
    mix,
    paint,
    rgb,
    rotate_stamp,
    surface_scene,
    text_stamp,
    vary,
)
from bayes_pfl.rendering.solids import Item, box, cover, disc, dome, shade, speckled


def solar_cell(rng: Rng, size: int) -> Scene:
    """Electroluminescence picture, or photograph, of a poly- or monocrystalline cell."""
    light = Light.draw(rng)
    poly = rng.random() < 0.6
    value = _wafer(rng, size, poly)
    u, v = axes(size)
    turn = int(rng.integers(2))
    along, across = (u, v) if turn == 0 else (v, u)
    bars = int(rng.integers(2, 6))
    place = (across + 1) * 0.5 * bars - 0.5 + np.float32(rng.uniform(-0.1, 0.1))
    bar = smoothstep(0.035 * bars / 3 + 0.01, 0.02 * bars / 3, np.abs(place - np.round(place)))
    fingers = np.sin(along * np.float32(rng.uniform(60, 130) * math.pi / 2))
    value *= 1 - np.float32(rng.uniform(0, 0.08)) * fingers
    electro = rng.random() < 0.7
    value = value * (1 - bar * np.float32(rng.uniform(0.5, 0.95))) if electro else value + bar * 0.5
    border = np.maximum(np.abs(u), np.abs(v)) - np.float32(rng.uniform(0.93, 1.02))
    corner = (np.abs(u) + np.abs(v) - np.float32(1.76)) if not poly else border
    value *= 1 - np.float32(rng.uniform(0.4, 0.95)) * smoothstep(
        -0.01, 0.03, np.maximum(border, corner)
    )
    tone = (
        rgb(0.6, 0.6, 0.6) if electro else hsv(rng.uniform(0.58, 0.68), rng.uniform(0.3, 0.8), 0.5)
    )
    scene = surface_scene(
        rng, paint(value * rng.uniform(0.6, 1.3), tone), light, turn * math.pi / 2
    )
    scene.grey = electro
    if electro:  # the cell glows by itself: no lamp, no shadow
        scene.lighting = 1 + np.float32(rng.uniform(0, 0.08)) * fbm(rng, size, 0.8, 1)
    return scene


def _wafer(rng: Rng, size: int, poly: bool) -> Field:
    """Brightness of the silicon: grains and dislocation clouds, or a smooth disc."""
    x, y = axes(size)
    value = 1.0 - np.float32(rng.uniform(0.0, 0.3)) * (x * x + y * y)
    value += np.float32(rng.uniform(0.01, 0.04)) * white(rng, size)
    if not poly:
        rings = np.sin(np.sqrt(x * x + y * y) * np.float32(rng.uniform(10, 40)))
        return value + np.float32(rng.uniform(0, 0.03)) * rings
    _, _, shade = cells(rng, size, int(rng.integers(30, 220)), 1.0)
    clouds = smoothstep(0.4, 2.0, fbm(rng, size, rng.uniform(0.06, 0.2), 4, 0.75))
    value += np.float32(rng.uniform(0.02, 0.15)) * (shade - 0.5)
    return value * (1 - np.float32(rng.uniform(0.1, 0.55)) * clouds)


def printed_board(rng: Rng, size: int) -> Scene:
    """Circuit board: traces, pads, vias, chips, small parts, white lettering."""
    light, unit = Light.draw(rng), size / 256
    tone = hsv(
        pick(rng, [0.36, 0.38, 0.6, 0.0, 0.12]), rng.uniform(0.5, 0.9), rng.uniform(0.15, 0.5)
    )
    image = paint(1 + 0.03 * white(rng, size), tone)
    trace = _traces(rng, size, unit)
    image = mix(image, vary(rng, tone * 1.5, 0.05), trace * np.float32(rng.uniform(0.4, 0.9)))
    scene_parts = []
    pitch = rng.uniform(0.14, 0.26) * size
    for row in np.arange(pitch / 2, size, pitch):
        for column in np.arange(pitch / 2, size, pitch):
            if rng.random() < 0.62:
                drawer = _COMPONENTS[int(rng.integers(len(_COMPONENTS)))]
                colours, alpha = drawer(rng, pitch * rng.uniform(0.5, 0.95))
                colours = np.rot90(colours, k := int(rng.integers(4)))
                alpha = np.rot90(alpha, k)
                top, left = int(row - alpha.shape[0] / 2), int(column - alpha.shape[1] / 2)
                part = draw_part(image, colours, alpha, top, left)
                if part is not None:
                    scene_parts.append(part)
    scene_parts += _lettering(rng, image)
    return surface_scene(rng, image, light, 0.0, scene_parts)


def _lettering(rng: Rng, image: np.ndarray) -> list[Part]:
    """White marks printed here and there."""
    size, parts = image.shape[0], []
    unit = size / 256
    for _ in range(rng.integers(2, 7)):
        stamp = rotate_stamp(
            text_stamp(rng, rng.uniform(6, 11) * unit, int(rng.integers(2, 5))),
            float(pick(rng, [0, math.pi / 2])),
        )
        top, left = (rng.random(2) * size * 0.9).astype(int)
        part = draw_part(image, rgb(0.9, 0.9, 0.88), stamp, int(top), int(left))
        if part is not None:
            part.kind = "print"
            parts.append(part)
    return parts


def _traces(rng: Rng, size: int, unit: float) -> Field:
    canvas = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(14, 36))):
        point, heading = rng.random(2) * size, int(rng.integers(8))
        line = [point]
        for _ in range(int(rng.integers(2, 5))):
            heading += int(rng.integers(-1, 2))
            step = np.array([math.cos(heading * math.pi / 4), math.sin(heading * math.pi / 4)])
            point = point + step * rng.uniform(0.08, 0.4) * size
            line.append(point)
        width = max(1, round(rng.uniform(1, 4) * unit))
        cv2.polylines(canvas, [np.int32(np.array(line) * 16)], False, 255, width, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def _chip(rng: Rng, side: float) -> tuple[np.ndarray, Field]:
    """Black package with legs on two sides and a printed word."""
    high, wide = int(side), int(side * rng.uniform(0.6, 1.0))
    colours = np.full((high, wide, 3), rng.uniform(0.06, 0.16), np.float32)
    alpha = np.zeros((high, wide), np.float32)
    leg = max(1, wide // 7)
    alpha[:, leg : wide - leg] = 1
    legs = max(3, high // max(4, int(side / 7)))
    for place in np.linspace(0.08, 0.86, legs):
        rows = slice(int(place * high), int(place * high) + max(1, high // (2 * legs)))
        alpha[rows] = 1
        colours[rows, :leg] = colours[rows, wide - leg :] = rng.uniform(0.55, 0.85)
    stamp = rotate_stamp(text_stamp(rng, max(5.0, side * 0.16), 4), math.pi / 2)
    draw_part(
        colours,
        rgb(0.7, 0.7, 0.7),
        stamp,
        (high - stamp.shape[0]) // 2,
        (wide - stamp.shape[1]) // 2,
    )
    return colours, alpha


def _chip_resistor(rng: Rng, side: float) -> tuple[np.ndarray, Field]:
    """A small block with bright ends."""
    high, wide = max(4, int(side * 0.3)), max(8, int(side * 0.6))
    body = pick(rng, [0.08, 0.15, 0.5]) * np.array([1.0, 0.85, 0.65], np.float32)
    colours = np.broadcast_to(body, (high, wide, 3)).astype(np.float32)
    end = max(2, wide // 5)
    colours[:, :end] = colours[:, wide - end :] = rng.uniform(0.6, 0.85)
    return colours, np.ones((high, wide), np.float32)


def _electrolytic(rng: Rng, side: float) -> tuple[np.ndarray, Field]:
    """A round can seen from above, with its polarity mark."""
    count = max(8, int(side * 0.8))
    x, y = axes(count)
    radius = np.sqrt(x * x + y * y)
    shade = np.where(radius < 0.75, 0.75 + 0.15 * x, 0.35).astype(np.float32)
    shade = np.where((x > 0.35) & (radius < 0.75), np.float32(0.12), shade)
    return paint(shade, any_colour(rng, 0.3, 0.8, 1.0)), smoothstep(0.98, 0.9, radius)


def _pads(rng: Rng, side: float) -> tuple[np.ndarray, Field]:
    """A row of tinned holes."""
    count = int(rng.integers(2, 5))
    unit = max(6, int(side / 4))
    x, y = axes(unit)
    radius = np.tile(np.sqrt(x * x + y * y), (1, count))
    shade = np.where(radius < 0.35, np.float32(0.08), np.float32(0.75))
    return paint(shade, rgb(1.0, rng.uniform(0.85, 1), rng.uniform(0.6, 1))), smoothstep(
        0.85, 0.75, radius
    )


_COMPONENTS = (_chip, _chip_resistor, _chip_resistor, _electrolytic, _pads, _pads)


def ic_package(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A black chip with legs, a dot and two printed words."""
    x, y = axes(p, angle)
    half_x, half_y = style.uniform(0.5, 0.8), style.uniform(0.3, 0.5)
    body = box(x, y, half_x, half_y, 0.03)
    legs = int(style.integers(4, 10))
    place = (x / np.float32(half_x) + 1) * 0.5 * legs
    width = style.uniform(0.22, 0.34)
    leg = np.maximum(
        np.abs(place - np.floor(place) - 0.5) - np.float32(width),
        (np.abs(y) - np.float32(half_y + style.uniform(0.1, 0.2))) * 4,
    )
    leg = np.maximum(leg * np.float32(half_x / legs * 2), np.abs(x) - np.float32(half_x))
    black = speckled(rng, p, hsv(0.6, 0.1, style.uniform(0.08, 0.25)), 0.06, 0.03)
    metal = speckled(rng, p, vary(style, rgb(0.75, 0.74, 0.7)), 0.05, 0.1)
    colours = mix(metal, black, cover(body))
    dot = smoothstep(0.01, -0.01, np.hypot(x + half_x * 0.8, y + half_y * 0.65) - 0.05)
    colours = mix(colours, rgb(0.5, 0.5, 0.5), dot * 0.6)
    colours = shade(colours, dome(body, 0.06) * np.float32(0.05 * p), light)
    parts = stamp_mark(
        style,
        rng,
        colours,
        angle,
        style.uniform(0.08, 0.14),
        int(style.integers(4, 8)),
        rgb(0.75, 0.75, 0.72),
    )
    return Item(colours, np.maximum(cover(body), cover(leg)), parts)


def cable_section(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A cut cable: a sheath, three or more insulated cores, bundles of copper strands."""
    x, y = axes(p, angle)
    colours = speckled(rng, p, any_colour(style, 0.5, 0.1, 0.9), 0.03, 0.03)
    filler = paint(1 + 0.1 * white(rng, p), any_colour(style, 0.3, 0.3, 0.9))
    colours = mix(colours, filler, cover(disc(x, y, style.uniform(0.8, 0.88))))
    cores, parts = int(style.integers(3, 5)), []
    near, _, value = cells(rng, p, int(style.integers(300, 1200)), 0.7)
    strands = paint((0.7 + 0.5 * value) * smoothstep(0.75, 0.3, near), hsv(0.06, 0.5, 0.9))
    for k in range(cores):
        turn = 2 * math.pi * k / cores + rng.normal(0, 0.04)
        radius = 0.8 * math.sin(math.pi / cores) / (1 + math.sin(math.pi / cores))
        at = 0.82 - radius
        away = np.hypot(x - at * math.cos(turn), y - at * math.sin(turn)) - np.float32(
            radius * 0.98
        )
        before, weight = colours.copy(), cover(away)
        colours = mix(colours, any_colour(style, 0.9, 0.2, 0.95), weight)
        colours = mix(colours, strands, cover(away + np.float32(radius * style.uniform(0.3, 0.45))))
        parts.append(Part((0, 0, p, p), weight, before))
    return Item(colours, cover(disc(x, y, 0.95)), parts)
