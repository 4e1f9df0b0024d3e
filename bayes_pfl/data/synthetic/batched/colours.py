"""Colours of a batch, float32 (B, 3, 1, 1), and pictures (B, 3, S, S) made of them."""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_pfl.data.synthetic.batched.fields import Number
from bayes_pfl.data.synthetic.batched.hashing import Draws


def hsv(hue: Number, saturation: Number, value: Tensor) -> Tensor:
    """Hue in turns (wraps); each a number or (B, ...), without an axis for the channels."""
    channels = []
    for start in (5.0, 3.0, 1.0):
        turn = torch.as_tensor(start + 6 * hue, device=value.device)
        turn = turn - torch.floor(turn / 6) * 6
        share = torch.minimum(turn, 4 - turn).clamp(0, 1)
        channels.append(value - value * saturation * share)
    return torch.stack(channels, 1)


def any_colour(
    draws: Draws, name: str, saturation: float = 0.9, low: float = 0.08, high: float = 0.95
) -> Tensor:
    d = draws.under(name)
    vivid = saturation * d.uniform("saturation") * d.uniform("saturation again", 0.5, 1.0)
    return hsv(d.uniform("hue"), vivid, d.uniform("value", low, high))


def colour_within(
    draws: Draws,
    hue: tuple[float, float],
    vivid: tuple[float, float],
    value: tuple[float, float],
) -> Tensor:
    """A colour whose hue, saturation and value lie in these ranges."""
    ranges = {"hue": hue, "vivid": vivid, "value": value}
    return hsv(*(draws.uniform(name, *ends) for name, ends in ranges.items()))


def vary(draws: Draws, name: str, colour: Tensor, amount: float = 0.06) -> Tensor:
    """The same colour, a little lighter or darker, and a little off in hue."""
    shift = amount * draws.white(name, 1, 1, 1) + 0.35 * amount * draws.white(
        name + " hue", 3, 1, 1
    )
    return (colour + shift).clamp(0.01, 1)


def mix(low: Tensor, high: Tensor, weight: Tensor) -> Tensor:
    """Blend two colours, or pictures, by a (B, S, S) weight (0 gives ``low``)."""
    return low + weight[:, None] * (high - low)


def either(choice: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Picture by picture: ``first`` where ``choice``, (B, 1, 1), is 1, ``second`` where it is 0."""
    shape = (-1,) + (1,) * (max(first.dim(), second.dim()) - 1)
    return torch.where(choice.reshape(shape) > 0.5, first, second)


def peak(image: Tensor) -> Tensor:
    """Largest of the three channels, (B, S, S)."""
    return image.amax(1)
