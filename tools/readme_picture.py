"""Pictures of the README and of the model card: rendered things that the shipped head never saw.

python tools/readme_picture.py docs/images/overview.png
python tools/readme_picture.py docs/images/failures.png --worst
"""

import argparse
from pathlib import Path

from PIL import Image
from sklearn.metrics import roc_auc_score

from bayes_pfl import BayesPFL
from bayes_pfl.data.synthetic import CATEGORIES, TEST_CATEGORIES, render

# Three that work, and one (granite) that does not.
SHOWN = (("galvanised", 0), ("slate", 0), ("head_ct", 2), ("granite", 3))
SEED, SIZE, COLUMNS = 7, 384, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--worst", action="store_true", help="of each test category's first three, the worst four"
    )
    options = parser.parse_args()
    model = BayesPFL.from_pretrained("bayes-pfl-tiny", device="cpu")
    if options.worst:
        wanted = [(category, index) for category in TEST_CATEGORIES for index in range(3)]
        tiles = [tile for _, tile in sorted(map(shown(model), wanted), key=lambda x: x[0])[:4]]
    else:
        tiles = [tile for _, tile in map(shown(model), SHOWN)]
    width, height = max(t.width for t in tiles), max(t.height for t in tiles)
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    for position, tile in enumerate(tiles):
        sheet.paste(tile, (position % COLUMNS * width, position // COLUMNS * height))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, optimize=True)


def shown(model):
    """(category, index) -> the pixel AUROC within that picture, and its overlay."""

    def show(chosen):
        category, index = chosen
        picture = render(category, SEED, index, size=SIZE, defect="random")
        name = CATEGORIES[category].class_name
        result = model.predict(picture.image, class_name=name)
        found = roc_auc_score(picture.mask.ravel(), result.anomaly_map.ravel())
        title = f"{name}, {picture.defect.replace('_', ' ')}"
        return found, result.overlay(title=title, mask=picture.mask)

    return show


if __name__ == "__main__":
    main()
