"""The pictures of docs/rendering.md: python tools/rendering_sheet.py --out FILE [--batched].

Every category that can be rendered, each once as it should be and once with a fault, outlined; or
every family that is rendered by the batch, twice.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from bayes_pfl.data.synthetic import CATEGORIES, Rendered, render
from bayes_pfl.data.synthetic.batched import BATCHED, render_batch

SIDE, COLUMNS, TITLE, GAP = 112, 7, 14, 4
OUTLINE = (255, 40, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--batched", action="store_true", help="families rendered by the batch")
    options = parser.parse_args()
    if options.batched:
        pairs = [pair(*both) for name in sorted(BATCHED) for both in family(name, options.seed)]
    else:
        pairs = [pair(*category(name, options.seed)) for name in sorted(CATEGORIES)]
    width, height = pairs[0].size
    rows = -(-len(pairs) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (width + GAP), rows * (height + GAP)), "white")
    for place, picture in enumerate(pairs):
        row, column = divmod(place, COLUMNS)
        sheet.paste(picture, (column * (width + GAP), row * (height + GAP)))
    sheet.save(options.out, quality=82)


def category(name: str, seed: int) -> tuple[Rendered, Rendered]:
    """The same scene without and with a fault."""
    return render(name, seed, 0, size=256), render(name, seed, 0, size=256, defect="random")


def family(name: str, seed: int) -> Iterator[tuple[Rendered, Rendered]]:
    """Two scenes of a family, each without and with a fault."""
    indices, kinds = [0, 1] * 2, [None] * 2 + ["random"] * 2
    pictures = list(render_batch([name] * 4, seed, indices, defects=kinds).pictures())
    return zip(pictures[:2], pictures[2:], strict=True)


def pair(good: Rendered, bad: Rendered) -> Image.Image:
    """The same scene without and with a fault, outlined, under its name."""
    spoiled = bad.image.copy()
    edges, _ = cv2.findContours(bad.mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(spoiled, edges, -1, OUTLINE, 2)
    picture = Image.new("RGB", (2 * SIDE, SIDE + TITLE), "white")
    for place, pixels in enumerate((good.image, spoiled)):
        picture.paste(Image.fromarray(pixels).resize((SIDE, SIDE)), (place * SIDE, TITLE))
    name = bad.category.removeprefix("batched_")
    title = f"{name.replace('_', ' ')}: {bad.defect.replace('_', ' ')}"
    ImageDraw.Draw(picture).text((2, 1), title, fill="black")
    return picture


if __name__ == "__main__":
    main()
