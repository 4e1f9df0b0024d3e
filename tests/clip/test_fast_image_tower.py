"""The fast image tower: it gives the numbers of open_clip's, which it leaves unchanged."""

import copy
import shutil

import open_clip
import pytest
import torch
from torch import nn

from bayes_pfl.clip.fast_image_tower import fast_tower
from bayes_pfl.clip.frozen_clip import FrozenCLIP
from bayes_pfl.clip.frozen_layers import FastSelfAttention, PackedLinear, attend
from tests.helpers.clips import clip_config, make_clip, timm_tower

TOWERS = {
    "plain ViT": {"image_size": 64, "patch_size": 8, "width": 64, "layers": 3, "head_width": 32},
    "ModifiedResNet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
    "EfficientNet": timm_tower("tf_efficientnet_lite0", 64),
    "ConvNeXt": timm_tower("convnext_atto", 64),
    "EVA": timm_tower("eva02_tiny_patch14_224", 224, "token"),
}


def build(name):
    """A CLIP with statistics in its batch norms that are not those of a new one."""
    clip = make_clip(clip_config(TOWERS[name])).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for module in clip.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
    return clip.visual, TOWERS[name]["image_size"]


def pictures(size):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_same_numbers_and_the_original_unchanged(name):
    visual, size = build(name)
    images, before = pictures(size), [(k, type(x)) for k, x in visual.named_modules()]
    state = copy.deepcopy(visual.state_dict())
    plain = visual(images)
    torch.testing.assert_close(fast_tower(visual, None, size)(images), plain, atol=1e-5, rtol=1e-4)
    assert [(k, type(x)) for k, x in visual.named_modules()] == before
    assert all(torch.equal(state[k], x) for k, x in visual.state_dict().items())
    assert torch.equal(visual(images), plain)


@pytest.mark.parametrize("name", ["ModifiedResNet", "EfficientNet"])
@torch.no_grad()
def test_every_batch_norm_is_folded(name):
    visual, size = build(name)
    tower = fast_tower(visual, None, size)
    assert any(isinstance(x, nn.BatchNorm2d) for x in visual.modules())
    assert not any(isinstance(x, nn.BatchNorm2d) for x in tower.modules())


@torch.no_grad()
def test_batch_norm_behind_something_else_is_left_alone():
    tower = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    tower[2].running_mean += 1
    images = pictures(8)
    fast = fast_tower(tower, None, 8)
    assert isinstance(fast[2], nn.BatchNorm2d)
    torch.testing.assert_close(fast(images), tower(images))


@torch.no_grad()
def test_convolution_that_is_used_twice_is_left_alone():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)
            self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.second(self.conv(self.first(self.conv(x))))

    tower = Twice().eval()
    tower.first.running_mean += 1
    images = pictures(8)
    torch.testing.assert_close(fast_tower(tower, None, 8)(images), tower(images))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["plain ViT", "EVA", "EfficientNet"])
@torch.no_grad()
def test_half_precision_is_as_near_as_autocast_comes(name, dtype):
    visual, size = build(name)
    images = pictures(size)
    exact = visual(images)
    with torch.autocast("cpu", dtype):
        plain = visual(images).float()
        fast = fast_tower(visual, dtype, size)(images).float()
    assert (fast - exact).norm() < 1.5 * (plain - exact).norm() + 1e-3 * exact.norm()


@torch.no_grad()
def test_weights_of_a_vit_are_shared_and_packed_ones_added():
    visual, size = build("plain ViT")
    own = {id(x) for x in visual.parameters()}
    exact = fast_tower(visual, None, size)
    assert {id(x) for x in exact.parameters()} <= own
    attention = [x for x in exact.modules() if isinstance(x, FastSelfAttention)]
    assert len(attention) == 3
    lower = fast_tower(visual, torch.bfloat16, size)
    packed = [x for x in lower.modules() if isinstance(x, PackedLinear)]
    assert all(id(x.weight) in own for x in packed)


@torch.no_grad()
def test_where_nothing_can_be_packed_weights_are_converted_once(monkeypatch):
    visual, size = build("plain ViT")
    images = pictures(size)
    with torch.autocast("cpu", torch.bfloat16):
        packed = fast_tower(visual, torch.bfloat16, size)(images)
        monkeypatch.setattr("bayes_pfl.clip.frozen_layers._packs_here", lambda: False)
        plain = fast_tower(visual, torch.bfloat16, size)
        linears = [x for x in plain.modules() if type(x) is nn.Linear and x.weight.ndim == 2]
        assert any(x.weight.dtype == torch.bfloat16 for x in linears)
        torch.testing.assert_close(plain(images), packed, atol=0.03, rtol=0.03)


@torch.no_grad()
def test_masks_and_weights_are_left_to_the_original():
    block = nn.Module()
    block.attn = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x, mask = torch.randn(1, 4, 8), torch.ones(4, 4, dtype=torch.bool).triu(1)
    plain = [block.attn(x, x, x, attn_mask=mask)[0], block.attn(x, x, x)[1]]
    fast = FastSelfAttention(block.attn)
    torch.testing.assert_close([fast(x, x, x, attn_mask=mask)[0], fast(x, x, x)[1]], plain)


@pytest.mark.parametrize("tokens", [7, 1500])  # several heads at once, and one by one
def test_attention_in_half_precision(tokens):
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, tokens, 8, generator=generator) for _ in range(3)]
    exact = nn.functional.scaled_dot_product_attention(*parts)
    given = attend(*(x.bfloat16() for x in parts))
    assert given.dtype == torch.bfloat16
    torch.testing.assert_close(given.float(), exact, atol=0.03, rtol=0.03)


@torch.no_grad()
def test_loading_weights_or_moving_makes_the_tower_again():
    visual, size = build("EfficientNet")
    clip = make_clip(clip_config(TOWERS["EfficientNet"])).eval()
    clip.visual = visual
    backbone = FrozenCLIP(clip, open_clip.get_tokenizer("ViT-B-32"), image_size=size)
    images = pictures(size)
    first = backbone.encode_image(images).pooled
    state = {k: x * 1.01 if x.is_floating_point() else x for k, x in backbone.state_dict().items()}
    backbone.load_state_dict(state)
    second = backbone.encode_image(images).pooled
    assert not torch.allclose(first, second)
    torch.testing.assert_close(second, backbone.visual(images), atol=1e-4, rtol=1e-3)
    half = backbone.double().encode_image(images.double()).pooled
    assert half.dtype == torch.float64


@torch.no_grad()
def test_model_can_be_copied_after_use(tiny_model):
    images = torch.randn(1, 3, 48, 48)
    with torch.autocast("cpu", torch.bfloat16):
        tiny_model.backbone.encode_image(images)
    other = copy.deepcopy(tiny_model)
    given = other.backbone.encode_image(images).pooled
    assert torch.equal(given, tiny_model.backbone.encode_image(images).pooled)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_tower_gives_the_same(tiny_model, precision):
    from PIL import Image

    images = [Image.new("RGB", (40, 30), colour) for colour in ("red", "grey")]
    plain, compiled = (
        tiny_model.predict(images, "nut", samples=2, precision=precision, compile=flag)
        for flag in (False, True)
    )
    for a, b in zip(plain, compiled, strict=True):
        assert b.score == pytest.approx(a.score, abs=1e-5 if precision == "float32" else 5e-3)
