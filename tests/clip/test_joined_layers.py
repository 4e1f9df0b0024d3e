"""Tapped layers as one: what their channels hold, and that a model runs and is kept with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints.load import build_model
from bayes_pfl.clip import joined_layers
from bayes_pfl.clip.joined_layers import join_layers, unlikeness
from bayes_pfl.clip.load import load_backbone


@pytest.fixture
def layers():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, n, n, generator=generator) for c, n in ((6, 16), (10, 8), (12, 4))]


def test_layers_lie_side_by_side_on_the_common_grid(layers):
    tokens = join_layers(layers, (8, 8))
    assert tokens.shape == (2, 64, 6 + 10 + 12 + 3 * 4 + 1)
    assert torch.equal(tokens[..., -1], torch.ones(2, 64))
    middle = layers[1] / layers[1].square().mean((1, 2, 3), keepdim=True).sqrt()
    assert torch.allclose(tokens[..., 10:20], middle.flatten(2).transpose(1, 2), atol=1e-5)


@pytest.mark.parametrize("numbers", [1, 2 * 64**2, 2**30])
def test_parts_of_the_batch_change_nothing(layers, monkeypatch, numbers):
    whole = join_layers(layers, (8, 8))
    monkeypatch.setattr(joined_layers, "_CACHED", numbers)
    assert torch.allclose(join_layers(layers, (8, 8)), whole, atol=1e-5)


def test_a_layer_s_scale_does_not_matter(layers):
    scaled = [layer * factor for layer, factor in zip(layers, (0.1, 1.0, 40.0), strict=True)]
    assert torch.allclose(join_layers(scaled, (8, 8)), join_layers(layers, (8, 8)), atol=2e-3)


def test_an_image_s_tokens_do_not_depend_on_its_batch(layers):
    many = [torch.cat([layer] * 10) for layer in layers]
    alone = join_layers([layer[1:] for layer in layers], (8, 8))
    assert torch.allclose(join_layers(many, (8, 8))[7:8], alone, atol=1e-5)


def test_what_is_there_once_is_unlike_and_what_is_repeated_is_not():
    """A pattern of period 4, one cell of which is something else."""
    generator = torch.Generator().manual_seed(1)
    tile = torch.randn(1, 8, 4, 4, generator=generator)
    layer = tile.repeat(1, 1, 5, 5)
    assert unlikeness(layer)[:, :2].abs().max() < 1e-3
    layer[0, :, 9, 10] = torch.randn(8, generator=generator)
    for measure in unlikeness(layer)[0]:
        assert divmod(int(measure.argmax()), 20) == (9, 10)


def test_neighbours_do_not_count_as_company():
    """A blob of equal cells, smaller than a tenth of the side, is as unlike as one cell."""
    layer = torch.zeros(1, 4, 20, 20)
    layer[:, 0] = 1.0
    layer[:, :, 5:7, 5:7] = torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None, None]
    measure = unlikeness(layer)[0, 1]
    assert measure[5, 5] > 4 and measure[15, 15] < 1e-3


@pytest.mark.parametrize("layer", [torch.zeros(1, 3, 6, 6), torch.full((1, 3, 1, 1), 7.0)])
def test_flat_and_tiny_layers_stay_finite(layer):
    assert join_layers([layer], (6, 6)).isfinite().all()


def test_a_model_with_joined_layers_trains_and_is_kept(tiny_config, tmp_path):
    config = replace(tiny_config, backbone=replace(tiny_config.backbone, joined=True))
    model = build_model(config, model_class=BayesPFL).eval()
    assert len(model.backbone.vision_widths) == 1
    assert len(model.attention.patch_maps) == 1
    image = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8).numpy()
    found = model.predict(image, class_name="part", samples=2)
    model.save_pretrained(tmp_path / "kept")
    again = BayesPFL.from_pretrained(tmp_path / "kept")
    assert again.config.backbone.joined
    assert again.predict(image, class_name="part", samples=2).score == pytest.approx(found.score)


def test_layers_stay_apart_unless_asked_for(tiny_config):
    backbone, resolved = load_backbone(tiny_config.backbone)
    assert len(backbone.vision_widths) == 4 and not resolved.joined
