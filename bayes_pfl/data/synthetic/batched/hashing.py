"""Random values by counting: a picture's key, hashed with a name and a counter, gives each of them.

No generator holds a state, so a picture never depends on what else is in its batch. All is done in
whole numbers below 2**63, which every device computes alike.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF
_MULTIPLIER = 0x119DE1F3
"""Odd and below 2**31: times a 32-bit value it stays below 2**63, so that nothing overflows."""
_NORMAL_SCALE = 1.0 / math.sqrt(4 * (256**2 - 1) / 12)


def scramble(value: Tensor) -> Tensor:
    """An int64 tensor of 32-bit values to one that looks unrelated; one to one."""
    value = ((value >> 16) ^ value) * _MULTIPLIER & _LOW
    value = ((value >> 16) ^ value) * _MULTIPLIER & _LOW
    return (value >> 16) ^ value


def to_uniform(bits: Tensor) -> Tensor:
    """32-bit values to float32 in [0, 1); 24 bits are kept, so that no rounding takes place."""
    return (bits >> 8).float() * 2.0**-24


def to_normal(bits: Tensor) -> Tensor:
    """32-bit values to float32 of mean 0 and variance 1: the sum of their four bytes.

    Near to normal up to 3.4 standard deviations, and made without a logarithm.
    """
    total = (bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24)
    return (total - 510).float() * _NORMAL_SCALE


def rounded(function: str, *values: Tensor) -> Tensor:
    """sin, exp, atan2 and their like through float64.

    Libraries differ in the last bit, even between lanes of one vector; rounded to float32 they
    agree.
    """
    return getattr(torch, function)(*(value.double() for value in values)).float()


@dataclass(frozen=True)
class Draws:
    """The random values of a batch; ``keys`` is int64 (B, 2), two 32-bit halves a picture.

    Each value has a name: the same name gives the same value again. What belongs to one picture
    alone comes as (B, 1, 1), ready for fields of (B, S, S).
    """

    keys: Tensor

    @classmethod
    def of(
        cls, categories: Sequence[str], seed: int, indices: Sequence[int], device: torch.device
    ) -> Draws:
        """Keys of pictures; size is left out: a scene looks alike at every size."""
        names = [zlib.crc32(name.encode()) for name in categories]
        rows = [
            (name, seed & _LOW, seed >> 32 & _LOW, index & _LOW, index >> 32 & _LOW)
            for name, index in zip(names, indices, strict=True)
        ]
        words = torch.tensor(rows, dtype=torch.int64, device=device)
        keys = torch.tensor([[0, 1]], device=device)
        for word in words.split(1, 1):
            keys = scramble(keys ^ word)
        return cls(keys)

    def under(self, name: str) -> Draws:
        """Draws for a purpose of its own."""
        word = zlib.crc32(name.encode())
        first = scramble(self.keys[:, 0] ^ word)
        return Draws(torch.stack([first, scramble(self.keys[:, 1] + word & _LOW)], 1))

    def rows(self, rows: Tensor) -> Draws:
        return Draws(self.keys[rows])

    def bits(self, name: str, *shape: int) -> Tensor:
        """32-bit values, int64 (B, *shape)."""
        keys = self.under(name).keys
        count = math.prod(shape)
        counter = scramble(torch.arange(count, device=keys.device))[None]
        mixed = scramble(counter ^ keys[:, :1]) + keys[:, 1:] & _LOW
        return scramble(mixed).reshape(-1, *shape)

    def uniform(self, name: str, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        return low + (high - low) * to_uniform(self.bits(name, 1, 1))

    def normal(self, name: str, spread: float = 1.0) -> Tensor:
        return spread * to_normal(self.bits(name, 1, 1))

    def log_uniform(self, name: str, low: float | Tensor, high: float | Tensor) -> Tensor:
        """Every factor equally likely; ``low`` itself where ``high`` is not above it."""
        share = to_uniform(self.bits(name, 1, 1))
        low = torch.as_tensor(low, device=share.device).expand_as(share)
        high = torch.maximum(torch.as_tensor(high, device=share.device).expand_as(share), low)
        return low * rounded("pow", high / low, share)

    def chance(self, name: str, share: float) -> Tensor:
        """1.0 with this probability, else 0.0."""
        return (to_uniform(self.bits(name, 1, 1)) < share).float()

    def choose(self, name: str, *options: float) -> Tensor:
        """One of a few numbers."""
        picked = self.bits(name, 1, 1) % len(options)
        return torch.tensor(options, dtype=torch.float32, device=picked.device)[picked]

    def angle(self, name: str) -> tuple[Tensor, Tensor]:
        """Cosine and sine of any direction."""
        return direction(self.uniform(name, 0.0, 2 * math.pi))

    def white(self, name: str, *shape: int) -> Tensor:
        """Independent values of mean 0 and variance 1, (B, *shape)."""
        return to_normal(self.bits(name, *shape))


def direction(radians: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine."""
    return rounded("cos", radians), rounded("sin", radians)
