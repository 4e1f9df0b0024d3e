"""manifest.json of an export: what its program needs to know, and what a person may ask."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.data.tiles import DEFAULT_OVERLAP, blur_disc
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.standards import ODDS_OF_HALF
from bayes_pfl.export.graph import DetectorGraph
from bayes_pfl.export.precision import Precision
from bayes_pfl.fit.decision import Decision
from bayes_pfl.fit.review import REVIEW_P
from bayes_pfl.support.checksums import file_sha256
from bayes_pfl.support.files import write_atomically
from bayes_pfl.support.parsing import Malformed, read_json

FORMAT, VERSION = "bayes-pfl export", 1
MANIFEST, ROI = "manifest.json", "roi.png"

_MAX_MANIFEST = 64 * 2**20


def is_export(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the manifest of an export."""
    try:
        data = read_json(Path(folder) / MANIFEST, _MAX_MANIFEST)
    except (OSError, Malformed):
        return False
    return isinstance(data, dict) and data.get("format") == FORMAT


def description(
    scorer: Scorer,
    graph: DetectorGraph,
    class_name: str,
    rule: Decision,
    checkpoint: str | None,
    precision: Precision,
) -> dict[str, Any]:
    """What the program needs to know of the model, and what a person may ask."""
    settings, model = scorer.settings, scorer.model
    references, known = rule.references.get(class_name), rule.calibration
    return {
        "checkpoint": {"name": checkpoint, "sha256": fingerprint(model)},
        "profile": {"sha256": rule.profile.sha256} if rule.profile else None,
        "class_name": class_name,
        "settings": {
            "image_size": model.backbone.image_size,
            "samples": settings.sample_count(model),
            "seed": settings.seed,
            "precision": precision,
            "smoothing": settings.smoothing,
            "tile": settings.tile,
            "overlap": settings.overlap if settings.tile else DEFAULT_OVERLAP,
            "window": settings.window,
        },
        "inputs": list(graph.example(1)),
        "outputs": list(graph.outputs),
        "threshold": rule.threshold,
        "map_threshold": rule.map_threshold,
        "region_threshold": rule.region_threshold,
        "review_p": REVIEW_P,
        "normal_scores": known.scores if known else None,
        "normal_peaks": known.peaks if known else None,
        "compared_with": rule.compared_with,
        "reference_digests": references.digests if references else [],
        "odds_of_half": ODDS_OF_HALF,
        "reach": [int(row.sum()) // 2 for row in blur_disc(scorer.sigma)],
    }


def write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, with the hashes of the files of the model."""
    files = sorted(
        path for path in out.iterdir() if path.name.startswith("model.") or path.name == ROI
    )
    hashes = {path.name: file_sha256(path) for path in files}
    text = json.dumps({**manifest, "sha256": hashes}, indent=2) + "\n"
    write_atomically(out / MANIFEST, text)
