"""Image-level alignment in both stages, and the fusion of patch tokens."""

import pytest
import torch

from bayes_pfl.model.image_alignment import ImageAlignment, PatchFusion

D, HIDDEN, WIDTHS = 8, 5, (4, 6)


@pytest.fixture
def parts():
    torch.manual_seed(0)
    alignment = ImageAlignment(WIDTHS, HIDDEN, D).double()
    pooled = torch.randn(3, D, dtype=torch.float64)
    tokens = [torch.randn(3, 9, width, dtype=torch.float64) for width in WIDTHS]
    text = torch.nn.functional.normalize(torch.randn(3, 4, D, dtype=torch.float64), dim=-1)
    return alignment, pooled, tokens, text


def test_stage_one_is_the_cosine_with_the_plain_embedding(parts):
    alignment, pooled, tokens, text = parts
    wanted = torch.cosine_similarity(alignment.text_map(text), pooled[:, None], dim=-1)
    torch.testing.assert_close(alignment(pooled, tokens, text, stage=1), wanted)


def test_stage_two_adds_the_fused_patches_and_maps_the_image(parts):
    alignment, pooled, tokens, text = parts
    fusion, rows = alignment.fusion, []
    for b in range(3):
        fused = fusion.compress(torch.cat([t[b] for t in tokens], -1))
        weights = torch.exp(fusion.weigh(fused))
        vector = fusion.expand((weights / weights.sum() * fused).sum(0))
        image = alignment.image_map(pooled[b] + vector)
        rows.append(torch.cosine_similarity(alignment.text_map(text[b]), image[None], dim=-1))
    torch.testing.assert_close(alignment(pooled, tokens, text, stage=2), torch.stack(rows))


def test_stage_one_leaves_the_second_stages_parameters_alone(parts):
    alignment, pooled, tokens, text = parts
    alignment(pooled, tokens, text, stage=1).sum().backward()
    used = {name for name, p in alignment.named_parameters() if p.grad is not None}
    assert used == {"text_map.weight", "text_map.bias"}
    alignment(pooled, tokens, text, stage=2).sum().backward()
    assert all(p.grad is not None for p in alignment.parameters())


def test_values_are_cosines_whatever_the_length_of_the_embedding(parts):
    alignment, pooled, tokens, text = parts
    for stage in (1, 2):
        values = alignment(pooled * 1e3, tokens, text, stage=stage)
        assert values.shape == (3, 4) and (values.abs() <= 1 + 1e-9).all()
    near, far = (alignment(pooled * s, tokens, text, stage=1) for s in (1, 50))
    torch.testing.assert_close(near, far)


def test_fusion_forgets_the_order_of_patches_but_not_their_pairing(parts):
    alignment, _, tokens, _ = parts
    order = torch.randperm(9)
    shuffled = [t[:, order] for t in tokens]
    torch.testing.assert_close(alignment.fusion(tokens), alignment.fusion(shuffled))
    unpaired = [tokens[0], tokens[1].flip(1)]
    assert not torch.allclose(alignment.fusion(tokens), alignment.fusion(unpaired))


def test_fusion_of_equal_patches_is_that_of_one():
    fusion = PatchFusion((3,), 4, 5)
    token = torch.randn(1, 1, 3)
    torch.testing.assert_close(fusion([token.expand(1, 7, 3)]), fusion([token]))
