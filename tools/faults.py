"""Image AUROC by size and kind of fault: python tools/faults.py TREE RESULTS.

RESULTS is the folder that `bayes-pfl evaluate --data TREE --out RESULTS` wrote. Every anomalous
image is compared with the normal ones of its category: the share of them with a lower score, ties
counted half. The mean of that over some anomalous images of a category is their image AUROC.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bayes_pfl.data.images import read_mask
from bayes_pfl.data.records import Sample
from bayes_pfl.errors import BayesPFLError, DataError
from bayes_pfl.evaluate.datasets import read_trees

SCORES = ("score_deploy", "text_score", "map_score")
SIZES = (0.001, 0.003, 0.01, 0.03, 1.0)
"""Upper ends of the size bins, as shares of the picture."""


@dataclass(frozen=True)
class Fault:
    """An anomalous image: kind, share of the picture, share of normal images with a lower score."""

    kind: str
    size: float | None
    above: float


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path, help="MVTec tree that was evaluated")
    parser.add_argument("results", type=Path, help="folder of the evaluation, one seed")
    parser.add_argument("--score", choices=SCORES, default=SCORES[0])
    options = parser.parse_args(arguments)
    try:
        samples = read_trees([options.tree])[0].samples
        found = list(faults(samples, read_scores(options.results / "images.csv", options.score)))
    except BayesPFLError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sizes, kinds = defaultdict(list), defaultdict(list)
    for fault in found:
        sizes[size_name(fault.size)].append(fault.above)
        kinds[fault.kind].append(fault.above)
    order = [size_name(end) for end in SIZES] + [size_name(None)]
    print(table("size of the fault", {name: sizes[name] for name in order if sizes[name]}))
    print(table("kind of fault", dict(sorted(kinds.items(), key=lambda x: np.mean(x[1])))))
    return 0


def read_scores(path: Path, score: str) -> dict[Path, float]:
    """Scores by image.

    Raises:
        DataError: a file that is not there, or no table of one evaluation and one seed.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                (Path(row["path"]).resolve(), row["seed"], float(row[score]))
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: no images.csv of an evaluation ({error}); see docs/evaluation.md"
        ) from None
    seeds = {seed for _, seed, _ in rows}
    if len(seeds) != 1:
        raise DataError(
            f"{path}: {len(seeds)} seeds where one is wanted; evaluate with one --seeds"
        )
    return {name: value for name, _, value in rows}


def faults(samples: Iterable[Sample], scores: Mapping[Path, float]) -> Iterable[Fault]:
    """Every anomalous image with a score, where its category has normal ones with a score."""
    paths = {sample.path.resolve(): sample for sample in samples}
    scored = [(sample, scores[path]) for path, sample in paths.items() if path in scores]
    if not scored:
        raise DataError(
            "none of the tree's images is in images.csv; give the tree that was evaluated"
        )
    normal = defaultdict(list)
    for sample, score in scored:
        if not sample.label:
            normal[sample.category].append(score)
    for sample, score in scored:
        if sample.label and normal[sample.category]:
            others = np.asarray(normal[sample.category])
            above = np.mean((score > others) + (score == others) / 2)
            size = None if sample.mask is None else float(read_mask(sample.mask).mean())
            yield Fault(sample.defect, size, float(above))


def size_name(size: float | None) -> str:
    """The bin of a share of the picture."""
    if size is None:
        return "no mask"
    place = int(np.searchsorted(SIZES, size))
    lower = SIZES[place - 1] if place else 0
    return f"{100 * lower:g} to {100 * SIZES[place]:g}%"


def table(title: str, groups: Mapping[str, list[float]]) -> str:
    """Markdown: images and image AUROC of each group, in percent."""
    lines = [f"| {title} | images | image AUROC |", "|---|---:|---:|"]
    lines += [f"| {name} | {len(v)} | {100 * np.mean(v):.1f} |" for name, v in groups.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
