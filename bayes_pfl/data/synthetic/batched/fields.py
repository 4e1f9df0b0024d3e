"""Procedural fields, float32 (B, S, S), made for a whole batch at once.

Places are pairs (x, y) of such fields, in sides of the picture from its centre, so [-0.5, 0.5];
all lengths are in sides unless a name ends in ``_px``. A parameter is a number or (B, 1, 1).
Only additions, products, roots and look-ups are used where pixels are many: every device rounds
those alike. Nothing is summed over pixels but whole numbers, so batches do not matter either.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.data.synthetic.batched.hashing import Draws, direction, to_normal, to_uniform

Place = tuple[Tensor, Tensor]
Number = float | Tensor

_LATTICE, _CELLS = 128, 64
"""Cells after which noise, and patterns, repeat; powers of two, so that wrapping is exact."""


def plane(batch: int, size: int, device: torch.device) -> Place:
    """x and y of every pixel's middle."""
    axis = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size - 0.5
    return axis[None, None, :].expand(batch, size, size), axis[None, :, None].expand(
        batch, size, size
    )


def turned(at: Place, radians: Tensor) -> Place:
    """Coordinates along and across a direction."""
    c, s = direction(radians)
    return c * at[0] + s * at[1], c * at[1] - s * at[0]


def moved(at: Place, by: tuple[Number, Number]) -> Place:
    return at[0] - by[0], at[1] - by[1]


def length(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)


def smoothstep(low: Number, high: Number, field: Tensor) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between (``low`` > ``high`` reverses it)."""
    t = ((field - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def wave(turns: Tensor) -> Tensor:
    """Much like a sine of period 1, in [-1, 1], out of products alone."""
    t = 2 - 4 * (turns - torch.floor(turns) - 0.5).abs() - 1
    return t * (1.5 - 0.5 * t * t)


def hill(t: Tensor) -> Tensor:
    """1 at 0, gone far away: bell-shaped, without an exponential."""
    return 1 / (1 + t * t) ** 2


def sharp(distance: Tensor, size: int, soft: Number = 0.0) -> Tensor:
    """1 where a signed distance is below 0, with an edge one pixel and ``soft`` wide."""
    half = 0.5 / size + 0.5 * soft
    return smoothstep(half, -half, distance)


def _wrapped(whole: Tensor, period: int) -> Tensor:
    """Whole numbers in float32, modulo a power of two."""
    return whole - torch.floor(whole * (1 / period)) * period


def _ringed(table: Tensor, before: int) -> Tensor:
    """A lattice (B, L, L) that repeats, with its neighbours round it; flat, for ``gather``."""
    return F.pad(table[:, None], (before, 1, before, 1), mode="circular").flatten(1)


def _pick(table: Tensor, place: Tensor) -> Tensor:
    return table.gather(1, place.flatten(1)).view_as(place)


def one_each(draws: Draws, name: str, column: Tensor, row: Tensor) -> Tensor:
    """A uniform value for every whole-numbered cell of a pattern."""
    table = to_uniform(draws.bits(name, _CELLS * _CELLS))
    place = _wrapped(row, _CELLS) * _CELLS + _wrapped(column, _CELLS)
    return _pick(table, place.long())


def _between(table: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """A ringed lattice, smooth between its nodes, at places in cells."""
    column, row = torch.floor(u), torch.floor(v)
    across, down = u - column, v - row
    wide = _LATTICE + 1
    place = (_wrapped(row, _LATTICE) * wide + _wrapped(column, _LATTICE)).long()
    across, down = across * across * (3 - 2 * across), down * down * (3 - 2 * down)
    upper, lower = (
        left + (_pick(table, start + 1) - left) * across
        for start in (place, place + wide)
        for left in (_pick(table, start),)
    )
    return upper + (lower - upper) * down


def fbm(
    draws: Draws,
    name: str,
    at: Place,
    cell: Number,
    octaves: int = 4,
    gain: float = 0.5,
    stretch: Number = 1.0,
    radians: Tensor | None = None,
) -> Tensor:
    """Smooth noise, each octave half the size and ``gain`` times the height of the last.

    Variance about 1. ``cell`` is the size of the largest features, drawn out ``stretch`` times
    along ``radians``. Octaves finer than a pixel fade away.
    """
    size = at[0].shape[-1]
    table = _ringed(to_normal(draws.bits(name, _LATTICE, _LATTICE)), 0)
    starts = to_uniform(draws.bits(name + " start", 2 * octaves, 1, 1))
    x, y = at if radians is None else turned(at, radians)
    total, height, energy = 0.0, 1.0, 0.0
    for octave in range(octaves):
        start = starts[:, 2 * octave : 2 * octave + 2] * _LATTICE
        u, v = x / (cell * stretch) + start[:, 0], y / cell + start[:, 1]
        seen = torch.as_tensor(cell * size - 0.5, device=u.device).clamp(0, 1)
        total = total + height * seen * _between(table, u, v)
        energy += height * height
        height, cell = height * gain, cell * 0.5
    # Interpolation lowers the variance of a layer to about 0.55.
    return total * (0.55 * energy) ** -0.5


def grain(draws: Draws, name: str, size: int) -> Tensor:
    """Speckle, one independent value a pixel."""
    return draws.white(name, size, size)


def cells(
    draws: Draws, name: str, at: Place, spacing: Number, jitter: Number = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Voronoi cells: (distance to the seed, to the border, one value in [0, 1) for each cell).

    Distances are in units of ``spacing``. ``jitter`` 0 gives a regular lattice.
    """
    bits = draws.bits(name, _CELLS, _CELLS)
    x_table, y_table, values = (
        _ringed((bits >> shift & 1023).float() / 1024, 1) for shift in (0, 10, 20)
    )
    u, v, wide = at[0] / spacing, at[1] / spacing, _CELLS + 2
    column, row = torch.floor(u), torch.floor(v)
    place = ((_wrapped(row, _CELLS) + 1) * wide + _wrapped(column, _CELLS) + 1).long()
    u, v = u - column - 0.5 + 0.5 * jitter, v - row - 0.5 + 0.5 * jitter
    near = torch.full_like(u, 9.0)
    second, own = near, place
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            seed = place + (down * wide + across)
            x = _pick(x_table, seed) * jitter - (u - across)
            y = _pick(y_table, seed) * jitter - (v - down)
            far = x * x + y * y
            own = torch.where(far < near, seed, own)
            second = torch.minimum(second, torch.maximum(near, far))
            near = torch.minimum(near, far)
    near, second = torch.sqrt(near), torch.sqrt(second)
    return near, 0.5 * (second - near), _pick(values, own)


def blurred(image: Tensor, spread_px: Number, reach: int = 2) -> Tensor:
    """(B, C, S, S) blurred by a bell of about ``spread_px``, a number or (B, 1, 1, 1).

    Written as sums of shifted pictures: a convolution may round by the size of the batch.
    """
    weights = [1 / (1 + (k / spread_px) ** 2 * 0.5) ** 3 for k in range(reach + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for axis in (3, 2):
        pad = (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach)
        padded, side = F.pad(image, pad, mode="replicate"), image.shape[axis]
        image = image * (weights[0] / total)
        for k in range(1, reach + 1):
            pair = padded.narrow(axis, reach - k, side) + padded.narrow(axis, reach + k, side)
            image = image + pair * (weights[k] / total)
    return image


def slope(height: Tensor, light: Place) -> Tensor:
    """How much a height, in 256ths of a side, leans towards the lamp."""
    padded = F.pad(height[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    scale = 0.5 * height.shape[-1] / 256
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * scale
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * scale
    return -(light[0] * across + light[1] * down)


def warped(image: Tensor, at: Place) -> Tensor:
    """A picture (B, C, S, S) as seen at other places; its edge goes on outside."""
    grid = torch.stack([2 * at[0], 2 * at[1]], -1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def reached(field: Tensor, where: Tensor, share: float, steps: int = 10) -> Tensor:
    """The value in [0, 1] that ``share`` of the pixels in ``where`` reach, (B, 1, 1).

    Found by halving, with whole numbers counted: no sum of floats, no sort.
    """
    count = where.sum((1, 2), keepdim=True)
    low = torch.zeros(count.shape, device=field.device)
    for step in range(1, steps + 1):
        middle = low + 2.0**-step
        above = ((field >= middle) & where).sum((1, 2), keepdim=True)
        low = torch.where(above >= share * count, middle, low)
    return low
