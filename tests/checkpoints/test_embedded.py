"""The embedded CLIP and head: small, loadable by others, better than looking at contrast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bayes_pfl import BayesPFL
from bayes_pfl.data.samples import SampleDataset
from bayes_pfl.data.sources import read_source
from bayes_pfl.data.transforms import InferenceTransform
from bayes_pfl.evaluate.records import dataset_result
from bayes_pfl.evaluate.scoring import EvaluationSettings, evaluate
from bayes_pfl.metrics import PixelMetrics
from bayes_pfl.rendering import (
    FURTHER_CATEGORIES,
    MEDICAL_CATEGORIES,
    TEST_CATEGORIES,
    TRAIN_CATEGORIES,
    VALIDATION_CATEGORIES,
    write_mvtec_tree,
)
from bayes_pfl.scoreboard.methods import local_contrast
from bayes_pfl.support.resources import resource_dir
from tests.helpers.paths import ROOT

REAL = ROOT.parent / "shared" / "real"
CLIP = resource_dir("checkpoints") / "bayes-pfl-clip-tiny"
LIMIT = 40_000_000  # bytes, both together


@pytest.fixture(scope="module")
def model():
    return BayesPFL.from_pretrained("bayes-pfl-tiny", device="cpu")


def test_both_together_stay_small():
    folders = [CLIP, resource_dir("checkpoints") / "bayes-pfl-tiny"]
    assert sum(p.stat().st_size for f in folders for p in f.rglob("*") if p.is_file()) <= LIMIT
    assert all((folder / "README.md").is_file() for folder in folders)


def test_open_clip_itself_loads_the_backbone(model):
    import open_clip

    with torch.random.fork_rng():
        clip = open_clip.create_model(f"local-dir:{CLIP}", require_pretrained=True).eval()
    side = model.backbone.image_size  # a convolutional tower takes any
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = clip.encode_image(image)
    features = model.backbone.encode_image(image)
    assert torch.allclose(expected, features.pooled, atol=1e-4)
    assert model.backbone.sha256 == model.config.backbone.sha256


def test_shipped_head_never_saw_the_test_categories():
    seen = {*TRAIN_CATEGORIES, *FURTHER_CATEGORIES, *MEDICAL_CATEGORIES, *VALIDATION_CATEGORIES}
    assert not seen & set(TEST_CATEGORIES)


def _contrast_auroc(root):
    """Pixel AUROC of the local-contrast map on every sample of a tree, mean over categories."""
    samples = read_source(root)
    dataset = SampleDataset(samples, InferenceTransform(256, (0.0,) * 3, (1.0,) * 3))
    metrics = {sample.category: PixelMetrics() for sample in samples}
    for sample, item in zip(samples, dataset, strict=True):
        pixels = (item["image"].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        metrics[sample.category].update(local_contrast(pixels), item["mask"].numpy() > 0.5)
    return float(np.mean([metric.compute()["auroc"] for metric in metrics.values()]))


def _model_auroc(model, root):
    records = evaluate(model, read_source(root), EvaluationSettings(batch_size=16))
    return dataset_result(records, "deploy")["mean"]["pixel"]["auroc"]


def test_unseen_rendered_categories(model, tmp_path):
    root = write_mvtec_tree(tmp_path, TEST_CATEGORIES[::6], normals=1, anomalies=3, seed=11)
    reached = _model_auroc(model, root)
    assert reached >= 0.85
    assert reached > _contrast_auroc(root)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crackforest", "cookies"])
def test_real_sets_where_contrast_is_weak(model, name):
    if not (REAL / name).is_dir():
        pytest.skip(f"{REAL / name} is not here")
    contrast = _contrast_auroc(REAL / name)
    if contrast >= 0.9:
        pytest.skip(f"local contrast reaches {contrast:.3f} there")
    assert _model_auroc(model, REAL / name) > contrast
