"""Common beginnings encoded once: the same numbers as the plain way."""

import copy

import pytest
import torch
from torch import nn

from bayes_pfl.clip.frozen_clip import frozen_text_checkpointing
from bayes_pfl.clip.shared_prefix import can_share

NAMES = ["nut", "extraordinarily reflective printed circuit board", "metal nut"]


def prompts(backbone, pairs=4, context=3, states=2):
    """Vectors (3, 2 * pairs, P + Q, T) whose normal and abnormal halves share the context."""
    generator = torch.Generator().manual_seed(0)
    width = backbone.text.width
    contexts = torch.randn(3, pairs, context, width, generator=generator)
    own = torch.randn(3, 2 * pairs, states, width, generator=generator)
    return torch.cat([contexts.repeat(1, 2, 1, 1), own], dim=2)


@pytest.mark.parametrize("shared", [1, 2, 3])
@torch.no_grad()
def test_shared_beginnings_change_no_embedding(tiny_model, shared):
    backbone = tiny_model.backbone
    vectors, names = prompts(backbone), backbone.text.tokenize(NAMES, 5)
    plain = backbone.text(vectors, names)
    torch.testing.assert_close(backbone.text(vectors, names, shared), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("recompute", [False, True])
def test_shared_beginnings_change_no_gradient(tiny_model, recompute):
    backbone = tiny_model.backbone
    names = backbone.text.tokenize(NAMES, 5)
    gradients = []
    for shared in (0, 3):
        contexts = torch.randn(3, 4, 3, backbone.text.width, generator=torch.Generator())
        contexts.requires_grad_(True)
        own = prompts(backbone)[:, :, 3:]
        vectors = torch.cat([contexts.repeat(1, 2, 1, 1), own], dim=2)
        with frozen_text_checkpointing(backbone, recompute):
            backbone.text(vectors, names, shared).square().sum().backward()
        gradients.append(contexts.grad)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


def test_only_causal_towers_of_known_blocks_share(tiny_model):
    text = tiny_model.backbone.text
    assert can_share(text.transformer, text.attn_mask)
    assert not can_share(text.transformer, None)
    assert not can_share(text.transformer, torch.zeros_like(text.attn_mask))
    other = copy.deepcopy(text.transformer)
    other.resblocks[0].attn = nn.MultiheadAttention(32, 2, bias=False, batch_first=True)
    assert not can_share(other, text.attn_mask)
