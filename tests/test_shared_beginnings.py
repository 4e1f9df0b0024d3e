"""Common beginnings encoded once, and fused attention: the same numbers as the plain way."""

import copy

import open_clip
import pytest
import torch
from torch import nn

from bayes_pfl.backbone import FrozenCLIP, frozen_text_checkpointing
from bayes_pfl.fused_attention import FusedSelfAttention, fuse_attention, restore_attention
from bayes_pfl.shared_beginnings import can_share

from .conftest import TINY_CLIP

NAMES = ["nut", "extraordinarily reflective printed circuit board", "metal nut"]


def prompts(backbone, pairs=4, context=3, states=2):
    """Vectors (3, 2 * pairs, P + Q, T) whose normal and abnormal halves share the context."""
    generator = torch.Generator().manual_seed(0)
    width = backbone.text_width
    contexts = torch.randn(3, pairs, context, width, generator=generator)
    own = torch.randn(3, 2 * pairs, states, width, generator=generator)
    return torch.cat([contexts.repeat(1, 2, 1, 1), own], dim=2)


@pytest.mark.parametrize("shared", [1, 2, 3])
@torch.no_grad()
def test_shared_beginnings_change_no_embedding(tiny_model, shared):
    backbone = tiny_model.backbone
    vectors, names = prompts(backbone), backbone.tokenize(NAMES, 5)
    plain = backbone.encode_prompts(vectors, names)
    torch.testing.assert_close(
        backbone.encode_prompts(vectors, names, shared), plain, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("recompute", [False, True])
def test_shared_beginnings_change_no_gradient(tiny_model, recompute):
    backbone = tiny_model.backbone
    names = backbone.tokenize(NAMES, 5)
    gradients = []
    for shared in (0, 3):
        contexts = torch.randn(3, 4, 3, backbone.text_width, generator=torch.Generator())
        contexts.requires_grad_(True)
        own = prompts(backbone)[:, :, 3:]
        vectors = torch.cat([contexts.repeat(1, 2, 1, 1), own], dim=2)
        with frozen_text_checkpointing(backbone, recompute):
            backbone.encode_prompts(vectors, names, shared).square().sum().backward()
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


@torch.no_grad()
def test_fused_attention_gives_what_open_clip_gives_and_can_be_undone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.CLIP(**TINY_CLIP).eval().requires_grad_(False)
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    plain, keys = clip.visual(images), set(clip.visual.state_dict())
    backbone = FrozenCLIP(clip, open_clip.get_tokenizer("ViT-B-32"), image_size=48)
    blocks = backbone.visual.transformer.resblocks
    assert all(type(block.attn) is FusedSelfAttention for block in blocks)
    assert set(backbone.visual.state_dict()) == keys
    torch.testing.assert_close(backbone.encode_image(images).pooled, plain, atol=1e-5, rtol=0)
    restore_attention(backbone.visual)
    assert all(type(block.attn) is nn.MultiheadAttention for block in blocks)
    assert torch.equal(backbone.visual(images), plain)


@torch.no_grad()
def test_fused_attention_leaves_masks_and_weights_to_the_base():
    block = nn.Module()
    block.attn = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x, mask = torch.randn(1, 4, 8), torch.ones(4, 4, dtype=torch.bool).triu(1)
    plain = [block.attn(x, x, x, attn_mask=mask)[0], block.attn(x, x, x)[1]]
    fuse_attention(block)
    fused = [block.attn(x, x, x, attn_mask=mask)[0], block.attn(x, x, x)[1]]
    torch.testing.assert_close(fused, plain)
