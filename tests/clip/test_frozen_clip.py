"""Backbones of every kind: image to map, taps, sizes, activations."""

import open_clip
import pytest
import torch

from bayes_pfl import BayesPFL
from bayes_pfl.clip.build import set_activation
from bayes_pfl.clip.frozen_clip import (
    FrozenCLIP,
    common_grid,
    frozen_text_checkpointing,
    spaced_layers,
)
from bayes_pfl.clip.load import load_backbone
from bayes_pfl.config import BackboneConfig, FlowConfig, ModelConfig, PromptConfig
from bayes_pfl.errors import BackboneError
from tests.helpers.clips import (
    RESNET,
    SIGLIP_TEXT,
    TEXT,
    VIT,
    WordTokenizer,
    activations,
    clip_config,
    make_clip,
    timm_tower,
    write_folder,
)

# name: config, image size, widths of the default taps, grid
TOWERS = {
    "plain ViT": (clip_config(VIT), 48, (64,) * 4, 6),
    "ViT with QuickGELU": (clip_config(VIT, quick_gelu=True), 32, (64,) * 4, 4),
    "D other than T": (clip_config(VIT, embed_dim=48), 32, (64,) * 4, 4),
    "average-pooled ViT": (clip_config({**VIT, "pool_type": "avg"}), 40, (64,) * 4, 5),
    "SigLIP": (
        clip_config(
            timm_tower("vit_tiny_patch16_224", 224, "map", "none"),
            embed_dim=192,
            text=SIGLIP_TEXT,
            custom_text=True,
            init_logit_bias=-10,
        ),
        64,
        (192,) * 4,
        4,
    ),
    "EVA": (
        clip_config(timm_tower("eva02_tiny_patch14_224", 224, "token"), custom_text=True),
        56,
        (192,) * 4,
        4,
    ),
    "ConvNeXt": (clip_config(timm_tower("convnext_atto", 224)), 96, (40, 80, 160, 320), 12),
    "ResNet": (clip_config(RESNET, quick_gelu=True), 96, (64, 128, 256, 512), 12),
    "EfficientNet-lite": (
        clip_config(timm_tower("tf_efficientnet_lite0", 224, "avg")),
        96,
        (24, 40, 112, 320),
        12,
    ),
}


def tokenizer_of(config):
    return WordTokenizer() if config["text_cfg"].get("no_causal_mask") else None


def model_around(backbone, pairs=2):
    config = ModelConfig(prompts=PromptConfig(pairs, 2, 2), flow=FlowConfig(2))
    return BayesPFL(config, backbone).eval()


def check_image_to_map(backbone, images=2):
    """Image to map and score; gradient through the text tower and into no frozen parameter."""
    size = backbone.image_size
    model = model_around(backbone)
    pictures = torch.randn(images, 3, size, size)
    names = ["metal nut", "bottle", "carpet"][:images]
    scores = model.score_batch(pictures, names, model.draw(2))
    assert scores.map.shape == (images, size, size) and scores.map.isfinite().all()
    assert float(scores.map.min()) >= 0 and float(scores.map.max()) <= 1
    assert scores.text_score.isfinite().all()
    features = backbone.encode_image(pictures)
    assert not features.pooled.requires_grad
    torch.testing.assert_close(features.pooled, backbone.visual(pictures), atol=1e-5, rtol=1e-4)
    samples = model.draw(1)
    text = model.text_embeddings(model.specific_sample(features.pooled, samples), samples, names)
    text.square().sum().backward()
    assert model.prompts.state_abnormal.grad.isfinite().all()
    assert not any(p.requires_grad or p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize("name", TOWERS)
def test_image_to_map(name, tmp_path):
    config, size, widths, side = TOWERS[name]
    folder = write_folder(tmp_path / "clip", config)
    settings = BackboneConfig(f"local-dir:{folder}", image_size=size, random_weights=True)
    backbone, resolved = load_backbone(settings, tokenizer_of(config))
    assert backbone.vision_widths == widths and backbone.grid == (side, side)
    assert backbone.embed_dim == config["embed_dim"] and resolved.image_size == size
    assert resolved.layers == backbone.layers and len(resolved.layers) == 4
    assert resolved.activation == ("quick_gelu" if config.get("quick_gelu") else "gelu")
    check_image_to_map(backbone)


REAL = ["ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16-SigLIP", "EVA02-B-16", "convnext_tiny", "RN50"]
REAL += ["MobileCLIP2-S0", "ViTamin-S", "PE-Core-T-16-384", "swin_base_patch4_window7_224"]


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_image_to_map_of_open_clips_own_architectures(name):
    size = 192 if name.startswith("swin") else 128
    tokenizer = WordTokenizer() if "SigLIP" in name else None
    settings = BackboneConfig(name, image_size=size, random_weights=True)
    check_image_to_map(load_backbone(settings, tokenizer)[0])


@pytest.mark.slow
def test_image_to_map_of_the_published_backbone_at_its_size():
    settings = BackboneConfig("ViT-L-14-336", image_size=518, random_weights=True)
    backbone, resolved = load_backbone(settings)
    assert resolved.layers == (6, 12, 18, 24) and backbone.grid == (37, 37)
    assert (backbone.embed_dim, backbone.text.width) == (768, 768)
    check_image_to_map(backbone, images=1)


def test_stages_meet_on_one_grid_in_their_own_places():
    """A bright corner stays in its corner, on every stage, whatever the stage's own grid."""
    backbone = FrozenCLIP(
        make_clip(clip_config(RESNET)), open_clip.get_tokenizer("ViT-B-32"), image_size=64
    )
    plain, marked = torch.zeros(2, 1, 3, 64, 64)
    marked[..., :16, 48:] = 3
    first, second = backbone.encode_image(plain), backbone.encode_image(marked)
    for before, after in zip(first.tokens, second.tokens, strict=True):
        change = (after - before).norm(dim=-1).view(first.grid)
        row, column = divmod(int(change.argmax()), first.grid[1])
        assert row < first.grid[0] // 2 <= column


def test_an_image_s_stages_do_not_depend_on_its_batch():
    """On a CPU a convolutional tower takes a batch in parts, the last of which may be smaller."""
    clip, tokenizer = make_clip(clip_config(RESNET)), open_clip.get_tokenizer("ViT-B-32")
    backbone = FrozenCLIP(clip, tokenizer, image_size=64)
    images = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    together, alone = backbone.encode_image(images), backbone.encode_image(images[4:])
    assert together.pooled.shape[0] == 5
    for whole, one in zip(
        (together.pooled, *together.tokens), (alone.pooled, *alone.tokens), strict=True
    ):
        assert torch.allclose(whole[4:], one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", range(1, 41))
def test_default_taps_are_four_evenly_spaced_to_the_last(depth):
    layers = spaced_layers(depth)
    assert len(layers) == min(4, depth) and layers[-1] == depth
    assert list(layers) == sorted(set(layers)) and layers[0] >= 1
    gaps = [b - a for a, b in zip(layers, layers[1:], strict=False)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_common_grid_is_the_finest_within_an_eighth():
    grids = [(56, 56), (28, 28), (14, 14), (7, 7)]
    assert common_grid(grids, 224) == (28, 28)
    assert common_grid(grids, 64) == (7, 7)
    assert common_grid([(8, 8)], 32) == (8, 8)


@pytest.mark.parametrize(
    "layers", [(0,), (5,), (2, 1), (1, 1)], ids=["zero", "too deep", "unordered", "twice"]
)
def test_impossible_taps_are_refused(layers, clip_dir):
    with pytest.raises(BackboneError, match="this image tower has 4 blocks"):
        load_backbone(BackboneConfig(f"local-dir:{clip_dir}", layers=layers))


def test_taps_and_grid_can_be_chosen(clip_dir):
    settings = BackboneConfig(f"local-dir:{clip_dir}", layers=(2, 4), grid=5)
    backbone, _ = load_backbone(settings)
    features = backbone.encode_image(torch.randn(1, 3, 48, 48))
    assert features.grid == (5, 5) and [x.shape[1] for x in features.tokens] == [25, 25]


@torch.no_grad()
def test_taps_are_the_raw_residual_stream(clip_dir):
    backbone, _ = load_backbone(BackboneConfig(f"local-dir:{clip_dir}", layers=(2, 4)))
    visual, images = backbone.visual, torch.randn(2, 3, 48, 48)
    x = visual._embeds(images)
    stream = []
    for block in visual.transformer.resblocks:
        x = block(x)
        stream.append(x[:, 1:])
    for tokens, wanted in zip(backbone.encode_image(images).tokens, stream[1::2], strict=True):
        torch.testing.assert_close(tokens, wanted)


# Sizes -----------------------------------------------------------------------------------------

SIZES = {
    "plain ViT": (clip_config(VIT), 56),
    "timm ViT": (clip_config(timm_tower("vit_tiny_patch16_224", 224, "token")), 96),
    "EVA": (clip_config(timm_tower("eva02_tiny_patch14_224", 224, "token")), 112),
}


@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_position_embeddings_are_resized_as_open_clip_resizes_them(name, tmp_path):
    config, size = SIZES[name]
    folder = write_folder(tmp_path / "clip", config, make_clip(config))
    backbone, _ = load_backbone(BackboneConfig(f"local-dir:{folder}", image_size=size))
    reference = open_clip.create_model(f"local-dir:{folder}", force_image_size=size).eval()
    images = torch.randn(2, 3, size, size)
    wanted = reference.encode_image(images)
    torch.testing.assert_close(backbone.encode_image(images).pooled, wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_resnet_keeps_its_features_at_its_own_size_and_resizes_at_others(tmp_path):
    config = clip_config(RESNET)
    clip = make_clip(config)
    folder = write_folder(tmp_path / "clip", config, clip)
    own, _ = load_backbone(BackboneConfig(f"local-dir:{folder}"))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(own.encode_image(images).pooled, clip.encode_image(images))
    old = clip.visual.attnpool.positional_embedding
    for size, side in ((96, 3), (101, 3), (128, 4)):
        other, _ = load_backbone(BackboneConfig(f"local-dir:{folder}", image_size=size))
        new = other.visual.attnpool.positional_embedding
        assert new.shape == (side * side + 1, old.shape[1])
        torch.testing.assert_close(new[0], old[0])
        # bicubic weights are uneven at the border, so the mean is kept roughly
        torch.testing.assert_close(new[1:].mean(0), old[1:].mean(0), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("vision", "size", "message"),
    [
        (VIT, 36, "patches are 8 pixels wide: 32 would do"),
        (VIT, 4, "patches are 8 pixels wide: 8 would do"),
        (timm_tower("eva02_tiny_patch14_224", 224, "token"), 60, "patches are 14 pixels wide: 56"),
        (RESNET, 16, "the image vanishes"),
        (timm_tower("convnext_atto", 224), 16, "image_size = 16: this image tower cannot take it"),
    ],
)
def test_impossible_image_sizes_are_refused(vision, size, message, tmp_path):
    folder = write_folder(tmp_path / "clip", clip_config(vision))
    settings = BackboneConfig(f"local-dir:{folder}", image_size=size, random_weights=True)
    with pytest.raises(BackboneError, match=message) as caught:
        load_backbone(settings)
    assert "\n" not in str(caught.value)


# Activations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("wanted", ["auto", "gelu", "quick_gelu"])
def test_activation_follows_the_weights_unless_told(quick, wanted, tmp_path):
    folder = write_folder(tmp_path / "clip", clip_config(VIT, quick_gelu=quick))
    settings = BackboneConfig(f"local-dir:{folder}", activation=wanted, random_weights=True)
    backbone, resolved = load_backbone(settings)
    kind = ("quick_gelu" if quick else "gelu") if wanted == "auto" else wanted
    assert resolved.activation == kind
    assert activations(backbone)[0] == {"QuickGELU" if kind == "quick_gelu" else "GELU"}


def test_a_tower_trained_with_approximate_gelu_keeps_it():
    clip = make_clip(clip_config(VIT, text={"act_kwargs": {"approximate": "tanh"}}))
    set_activation(clip, "gelu")
    assert activations(clip.transformer)[1] == ["tanh"]


# Gradients ------------------------------------------------------------------------------------


def test_checkpointing_of_the_text_tower_changes_no_gradient(tiny_model):
    backbone = tiny_model.backbone
    names = backbone.text.tokenize(["nut"], 3)
    gradients = []
    for enabled in (False, True):
        vectors = torch.ones(1, 2, 3, TEXT["width"] // 2, requires_grad=True)
        with frozen_text_checkpointing(backbone, enabled):
            backbone.text(vectors, names).square().sum().backward()
        gradients.append(vectors.grad)
    torch.testing.assert_close(*gradients)
    assert backbone.text.transformer.grad_checkpointing is False
