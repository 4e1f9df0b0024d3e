"""Scores a folder of pictures, prints the most anomalous ones, and says where to look on the first.

python docs/examples/predict_folder.py FOLDER "metal nut" --out results
python docs/examples/predict_folder.py        # without a folder: pictures rendered for the example
"""

import argparse
import csv
from pathlib import Path

from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.rendering import render


def main(
    folder: Path | None,
    class_name: str,
    out: Path,
    count: int = 8,
    checkpoint: str = "bayes-pfl-tiny",
) -> list[dict[str, str]]:
    if folder is None:
        folder = rendered(out / "pictures", class_name, count)
    model = BayesPFL.from_pretrained(checkpoint)
    summary = predict_folder(model, folder, out / "results", class_name=class_name)
    print(f"{summary.succeeded} scored, {summary.failed} unreadable: see {summary.predictions}")

    with summary.predictions.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["error"]]
    rows.sort(key=lambda row: float(row["score"]), reverse=True)
    for row in rows[:5]:
        print(f"{row['score']} ({row['score_low']} to {row['score_high']})  {row['path']}")

    # Predict the most anomalous picture again to have its map in memory. Where is the map highest?
    best = model.predict(folder / rows[0]["path"], class_name)
    limit = best.anomaly_map.min() + 0.8 * (best.anomaly_map.max() - best.anomaly_map.min())
    for box in best.boxes(float(limit), min_area=20)[:3]:
        print("look at", box)
    best.save(out / "most-anomalous.png")
    return rows


def rendered(folder: Path, class_name: str, count: int) -> Path:
    """Render pictures; every second one has a fault."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        fault = "random" if index % 2 else None
        one = render(class_name, seed=0, index=index, size=256, defect=fault)
        Image.fromarray(one.image).save(folder / f"{index:02d}-{fault or 'good'}.png")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("class_name", nargs="?", default="zipper")
    parser.add_argument("--out", type=Path, default=Path("example-predict"))
    arguments = parser.parse_args()
    main(arguments.folder, arguments.class_name, arguments.out)
