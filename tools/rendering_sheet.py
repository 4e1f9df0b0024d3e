"""The picture of docs/rendering.md: python tools/rendering_sheet.py --out FILE.

Shows every category once normal and once with a defect, whose outline is drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from bayes_pfl.rendering import CATEGORIES, render

SIDE, COLUMNS, TITLE, GAP = 112, 7, 14, 4
OUTLINE = (255, 40, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    pairs = [pair(name, options.seed) for name in sorted(CATEGORIES)]
    width, height = pairs[0].size
    rows = -(-len(pairs) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (width + GAP), rows * (height + GAP)), "white")
    for place, picture in enumerate(pairs):
        row, column = divmod(place, COLUMNS)
        sheet.paste(picture, (column * (width + GAP), row * (height + GAP)))
    sheet.save(options.out, quality=82)


def pair(name: str, seed: int) -> Image.Image:
    """The same scene without and with a fault, outlined, under its name."""
    good = render(name, seed, 0, size=256)
    bad = render(name, seed, 0, size=256, defect="random")
    spoiled = bad.image.copy()
    edges, _ = cv2.findContours(bad.mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(spoiled, edges, -1, OUTLINE, 2)
    picture = Image.new("RGB", (2 * SIDE, SIDE + TITLE), "white")
    for place, pixels in enumerate((good.image, spoiled)):
        picture.paste(Image.fromarray(pixels).resize((SIDE, SIDE)), (place * SIDE, TITLE))
    title = f"{name.replace('_', ' ')}: {bad.defect.replace('_', ' ')}"
    ImageDraw.Draw(picture).text((2, 1), title, fill="black")
    return picture


if __name__ == "__main__":
    main()
