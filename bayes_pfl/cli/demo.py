"""The demonstration: rendered data, a training to watch, zero-shot results on photographs.

Everything runs from the files that travel with the package: no network, no GPU.
"""

from __future__ import annotations

import csv
import shutil
import time
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from bayes_pfl.checkpoints.load import DEFAULT_CHECKPOINT, load_checkpoint
from bayes_pfl.clip.weights import EMBEDDED_BACKBONE
from bayes_pfl.config import BackboneConfig, StageConfig, TrainConfig
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.run import run_evaluation
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.fit.fit import FitOptions, fit_folder
from bayes_pfl.fit.profile_files import save_profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.rendering import TEST_CATEGORIES, TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.report.html import NAME as REPORT_NAME
from bayes_pfl.support.progress import Progress
from bayes_pfl.support.run_names import CSV_NAME
from bayes_pfl.train.run import TrainingRequest, run_training

SOLAR_CATEGORY = "solar_cell"
_OWN = "Your own head, just trained, on rendered categories it has never seen:"
_SHIPPED = f"The shipped head ({DEFAULT_CHECKPOINT}), on the same:"
_SOLAR = "The shipped head on real photographs of solar cells (elpv-dataset, no masks):"


@dataclass(frozen=True)
class DemoSize:
    """How much is rendered, trained, fitted and predicted."""

    train_categories: int
    test_categories: int
    images: int
    steps: int
    epochs: int
    batch: int
    photographs: int
    sound: int


FULL = DemoSize(10, 4, 12, steps=30, epochs=3, batch=8, photographs=60, sound=20)
QUICK = DemoSize(4, 2, 3, steps=2, epochs=1, batch=4, photographs=6, sound=2)


def run_demo(out: Path, progress: Progress, *, quick: bool = False) -> str:
    """Render, train, evaluate on unseen categories and on real photographs, predict.

    Args:
        out: folder; an earlier run there is left alone, and a new folder is made next to it.

    Returns:
        The report to print: tables, times and where to look.
    """
    size = QUICK if quick else FULL
    started = time.perf_counter()
    out = _fresh(out)
    train, test = out / "rendered-train", out / "rendered-test"
    write = partial(write_mvtec_tree, normals=size.images, anomalies=size.images)
    write(train, spread(TRAIN_CATEGORIES, size.train_categories), seed=0)
    write(test, spread(TEST_CATEGORIES, size.test_categories), seed=1)
    run_training(_request(train, out, size), progress)
    own = load_checkpoint(out / "run", device="cpu")
    shipped = load_checkpoint(DEFAULT_CHECKPOINT, device="cpu")
    folder = write_solar_cells(out / "elpv", size.photographs)
    parts = []
    for title, model, name, data, results in (
        (_OWN, own, "run/best", test, "own"),
        (_SHIPPED, shipped, DEFAULT_CHECKPOINT, test, "shipped"),
        (_SOLAR, shipped, DEFAULT_CHECKPOINT, folder, "elpv-results"),
    ):
        settings = EvaluationSettings(batch_size=16)
        done = run_evaluation(
            model, name, [data], out / results, settings=settings, progress=progress
        )
        parts += [title, *done.values()]
    parts.append(_with_sound_ones(shipped, folder / SOLAR_CATEGORY / "test", out, size, progress))
    minutes = (time.perf_counter() - started) / 60
    parts.append(f"{minutes:.1f} minutes in all; tables and overlays lie in {out / 'predictions'}")
    parts.append(f"open {out / 'predictions' / REPORT_NAME}")
    return "\n".join(parts)


def _with_sound_ones(
    model: BayesPFLNetwork, photographs: Path, out: Path, size: DemoSize, progress: Progress
) -> str:
    """Fit a profile to some of the sound photographs, predict on the others: what that gained."""
    sound, unknown = out / "sound", out / "unknown"
    for name in ("good", "defective"):
        for number, path in enumerate(sorted((photographs / name).iterdir())):
            known = name == "good" and number < size.sound
            place = sound if known else unknown
            place.mkdir(exist_ok=True)
            shutil.copy(path, place / (path.name if known else f"{name}-{path.name}"))
    profile = fit_folder(
        model,
        sound,
        "solar cell",
        FitOptions(keep_outliers=True),
        checkpoint=DEFAULT_CHECKPOINT,
        progress=progress,
    ).profile
    save_profile(profile, out / "profile")
    predict_folder(
        model, unknown, out / "predictions", profile=profile, overwrite=True, progress=progress
    )
    figures = [f"{100 * _auroc(out / 'predictions', key):.1f}" for key in ("words_score", "score")]
    return (
        f"The shipped head with {size.sound} sound photographs (bayes-pfl fit, then predict "
        f"--profile): image AUROC {figures[1]}, by words alone {figures[0]}, on the other "
        f"{size.photographs - size.sound}."
    )


def _auroc(run: Path, column: str) -> float:
    from sklearn.metrics import roc_auc_score

    with (run / CSV_NAME).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [row["path"].startswith("defective") for row in rows]
    return float(roc_auc_score(labels, [float(row[column]) for row in rows]))


def write_solar_cells(out: Path, count: int) -> Path:
    """The first ``count`` sound and surely defective cells of elpv-dataset, as an MVTec tree.

    Raises:
        DataError: the package is not installed.
    """
    if find_spec("elpv_dataset") is None:
        raise DataError("elpv-dataset is not installed: pip install elpv-dataset, or make setup")
    import numpy as np
    from elpv_dataset.utils import load_dataset
    from PIL import Image

    images, probability, _ = load_dataset()
    probability = np.asarray(probability, float)
    for name, sure in (("good", 0.0), ("defective", 1.0)):
        folder = out / SOLAR_CATEGORY / "test" / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in np.flatnonzero(probability == sure)[: count // 2]:
            Image.fromarray(np.asarray(images[index])).save(folder / f"cell_{index:04d}.png")
    return out


def _request(data: Path, out: Path, size: DemoSize) -> TrainingRequest:
    config = TrainConfig(
        stage1=StageConfig(size.epochs, patience=size.epochs),
        stage2=StageConfig(max(1, size.epochs // 4), patience=1),
        batch_size=size.batch,
        steps_per_epoch=size.steps,
        cache_views=1,
        lr_other=1e-3,  # a small backbone, few steps: see docs/training.md
    )
    return TrainingRequest(
        data,
        out / "run",
        BackboneConfig(EMBEDDED_BACKBONE),
        config,
        accelerator="cpu",
        cache=out / "features",
    )


def spread(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """``count`` of the names, evenly spaced: surfaces, objects and scans stand one after another.

    >>> spread(("a", "b", "c", "d", "e", "f"), 3)
    ('a', 'c', 'e')
    """
    return tuple(names[index * len(names) // count] for index in range(count))


def _fresh(out: Path) -> Path:
    """``out``, or out-2, out-3, ... where a demonstration has been run before."""
    candidate, number = out, 1
    while candidate.exists() and any(candidate.iterdir()):
        number += 1
        candidate = out.with_name(f"{out.name}-{number}")
    return candidate
