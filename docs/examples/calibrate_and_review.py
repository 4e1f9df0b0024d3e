"""A threshold from normal pictures alone; then new ones: clear cases, and those for a person.

python docs/examples/calibrate_and_review.py --normals GOOD --new NEW --class-name "metal nut"
python docs/examples/calibrate_and_review.py    # without folders: pictures rendered for the example
"""

import argparse
from pathlib import Path

from PIL import Image

from bayes_pfl import AnomalyDetector, BayesPFL
from bayes_pfl.data.image_files import find_images
from bayes_pfl.fit.calibrate import CalibrationOptions, calibrate_folder
from bayes_pfl.rendering import render


def main(
    normals: Path | None,
    new: Path | None,
    class_name: str,
    out: Path,
    fpr: float = 0.05,
    checkpoint: str = "bayes-pfl-tiny",
) -> dict[str, list[str]]:
    normals = normals or rendered(out / "normals", class_name, 30, faulty=False)
    new = new or rendered(out / "new", class_name, 8, faulty=True)
    model = BayesPFL.from_pretrained(checkpoint)

    # Some normal pictures of the example differ much from the rest, so outliers are kept. With
    # your own, leave keep_outliers out and look at what is named.
    options = CalibrationOptions(fpr=fpr, keep_outliers=True)
    calibration, skipped = calibrate_folder(model, normals, class_name, options)
    calibration.save(out / "calibration.json")
    print(f"{calibration.n} normal pictures, {len(skipped)} unreadable")
    print(f"threshold {calibration.threshold:.3f}, of the map {calibration.pixel_threshold:.3f}")

    piles: dict[str, list[str]] = {"normal": [], "anomalous": [], "review": []}
    for result in model.predict_stream(find_images(new), class_name, calibration=calibration):
        pile = "review" if result.needs_review else "anomalous" if result.label else "normal"
        piles[pile].append(result.path)
        result.save(out / pile)  # outlined where the map reaches its threshold
        low, high = result.interval
        print(f"{pile:9s} {result.score:.3f} in [{low:.3f}, {high:.3f}], p {result.p_value:.3f},")
        print(f"          {len(result.boxes(min_area=20))} regions: {Path(result.path).name}")

    # The same for scikit-learn: 1 for inliers, -1 for outliers.
    detector = AnomalyDetector(model, class_name, fpr=fpr, keep_outliers=True)
    detector.fit(find_images(normals))
    print("scikit-learn:", detector.predict(find_images(new)).tolist())
    return piles


def rendered(folder: Path, class_name: str, count: int, faulty: bool) -> Path:
    """Pictures; every second one with a fault, if they are to be faulty."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        fault = "random" if faulty and index % 2 else None
        one = render(class_name, seed=int(faulty), index=index, size=256, defect=fault)
        Image.fromarray(one.image).save(folder / f"{index:02d}-{fault or 'good'}.png")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--normals", type=Path)
    parser.add_argument("--new", type=Path)
    parser.add_argument("--class-name", default="zipper")
    parser.add_argument("--out", type=Path, default=Path("example-calibrate"))
    parser.add_argument("--fpr", type=float, default=0.05)
    given = parser.parse_args()
    main(given.normals, given.new, given.class_name, given.out, given.fpr)
