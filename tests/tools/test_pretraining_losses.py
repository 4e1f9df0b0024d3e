"""What the small CLIP is trained by: losses least at the truth, and tuning that lowers them."""

from __future__ import annotations

from dataclasses import replace

import open_clip
import pytest
import torch
import torch.nn.functional as F

from pretraining.architecture import build_clip
from pretraining.captions import PictureFacts
from pretraining.class_names import rectified_mean
from pretraining.features import FeatureSet
from pretraining.lite_weights import LiteWeights
from pretraining.locked_tuning import tune
from pretraining.objective import (
    distilled_names,
    named_classes,
    soft_contrastive,
    state_pairs,
)
from pretraining.recipe import tuning_data
from pretraining.unlocking import reading_losses
from tests.helpers.small_recipe import TINY, random_weights


@pytest.fixture(scope="module")
def weights() -> LiteWeights:
    return random_weights()


def test_mean_of_rectified_normal_against_sampling() -> None:
    mean, std = torch.tensor([-1.0, 0.5, 5.0]), torch.tensor([1.0, 2.0, 3.0])
    generator = torch.Generator().manual_seed(0)
    drawn = mean + std * torch.randn(400_000, 3, generator=generator)
    assert torch.allclose(rectified_mean(mean, std), drawn.clamp(0, 6).mean(0), atol=0.02)


def test_a_cell_is_wanted_in_full_from_a_chosen_share_on() -> None:
    shares, views, labels = torch.tensor([[0.0, 0.25, 0.9]]), torch.zeros(1), torch.ones(1)

    def cells(full_from: float, *logits: float) -> float:
        given = torch.tensor([logits]).float()
        return reading_losses(given, views, shares, labels, full_from)["cells"].item()

    quarter = -1.0986  # the logit of a quarter
    assert cells(0.25, -9, 9, 9) < 0.01 < cells(0.25, -9, quarter, 9)
    assert cells(1.0, -9, quarter, 9) < cells(1.0, -9, 9, 9)
    assert cells(0.25, 9, 9, 9) > 1


def test_one_true_caption_a_picture_gives_the_loss_of_clip() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = F.normalize(torch.randn(2, 5, 7, generator=generator), dim=-1)
    logits, own = 10 * images @ texts.T, torch.arange(5)
    usual = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    ours = soft_contrastive(images, texts, torch.eye(5).bool(), torch.tensor(10.0))
    assert torch.allclose(ours, usual, atol=1e-6)


def test_a_sure_teacher_gives_plain_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = F.normalize(torch.randn(2, 6, 7, generator=generator), dim=-1)
    labels = torch.tensor([3, 1, 1, 5, 0, 2])
    sure = 1000.0 * F.one_hot(labels, 6)
    ours = distilled_names(images, texts, sure, torch.tensor(10.0))
    assert torch.allclose(ours, F.cross_entropy(10 * images @ texts.T, labels), atol=1e-6)


def test_losses_are_least_where_the_truth_is() -> None:
    images, scale = torch.eye(4), torch.tensor(20.0)
    true = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1]]).bool()
    texts = F.normalize(true.T.float(), dim=-1)
    assert soft_contrastive(images, texts, true, scale) < soft_contrastive(
        images, texts.flip(0), true, scale
    )
    labels, applies = torch.tensor([False, False, True, True]), torch.ones(4, 1).bool()
    right = state_pairs(images, texts[:1], texts[1:], applies, labels, scale)
    wrong = state_pairs(images, texts[1:], texts[:1], applies, labels, scale)
    assert right < 1e-4 and wrong > 1
    some = torch.tensor([2, 0])
    assert named_classes(images, images[some], some, scale) < 1e-4


def test_tuning_learns_all_its_tasks(weights: LiteWeights) -> None:
    generator = torch.Generator().manual_seed(0)
    means = 4 * torch.rand(4, 1280, generator=generator)
    features = means.repeat(4, 1) + 0.2 * torch.rand(16, 1280, generator=generator)
    subjects = [PictureFacts(n, d) for n in ("nut", "wood") for d in ("good", "hole")] * 4
    spoiled = torch.tensor([[s.defective] for s in subjects])
    data = tuning_data(FeatureSet(features, tuple(subjects), features[:, None], spoiled), weights)

    def losses(steps: int) -> dict[str, float]:
        config = replace(
            TINY, steps=steps, batch=16, class_names=16, learning_rate=2e-2, picture_names=True
        )
        clip = build_clip(config, weights)
        return tune(clip, open_clip.SimpleTokenizer(), data, config)

    before, after = losses(1), losses(40)
    assert after["states"] < 0.8 * before["states"]
    others = ("captions", "names", "picture names", "places")
    assert all(after[name] < before[name] for name in others)
