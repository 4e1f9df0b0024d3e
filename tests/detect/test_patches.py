"""Patches as directions: which layers and cells are compared by default, and how."""

import pytest
import torch

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.config import ReferenceConfig
from bayes_pfl.detect.patches import PatchSettings, patch_directions, patch_settings, tile_settings
from bayes_pfl.errors import ConfigError


@pytest.fixture(scope="module")
def embedded():
    return load_checkpoint("bayes-pfl-tiny", device="cpu").backbone


def test_a_tower_in_stages_leaves_its_finest_out(embedded):
    found = patch_settings(embedded, ReferenceConfig())
    assert found.layers == (3, 4, 5) and found.grid == (20, 20) and found.width == 128


def test_a_transformer_takes_its_middle_layers(tiny_model):
    backbone = tiny_model.backbone
    found = patch_settings(backbone, ReferenceConfig())
    assert found.layers == (backbone.layers[1:-1] or backbone.layers)
    assert found.grid == backbone.grid and found.width == backbone.vision_widths[0]


def test_tiles_take_the_finest_layer_cell_by_cell(embedded, tiny_model):
    found = tile_settings(embedded, patch_settings(embedded, ReferenceConfig()))
    assert (found.layers, found.windows, found.grid) == ((3,), (1,), (20, 20))
    assert found.whitened and found.most == 9216
    whole = patch_settings(tiny_model.backbone, ReferenceConfig())
    found = tile_settings(tiny_model.backbone, whole)
    assert found.layers == whole.layers and found.windows == (1,) and found.whitened
    assert found.farthest == 1
    with pytest.raises(ConfigError, match="farthest = 401"):
        PatchSettings((3,), (1,), (20, 20), 40, 64, farthest=401)


def test_the_config_overrides_and_is_checked(embedded):
    own = ReferenceConfig(layers=(4,), windows=(1,), grid=8, width=16, patches=100)
    found = patch_settings(embedded, own)
    assert (found.layers, found.grid, found.width, found.most) == ((4,), (8, 8), 16, 100)
    with pytest.raises(ConfigError, match="1 is not tapped"):
        patch_settings(embedded, ReferenceConfig(layers=(1, 4)))
    with pytest.raises(ConfigError, match="odd numbers"):
        ReferenceConfig(windows=(2,))


def test_directions_are_unit_vectors_of_all_layers(embedded):
    images = torch.rand(2, 3, 320, 320, generator=torch.Generator().manual_seed(0))
    features = embedded.encode_image(images)
    settings = patch_settings(embedded, ReferenceConfig())
    found = patch_directions(features.stages, embedded.layers, settings)
    assert found.shape == (2, 400, 40 + 112 + 128)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, 400))
    again = patch_directions([x[1:] for x in features.stages], embedded.layers, settings)
    torch.testing.assert_close(again[0], found[1])


def test_windows_do_not_see_past_the_edge():
    cells = torch.ones(1, 4, 5, 5)
    cells[:, 1] = 2
    found = patch_directions([cells], (1,), PatchSettings((1,), (1, 3), (5, 5), 4, 64))
    torch.testing.assert_close(found, found[:, :1].expand_as(found))
