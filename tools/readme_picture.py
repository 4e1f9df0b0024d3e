"""Pictures of the README and of the model cards: things that the models never saw.

python tools/readme_picture.py docs/images/overview.jpg
python tools/readme_picture.py docs/images/failures.jpg --worst
python tools/readme_picture.py docs/images/failures-by-hand.jpg --worst --by-hand
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from elpv_dataset.utils import load_dataset
from PIL import Image
from sklearn.metrics import roc_auc_score

from bayes_pfl import BayesPFL
from bayes_pfl.data.transforms import resize_image
from bayes_pfl.detect.overlays import overlay
from bayes_pfl.detect.results import score_note
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.rendering import CATEGORIES, TEST_CATEGORIES, render
from bayes_pfl.scoreboard.board import bare_model
from bayes_pfl.scoreboard.methods import HandcraftedPrompts, encode

# Photographs of solar cells, by number: faults that the eye sees, one of them missed; a sound cell.
SHOWN = {13: "dark area", 38: "broken pieces", 9: "fine cracks", 531: "sound cell"}
SOUND = 20  # photographs of sound cells that the profile is fitted to
SEED, SIZE, COLUMNS = 7, 384, 2

Look = Callable[[np.ndarray, str], tuple[np.ndarray, str]]
"""Image and class name -> anomaly map and a note of its score."""


@dataclass(frozen=True)
class Seen:
    """A rendered picture and its map.

    found    pixel AUROC within the picture
    """

    image: np.ndarray
    mask: np.ndarray
    title: str
    note: str
    anomaly_map: np.ndarray
    found: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--worst", action="store_true", help="of each test category's first three, the worst four"
    )
    parser.add_argument("--by-hand", action="store_true", help="the CLIP alone, prompts by hand")
    options = parser.parse_args()
    tiles = worst(options.by_hand) if options.worst else photographs()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(tiles).save(options.out, optimize=True, quality=90)


def photographs() -> list[Image.Image]:
    """Solar cells of elpv-dataset, scored with a profile of others that are sound."""
    images, probability, kind = (np.asarray(column) for column in load_dataset())
    sound = np.flatnonzero((probability == 0) & (kind == "mono"))[:SOUND]
    model = BayesPFL.from_pretrained("bayes-pfl-tiny", device="cpu")
    profile = fit_profile(model, list(images[sound]), "solar cell", FitOptions(keep_outliers=True))
    tiles = []
    for number, title in SHOWN.items():
        assert number not in sound
        result = model.predict(images[number], profile=profile)
        verdict = "anomalous" if result.label else "normal"
        tiles.append(result.overlay(title=f"{title}: labelled {verdict}"))
    return tiles


def worst(by_prompts_alone: bool) -> list[Image.Image]:
    """Of three rendered pictures of each test category, the four whose maps are worst."""
    look, limits = by_hand() if by_prompts_alone else by_head()
    wanted = [(category, index) for category in TEST_CATEGORIES for index in range(3)]
    seen = [show(look, category, index) for category, index in wanted]
    if limits is None:
        limits = tuple(np.quantile([one.anomaly_map for one in seen], (0.5, 0.95)))
    seen = sorted(seen, key=lambda one: one.found)[:4]
    return [drawn(one, limits) for one in seen]


def by_head() -> tuple[Look, tuple[float, float]]:
    """The shipped head, and the ends of its colours."""
    model = BayesPFL.from_pretrained("bayes-pfl-tiny", device="cpu")

    def look(image: np.ndarray, name: str) -> tuple[np.ndarray, str]:
        result = model.predict(image, class_name=name)
        return result.anomaly_map, score_note(result.score, result.interval)

    return look, model.config.scoring.map_range


def by_hand() -> tuple[Look, None]:
    """The scoreboard's row of the shipped CLIP; the ends of its colours are not known."""
    model = bare_model("bayes-pfl-clip-tiny", device="cpu", image_size=320)
    sigma = model.config.scoring.smoothing * model.backbone.image_size
    method = HandcraftedPrompts(model.backbone, "by hand", sigma)

    def look(image: np.ndarray, name: str) -> tuple[np.ndarray, str]:
        batch = encode(model, [resize_image(Image.fromarray(image), 320)], [name])
        scores, maps = method.score(batch)
        return maps[0].float().numpy(), f"score {float(scores[0]):.3f}"

    return look, None


def show(look: Look, category: str, index: int) -> Seen:
    picture = render(category, SEED, index, size=SIZE, defect="random")
    name = CATEGORIES[category].class_name
    anomaly_map, note = look(picture.image, name)
    truth = Image.fromarray(picture.mask).resize(anomaly_map.shape[::-1], Image.Resampling.NEAREST)
    found = roc_auc_score(np.asarray(truth).ravel(), anomaly_map.ravel())
    title = f"{name}, {picture.defect.replace('_', ' ')}"
    return Seen(picture.image, picture.mask, title, note, anomaly_map, found)


def drawn(seen: Seen, limits: tuple[float, float]) -> Image.Image:
    image = Image.fromarray(seen.image)
    words = {"title": seen.title, "note": seen.note}
    return overlay(image, seen.anomaly_map, mask=seen.mask, limits=limits, **words)


def sheet(tiles: list[Image.Image]) -> Image.Image:
    width, height = max(t.width for t in tiles), max(t.height for t in tiles)
    rows = -(-len(tiles) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    for position, tile in enumerate(tiles):
        whole.paste(tile, (position % COLUMNS * width, position // COLUMNS * height))
    return whole


if __name__ == "__main__":
    main()
