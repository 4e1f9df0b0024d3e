"""Baselines of the scoreboard: local contrast, and a CLIP with prompts by hand."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.clip.frozen_clip import FrozenCLIP
from bayes_pfl.scoreboard.methods import (
    DAMAGED_STATES,
    NORMAL_STATES,
    HandcraftedPrompts,
    dense_reason,
    joint_patches,
    local_contrast,
    sentences,
)
from tests.helpers.clips import RESNET, VIT, clip_config, make_clip, timm_tower


def test_contrast_finds_a_spot_and_not_a_slope():
    slope = np.linspace(0, 200, 64).astype(np.uint8)
    image = np.repeat(np.tile(slope, (64, 1))[..., None], 3, axis=2)
    image[30:34, 40:44] = 255
    found = local_contrast(image)
    assert np.unravel_index(found.argmax(), found.shape) == pytest.approx((31.5, 41.5), abs=1.5)
    assert found[32, 10] < found.max() / 5


def test_wordings_name_the_thing_and_no_sentence_is_on_both_sides():
    sides = [sentences("metal nut", states) for states in (NORMAL_STATES, DAMAGED_STATES)]
    assert all("metal nut" in text for side in sides for text in side)
    assert len({*sides[0], *sides[1]}) == len(sides[0]) + len(sides[1]) == 30


def test_direction_of_a_wording_is_the_mean_of_clips_own_embeddings(tiny_model, clip_dir):
    clip = open_clip.create_model(f"local-dir:{clip_dir}", require_pretrained=True).eval()
    prompts = HandcraftedPrompts(tiny_model.backbone)
    found = prompts.embeddings(["cog", "metal nut|bolt"])
    texts = [s for name in ("metal nut", "bolt") for s in sentences(name, DAMAGED_STATES)]
    with torch.no_grad():
        ids = open_clip.get_tokenizer("ViT-B-32")(texts)
        each = F.normalize(clip.encode_text(ids), dim=-1)
    assert torch.allclose(found[1, 1], F.normalize(each.mean(0), dim=-1), atol=1e-5)


def frozen(vision, size, **top):
    clip = make_clip(clip_config(vision, **top))
    return clip, FrozenCLIP(clip, open_clip.get_tokenizer("ViT-B-32"), image_size=size)


def encoded(backbone, size):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return images, backbone.encode_image(images)


@pytest.mark.parametrize("proj", ["linear", ""])
def test_mean_of_the_places_is_the_pooled_embedding_of_an_averaging_tower(proj):
    tower = timm_tower("tf_efficientnet_lite0", 64, "avg", proj)
    _, backbone = frozen(tower, 64)
    images, features = encoded(backbone, 64)
    assert dense_reason(backbone) is None
    patches, grid = joint_patches(backbone, images, features)
    assert patches.shape == (2, grid[0] * grid[1], backbone.embed_dim)
    assert torch.allclose(patches.mean(1), features.pooled, atol=1e-4)


def test_patches_of_a_vit_are_those_that_open_clip_gives():
    clip, backbone = frozen(VIT, 32)
    images, features = encoded(backbone, 32)
    clip.visual.output_tokens = True
    with torch.no_grad():
        expected = clip.visual(images)[1] @ clip.visual.proj
    clip.visual.output_tokens = False
    patches, grid = joint_patches(backbone, images, features)
    assert grid == (4, 4)
    assert torch.allclose(patches, expected, atol=1e-5)


def test_mean_of_the_patches_is_the_pooled_embedding_of_an_averaging_vit():
    tower = timm_tower("vit_tiny_patch16_224", 224, "avg")
    _, backbone = frozen(tower, 224)
    images, features = encoded(backbone, 224)
    patches, grid = joint_patches(backbone, images, features)
    assert grid == (14, 14)
    assert torch.allclose(patches.mean(1), features.pooled, atol=1e-4)


def test_a_tower_that_pools_by_attention_gives_scores_and_says_why_no_maps():
    _, backbone = frozen(RESNET, 64)
    prompts = HandcraftedPrompts(backbone)
    assert "pools by attention" in prompts.reason
    scores = prompts.image_scores(encoded(backbone, 64)[1], ["cog", "cog"])
    assert ((scores >= 0) & (scores <= 1)).all()


def test_maps_by_hand_are_cosines_not_saturated(tiny_model):
    prompts = HandcraftedPrompts(tiny_model.backbone)
    images, features = encoded(tiny_model.backbone, 48)
    maps = prompts.maps(images, features, ["cog", "nut"])
    assert maps.shape == (2, 48, 48)
    assert len(maps[0].unique()) > 1000 and maps.min() > 0 and maps.max() < 1
