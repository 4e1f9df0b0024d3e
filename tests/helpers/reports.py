"""Reports to look at: a run over pictures with hostile names, and images with known scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.report.html import Report, ReportEntry

HOSTILE = (
    "<script>alert(1)<!--.png",
    "quote\" and 'blanks'  here.png",
    "ünï 日本 🔩.png",
    "&lt;b&gt;.png",
    "=1+1.png",
    "two\nlines.png",
    "${7*7}{{7*7}}.png",
)
FOLDER = "<img src=x onerror=alert(2)>"


def hostile_run(model: BayesPFL, base: Path) -> None:
    """Pictures with hostile names, one of them broken, and a run over them in base/out."""
    images = base / "images"
    (images / FOLDER).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*HOSTILE, f"{FOLDER}/in.png", "tall.png"):
        shape = (60, 20, 3) if name == "tall.png" else (40, 60, 3)
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(images / name)
    (images / "<b>broken.png").write_bytes(b"nothing")
    predict_folder(
        model,
        images,
        base / "out",
        class_name="</script><b>nut",
        settings=FolderSettings(threshold=0.5),
    )


def entries(count: int) -> list[ReportEntry]:
    """Images with scores k/count; every third is anomalous; just below 0.5 they are to review."""
    return [
        ReportEntry(
            f"image {k:04}.png",
            group="even" if k % 2 == 0 else "odd",
            score=k / count,
            low=max(0.0, k / count - 0.1),
            high=min(1.0, k / count + 0.1),
            uncertainty=(k * 7 % count) / (2 * count),
            truth=int(k % 3 == 0),
            review=0.45 < k / count < 0.5,
        )
        for k in range(count)
    ]


def report(rows: list[ReportEntry], threshold: float | None = 0.5) -> Report:
    return Report("test", "evaluation", rows, threshold, "chosen", (0.0, 1.0), "images.csv")
