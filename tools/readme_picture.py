"""The picture of the README: rendered things that the shipped head has never seen, and its maps.

python tools/readme_picture.py docs/images/overview.png
"""

import sys
from pathlib import Path

from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.data.synthetic import CATEGORIES, render

# Three that work, and one (granite) that does not.
SHOWN = (("galvanised", 0), ("slate", 0), ("head_ct", 2), ("granite", 3))
SEED, SIZE, COLUMNS = 7, 384, 2


def main(out: Path) -> None:
    model = BayesPFL.from_pretrained("bayes-pfl-tiny", device="cpu")
    tiles = []
    for category, index in SHOWN:
        picture = render(category, SEED, index, size=SIZE, defect="random")
        name = CATEGORIES[category].class_name
        result = model.predict(picture.image, class_name=name)
        tiles.append(result.overlay(title=f"{name}, {picture.defect}", mask=picture.mask))
    width, height = max(t.width for t in tiles), max(t.height for t in tiles)
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    for position, tile in enumerate(tiles):
        sheet.paste(tile, (position % COLUMNS * width, position // COLUMNS * height))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
