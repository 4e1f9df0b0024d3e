"""Fits a profile on normal pictures, then sorts new pictures into normal, anomalous and to review.

python docs/examples/fit_and_review.py --normals GOOD --new NEW --class-name "metal nut"
python docs/examples/fit_and_review.py    # without folders: pictures rendered for the example
"""

import argparse
from pathlib import Path

from PIL import Image

from bayes_pfl import AnomalyDetector, BayesPFL
from bayes_pfl.data.image_files import find_images
from bayes_pfl.fit.fit import FitOptions, fit_folder
from bayes_pfl.fit.profile_files import save_profile
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

    # The folder of the profile is for `bayes-pfl predict --profile` and for profile= in Python.
    fitted = fit_folder(model, normals, class_name, FitOptions(fpr=fpr), checkpoint=checkpoint)
    profile = fitted.profile
    save_profile(profile, out / "part")
    print(f"{len(profile.pictures)} normal pictures, {len(fitted.skipped)} unreadable")
    if known := profile.calibration:
        print(f"threshold {known.threshold:.3f}, pixel_threshold {known.pixel_threshold:.3f}")
    else:  # there are scores and maps, but a person has to judge each picture
        print("no threshold: it needs a second normal picture")

    piles: dict[str, list[str]] = {"normal": [], "anomalous": [], "review": []}
    for result in model.predict_stream(find_images(new), profile=profile):
        unsure = result.label is None or result.needs_review
        pile = "review" if unsure else "anomalous" if result.label else "normal"
        piles[pile].append(result.path)
        result.save(out / pile)  # a line surrounds pixels at or above the pixel threshold
        low, high = result.interval
        near = result.nearest_normal
        print(f"{pile:9s} {result.score:.3f} in [{low:.3f}, {high:.3f}]: {Path(result.path).name}")
        print(f"          most anomalous at {near.box[:2]}, {near.distance:.3f} from {near.name}")

    # The same for scikit-learn: 1 for inliers, -1 for outliers.
    if known:
        detector = AnomalyDetector.from_profile(profile)
        print("scikit-learn:", detector.predict(find_images(new)).tolist())
    return piles


def rendered(folder: Path, class_name: str, count: int, faulty: bool) -> Path:
    """Render pictures; with ``faulty`` every second one has a fault."""
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
    parser.add_argument("--out", type=Path, default=Path("example-fit"))
    parser.add_argument("--fpr", type=float, default=0.05)
    given = parser.parse_args()
    main(given.normals, given.new, given.class_name, given.out, given.fpr)
