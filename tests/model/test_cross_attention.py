"""Residual cross-modal attention against a version written out head by head."""

import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.errors import ConfigError
from bayes_pfl.model.cross_attention import ResidualCrossModalAttention

D, HEADS = 16, 4


@pytest.fixture
def block():
    torch.manual_seed(0)
    return ResidualCrossModalAttention((6, 10), D, HEADS).double()


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def by_hand(block, text, patches):
    """Loop over images and heads; the scores are scaled by the full width."""
    rows = []
    for t, patch in zip(text, patches, strict=True):
        queries = t @ block.query.weight.T + block.query.bias
        heads = []
        for h in range(HEADS):
            part = slice(h * D // HEADS, (h + 1) * D // HEADS)
            scores = queries[:, part] @ patch[:, part].T / D**0.5
            heads.append(scores.softmax(-1) @ patch[:, part])
        attended = t + torch.cat(heads, -1)
        rows.append(attended / attended.norm(dim=-1, keepdim=True))
    return torch.stack(rows)


def test_equals_the_formula_head_by_head(block):
    text, patches = unit(2, 5, D), unit(2, 9, D)
    torch.testing.assert_close(block.attend(text, patches), by_hand(block, text, patches))


def test_patches_are_projected_and_normalised_layer_by_layer(block):
    tokens = [torch.randn(2, 9, width, dtype=torch.float64) for width in (6, 10)]
    for projected, token, patch_map in zip(
        block.project(tokens), tokens, block.patch_maps, strict=True
    ):
        plain = token @ patch_map.weight.T
        torch.testing.assert_close(projected, plain / plain.norm(dim=-1, keepdim=True))
        assert patch_map.bias is None


def test_order_of_patches_does_not_matter(block):
    text, patches = unit(1, 3, D), unit(1, 7, D)
    shuffled = patches[:, torch.randperm(7)]
    torch.testing.assert_close(block.attend(text, patches), block.attend(text, shuffled))


def test_every_prompt_is_attended_alone(block):
    text, patches = unit(2, 6, D), unit(2, 7, D)
    together = block.attend(text, patches)
    for k in range(6):
        torch.testing.assert_close(
            together[:, k : k + 1], block.attend(text[:, k : k + 1], patches)
        )


def test_number_of_layers_must_match(block):
    with pytest.raises(ValueError):
        block.project([torch.randn(1, 4, 6, dtype=torch.float64)])


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match=r"attention_heads = 5 .* 16"):
        ResidualCrossModalAttention((4,), 16, 5)
