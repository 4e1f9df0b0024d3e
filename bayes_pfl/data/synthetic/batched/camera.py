"""The camera of a batch: exposure, colour, optics, sensor noise and JPEG. It moves no pixel."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.data.synthetic.batched.colours import either
from bayes_pfl.data.synthetic.batched.fields import blurred, fbm, grain, plane
from bayes_pfl.data.synthetic.batched.hashing import Draws

_LUMA = (0.299, 0.587, 0.114)
_BLOCK = 8
_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation of brightness at quality 50: table K.1 of the JPEG standard (ITU-T T.81)."""


def photograph(draws: Draws, image: Tensor, grey: Tensor) -> Tensor:
    """Turn scenes, float32 (B, 3, S, S) about [0, 1], into photographs, uint8 (B, 3, S, S).

    ``grey`` scenes, bool (B,), stay grey; of the others about one in eight is without colour.
    """
    d = draws.under("camera")
    image = _optics(d, _vignetted(d, _coloured(d, _exposed(d, image), grey)))
    image = (image + _noise(d, image.shape[-1], grey)).clamp(0, 1)
    packed = _jpeg(d, image * 255)
    return (packed.clamp(0, 255) + 0.5).to(torch.uint8)


def _exposed(d: Draws, image: Tensor) -> Tensor:
    """Gain, contrast about the middle, and a tone curve."""
    gain, contrast = d.uniform("gain", 0.8, 1.2)[:, None], d.uniform("contrast", 0.8, 1.15)[:, None]
    image = ((image * gain - 0.5) * contrast + 0.5).clamp(0, 1.15)
    bow = d.chance("curved", 0.4) * d.uniform("bow", -0.35, 0.35)
    return image + bow[:, None] * image * (1 - image)


def _coloured(d: Draws, image: Tensor, grey: Tensor) -> Tensor:
    """Warm or cold light, a little green or magenta, more or less colour down to none."""
    warm, green = d.normal("warm", 0.045), d.normal("green", 0.02)
    balanced = image * torch.stack([1 + warm, 1 + green, 1 - warm], 1)
    vivid = (d.uniform("vivid", 0.6, 1.2) * (1 - d.chance("without", 0.12)))[:, None]
    luma = sum(part * channel for part, channel in zip(_LUMA, balanced.split(1, 1), strict=True))
    return torch.where(grey[:, None, None, None], image, luma + vivid * (balanced - luma))


def _vignetted(d: Draws, image: Tensor) -> Tensor:
    """Corners darker than the middle."""
    x, y = plane(len(image), image.shape[-1], image.device)
    x, y = 2 * x - d.normal("x", 0.15), 2 * y - d.normal("y", 0.15)
    dark = d.chance("vignette", 0.4) * d.uniform("corners", 0.03, 0.28)
    return image * (1 - dark * (x * x + y * y))[:, None]


def _optics(d: Draws, image: Tensor) -> Tensor:
    """Out of focus, as it is, or sharpened."""
    unit = max(image.shape[-1] / 256, 0.6)
    soft = blurred(image, d.uniform("focus", 0.35, 1.3)[:, None] * unit, 3)
    choice = d.uniform("optics")
    amount = torch.where(
        choice < 0.38, -1.0, torch.where(choice < 0.55, d.uniform("sharpen", 0.2, 0.7), 0.0)
    )
    return image + amount[:, None] * (image - soft)


def _noise(d: Draws, size: int, grey: Tensor) -> Tensor:
    """Luminance noise, and in a part of the pictures blotches of colour."""
    strength = d.choose("noise", 0.0, 0.006, 0.015, 0.035) * d.uniform("strength", 0.5, 1.2)
    at = plane(len(grey), size, grey.device)
    blotchy = d.chance("blotchy", 0.5) * (~grey)[:, None, None] * 0.6
    blotches = torch.stack([fbm(d, f"blotch {c}", at, 3 / size, 1) for c in "rgb"], 1)
    return strength[:, None] * (grain(d, "sensor", size)[:, None] + blotchy[:, None] * blotches)


def _jpeg(d: Draws, image: Tensor) -> Tensor:
    """Two pictures in three are rounded as JPEG rounds them, at quality 45 to 97; 0 to 255."""
    size = image.shape[-1]
    more = -size % _BLOCK
    blocks = _to_blocks(_luma_chroma(F.pad(image, (0, more, 0, more), mode="replicate")) - 128)
    quality = 45 + (d.bits("quality", 1, 1) % 53).float()
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = torch.tensor(_STEPS, dtype=torch.float32, device=image.device)
    table = torch.stack([table, (1.5 * table).clamp(max=99), (1.5 * table).clamp(max=99)])
    steps = torch.floor(table[None] * scale[..., None] + 0.5).clamp(min=1)[:, :, None, None]
    rounded = torch.round(_cosines(blocks, forward=True) / steps) * steps
    packed = _from_blocks(_cosines(rounded, forward=False)) + 128
    return either(d.chance("jpeg", 0.66), _red_green_blue(packed)[..., :size, :size], image)


def _luma_chroma(image: Tensor) -> Tensor:
    red, green, blue = image.unbind(1)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return torch.stack([luma, 128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma)], 1)


def _red_green_blue(image: Tensor) -> Tensor:
    luma, blue, red = image.unbind(1)
    red, blue = luma + (red - 128) / 0.713, luma + (blue - 128) / 0.564
    return torch.stack([red, (luma - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1], blue], 1)


def _to_blocks(image: Tensor) -> Tensor:
    """(B, 3, S, S) to (B, 3, S / 8, S / 8, 8, 8)."""
    return image.unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK)


def _from_blocks(blocks: Tensor) -> Tensor:
    batch, channels, rows, columns = blocks.shape[:4]
    image = blocks.permute(0, 1, 2, 4, 3, 5)
    return image.reshape(batch, channels, rows * _BLOCK, columns * _BLOCK)


def _cosines(blocks: Tensor, forward: bool) -> Tensor:
    """The discrete cosine transform of blocks, or its inverse.

    Written as eight products and sums for each side: a matrix product may round by the size of
    the batch, and a change in the last bit can tip the rounding to a step of the table.
    """
    waves = torch.tensor(
        [[_cosine(row, column) for column in range(_BLOCK)] for row in range(_BLOCK)],
        device=blocks.device,
    )
    waves = waves if forward else waves.T
    blocks = sum(blocks[..., k, None] * waves[:, k] for k in range(_BLOCK))
    return sum(blocks[..., k, None, :] * waves[:, k, None] for k in range(_BLOCK))


def _cosine(row: int, column: int) -> float:
    scale = math.sqrt((1 if row == 0 else 2) / _BLOCK)
    return scale * math.cos((2 * column + 1) * row * math.pi / (2 * _BLOCK))
