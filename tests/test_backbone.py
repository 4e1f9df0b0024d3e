"""Backbones of every kind: image to map, sizes, folders, files, and what cannot be loaded."""

import pickle
import urllib.error
import warnings
import zipfile
from dataclasses import replace

import huggingface_hub
import open_clip
import pytest
import torch

from bayes_pfl import weights
from bayes_pfl.backbone import FrozenCLIP, common_grid, frozen_text_checkpointing, spaced_layers
from bayes_pfl.backbone_loading import load_backbone
from bayes_pfl.checksums import file_sha256
from bayes_pfl.clip_building import set_activation
from bayes_pfl.config import BackboneConfig, FlowConfig, ModelConfig, PromptConfig
from bayes_pfl.errors import BackboneError, CheckpointError
from bayes_pfl.model import BayesPFL

from .clips import (
    RESNET,
    TEXT,
    VIT,
    WordTokenizer,
    as_modules,
    clip_config,
    make_clip,
    openai_state,
    timm_tower,
    write_folder,
)

SIGLIP_TEXT = {"context_length": 32, "vocab_size": 1000, "no_causal_mask": True}
SIGLIP_TEXT |= {"pool_type": "last", "proj_bias": True}
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
    assert (backbone.embed_dim, backbone.text_width) == (768, 768)
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


def activations(module):
    blocks = [m.mlp.gelu for m in module.modules() if hasattr(getattr(m, "mlp", None), "gelu")]
    return {type(x).__name__ for x in blocks}, [getattr(x, "approximate", None) for x in blocks]


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


# Folders and files -----------------------------------------------------------------------------


@torch.no_grad()
def test_folder_round_trip(tmp_path):
    config = clip_config(VIT, quick_gelu=True)
    clip = make_clip(config)
    folder = write_folder(tmp_path / "clip", config, clip, mean=[0.5] * 3, std=[0.25] * 3)
    backbone, resolved = load_backbone(BackboneConfig(f"local-dir:{folder}"))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone.encode_image(images).pooled, clip.encode_image(images))
    assert backbone.mean == (0.5,) * 3 and backbone.std == (0.25,) * 3
    assert resolved.sha256 == file_sha256(folder / "open_clip_model.safetensors")


def test_other_weights_than_the_checkpoint_was_trained_on_are_refused(clip_dir):
    settings = BackboneConfig(f"local-dir:{clip_dir}", sha256="0" * 64)
    with pytest.raises(BackboneError, match=r"SHA-256 is .*get the original weights"):
        load_backbone(settings)


def openai_files(tmp_path, vision, size):
    """The same CLIP as a plain state dict and as a TorchScript archive."""
    clip = make_clip(clip_config(vision, quick_gelu=True))
    state = openai_state(clip, size)
    clip.load_state_dict({k: v.float() for k, v in state.items() if k in clip.state_dict()})
    torch.save(state, tmp_path / "plain.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated; the published files stay
        torch.jit.script(as_modules(state)).save(str(tmp_path / "archive.pt"))
    return clip, tmp_path / "plain.pt", tmp_path / "archive.pt"


@pytest.mark.parametrize(("vision", "size"), [(VIT, 32), (RESNET, 64)], ids=["ViT", "ResNet"])
@torch.no_grad()
def test_files_in_openais_format_with_their_activation(vision, size, tmp_path):
    clip, *files = openai_files(tmp_path, vision, size)
    images = torch.randn(2, 3, size, size)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    words = clip.token_embedding(tokenizer(["a photo"])[0, 1:3])[None, None]
    for file in files:
        backbone, resolved = load_backbone(BackboneConfig(str(file)))
        assert resolved.image_size == size and resolved.activation == "quick_gelu"
        wanted = clip.encode_image(images)
        torch.testing.assert_close(backbone.encode_image(images).pooled, wanted)
        text = backbone.encode_prompts(words, backbone.tokenize(["nut"], 2))[:, 0]
        wanted = clip.encode_text(tokenizer(["a photo nut"]))
        torch.testing.assert_close(text, wanted, atol=1e-5, rtol=1e-4)


def test_openai_file_can_run_with_plain_gelu(tmp_path):
    _, file, _ = openai_files(tmp_path, VIT, 32)
    backbone, resolved = load_backbone(BackboneConfig(str(file), activation="gelu"))
    assert resolved.activation == "gelu" and activations(backbone)[0] == {"GELU"}


def test_archive_holds_the_state_that_torch_would_read(tmp_path):
    _, _, archive = openai_files(tmp_path, VIT, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = torch.jit.load(str(archive)).state_dict()
    got = weights.read_state_dict(archive)
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[k], v) and got[k].dtype == v.dtype for k, v in wanted.items())


class Trap:
    """Writes a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def trapped_archive(path, trap):
    """What looks like TorchScript, with a pickle that calls ``open``."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clip/data.pkl", pickle.dumps(trap, protocol=2))
        archive.writestr("clip/constants.pkl", pickle.dumps((), protocol=2))


@pytest.mark.parametrize("kind", ["pickle", "archive", "torch"])
def test_pickles_with_code_are_refused_and_not_run(kind, tmp_path):
    path, trap = tmp_path / "bad.pt", Trap(tmp_path / "ran")
    if kind == "pickle":
        path.write_bytes(pickle.dumps(trap))
    elif kind == "archive":
        trapped_archive(path, trap)
    else:
        torch.save({"visual.conv1.weight": torch.zeros(1), "x": trap}, path)
    with pytest.raises(BackboneError, match="not a usable weights file") as caught:
        load_backbone(BackboneConfig(str(path)))
    assert not (tmp_path / "ran").exists() and "\n" not in str(caught.value)
    assert "io.open" in str(caught.value) or kind == "pickle"
    assert "weights_only" not in str(caught.value)  # torch would advise to load it unsafely


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_are_refused_in_one_line(content, suffix, tmp_path):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match="damaged") as caught:
        load_backbone(BackboneConfig("ViT-B-32", pretrained=str(path)))
    assert "\n" not in str(caught.value)


def test_truncated_archive_is_refused(tmp_path):
    _, plain, archive = openai_files(tmp_path, VIT, 32)
    for path in (plain, archive):
        path.write_bytes(path.read_bytes()[:-20_000])
        with pytest.raises(BackboneError, match="not a usable weights file"):
            load_backbone(BackboneConfig(str(path)))


def test_weights_of_another_architecture_are_refused(tmp_path):
    other = make_clip(clip_config({**VIT, "layers": 2}))
    folder = write_folder(tmp_path / "clip", clip_config(VIT), other)
    with pytest.raises(BackboneError, match="weights belong to the architecture") as caught:
        load_backbone(BackboneConfig(f"local-dir:{folder}"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_tensors_that_are_no_clip_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "linear.pt")
    with pytest.raises(BackboneError, match="not a CLIP in OpenAI's format"):
        load_backbone(BackboneConfig(str(tmp_path / "linear.pt")))
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(BackboneError, match="holds no state dict"):
        load_backbone(BackboneConfig(str(tmp_path / "list.pt")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not an open_clip folder"),
        ("{", "not an open_clip folder"),
        ("[]", "not an open_clip folder"),
        ('{"model_cfg": {}}', "not an open_clip folder"),
        ('{"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}}', "no weights"),
    ],
)
def test_broken_folders_are_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(BackboneError, match=message):
        load_backbone(BackboneConfig(f"local-dir:{tmp_path}"))


@pytest.mark.parametrize("text", [{"hf_model_name": "roberta-base"}, {"embed_cls": True}])
def test_text_towers_without_prompt_vectors_are_refused(text, tmp_path):
    config = clip_config(VIT, text=text, custom_text=True)
    folder = write_folder(tmp_path / "clip", config)
    with pytest.raises(BackboneError, match="cannot take prompt vectors"):
        load_backbone(BackboneConfig(f"local-dir:{folder}", random_weights=True))


# Names, tags and the hub -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "near"), [("ViT-L-14-33", "ViT-L-14-336"), ("RN5O", "RN50")])
def test_unknown_backbone_suggests_near_names(name, near):
    with pytest.raises(BackboneError, match=rf"'{name}' is unknown.*near: .*{near}"):
        load_backbone(BackboneConfig(name, pretrained="openai"))


def test_backbone_without_weights_is_refused_unless_allowed():
    with pytest.raises(BackboneError, match=r"needs weights.*bayes-pfl-clip-tiny needs none"):
        load_backbone(BackboneConfig("ViT-L-14-336"))


def test_unknown_tag_names_the_known_ones():
    with pytest.raises(BackboneError, match=r"pretrained = 'opena'.*known tags: openai"):
        load_backbone(BackboneConfig("ViT-L-14-336", pretrained="opena"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, no network, and a function that puts a file into the cache."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(weights, "_OPENAI_CACHE", tmp_path / "clip-cache")

    def unreachable(*_, timeout, **__):
        assert timeout <= 10
        raise urllib.error.URLError("no route to host")

    def forbidden(*_, **__):
        raise AssertionError("downloads must not begin without a network")

    monkeypatch.setattr(weights.urllib.request, "urlopen", unreachable)
    for name in ("hf_hub_download", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, forbidden)

    def snapshot(repository):
        folder = cache / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("abc123")
        return folder / "snapshots" / "abc123"

    return snapshot


@pytest.fixture
def small_tag(monkeypatch):
    """A small architecture with a published tag, known to open_clip for the length of a test."""
    from open_clip import factory, pretrained

    config = clip_config(VIT)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-small-test", config)
    settings = pretrained._pcfg(
        url="https://host/hash/ViT-small.pt",
        hf_hub="org/vit-small.openai/",
        quick_gelu=True,
        mean=(0.1, 0.2, 0.3),
    )
    monkeypatch.setitem(pretrained._PRETRAINED, "ViT-small-test", {"openai": settings})
    return config


@torch.no_grad()
def test_tag_weights_come_from_the_hubs_cache_without_a_network(hub, small_tag):
    clip = make_clip(small_tag | {"quick_gelu": True})
    write_folder(hub("org/vit-small.openai"), small_tag, clip)
    backbone, resolved = load_backbone(BackboneConfig("ViT-small-test", pretrained="openai"))
    assert resolved.activation == "quick_gelu" and backbone.mean == (0.1, 0.2, 0.3)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(backbone.encode_image(images).pooled, clip.encode_image(images))


@torch.no_grad()
def test_tag_weights_come_from_openais_own_cache(hub, small_tag, tmp_path):
    (tmp_path / "clip-cache").mkdir()
    clip, plain, _ = openai_files(tmp_path, VIT, 32)
    plain.rename(tmp_path / "clip-cache" / "ViT-small.pt")
    backbone, _ = load_backbone(BackboneConfig("ViT-small-test", pretrained="openai"))
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(backbone.encode_image(images).pooled, clip.encode_image(images))


def test_weights_file_takes_its_settings_from_the_published_tags(hub, small_tag, tmp_path):
    folder = write_folder(tmp_path / "any", small_tag, make_clip(small_tag))
    settings = BackboneConfig(
        "ViT-small-test", pretrained=str(folder / "open_clip_model.safetensors")
    )
    backbone, resolved = load_backbone(settings)
    assert resolved.activation == "quick_gelu" and backbone.mean == (0.1, 0.2, 0.3)


def test_weights_file_of_a_name_with_unlike_tags_asks_for_the_activation(
    hub, small_tag, tmp_path, monkeypatch, caplog
):
    from open_clip import pretrained

    tags = pretrained._PRETRAINED["ViT-small-test"]
    plain = pretrained._pcfg(hf_hub="org/other/")
    monkeypatch.setitem(pretrained._PRETRAINED, "ViT-small-test", {**tags, "laion": plain})
    folder = write_folder(tmp_path / "any", small_tag, make_clip(small_tag))
    settings = BackboneConfig(
        "ViT-small-test", pretrained=str(folder / "open_clip_model.safetensors")
    )
    assert load_backbone(settings)[1].activation == "gelu"
    assert "set it to quick_gelu" in caplog.text
    caplog.clear()
    load_backbone(replace(settings, activation="gelu"))
    assert caplog.text == ""


def test_missing_tag_weights_end_in_one_line_that_helps(hub, tmp_path):
    with pytest.raises(BackboneError) as caught:
        load_backbone(BackboneConfig("ViT-L-14-336", pretrained="openai"))
    message = str(caught.value)
    for part in (
        "no route to host",
        "open_clip_model.safetensors of timm/vit_large_patch14_clip_336.openai",
        "--pretrained FILE",
        str(tmp_path / "hub"),
        "--backbone bayes-pfl-clip-tiny needs no download",
    ):
        assert part in message
    assert "\n" not in message


def test_offline_switch_of_the_hub_is_obeyed(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE is set"):
        load_backbone(BackboneConfig("ViT-L-14-336", pretrained="openai"))


@torch.no_grad()
def test_hub_repository_comes_from_the_cache(hub):
    config = clip_config(VIT)
    clip = make_clip(config)
    write_folder(hub("org/some-clip"), config, clip)
    backbone, _ = load_backbone(BackboneConfig("hf-hub:org/some-clip"))
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(backbone.encode_image(images).pooled, clip.encode_image(images))


def test_missing_hub_repository_ends_in_one_line_that_helps(hub):
    with pytest.raises(BackboneError) as caught:
        load_backbone(BackboneConfig("hf-hub:org/absent"))
    message = str(caught.value)
    assert "open_clip_config.json and open_clip_model.safetensors of org/absent" in message
    assert "local-dir:FOLDER" in message and "\n" not in message


def test_repository_with_a_pickle_alone_is_fetched_in_a_second_step(hub, monkeypatch):
    config = clip_config(VIT)
    snapshot, asked = hub("org/old"), []

    def download(repository, allow_patterns):
        asked.append(allow_patterns)
        write_folder(snapshot, config)
        if "open_clip_pytorch_model.bin" in allow_patterns:
            torch.save(make_clip(config).state_dict(), snapshot / "open_clip_pytorch_model.bin")
        return str(snapshot)

    answer = urllib.error.HTTPError("host", 405, "no HEAD here", None, None)
    monkeypatch.setattr(
        weights.urllib.request, "urlopen", lambda *_, **__: (_ for _ in ()).throw(answer)
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    backbone, _ = load_backbone(BackboneConfig("hf-hub:org/old"))
    assert backbone.image_size == 32 and len(asked) == 2


def test_files_of_a_hub_checkpoint(hub):
    folder = hub("org/head")
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        with pytest.raises(CheckpointError, match="config.json and model.safetensors of org/head"):
            weights.hub_files("org/head", ("config.json", "model.safetensors"))
        (folder / name).write_text("{}")
    assert weights.hub_files("org/head", ("config.json", "model.safetensors")) == folder


def test_tokenizer_that_needs_the_hub_ends_in_one_line(tmp_path):
    text = {"hf_tokenizer_name": "timm/absent", **SIGLIP_TEXT}
    folder = write_folder(tmp_path / "clip", clip_config(VIT, text=text, custom_text=True))
    with pytest.raises(BackboneError, match="no tokenizer for") as caught:
        load_backbone(BackboneConfig(f"local-dir:{folder}", random_weights=True))
    assert "\n" not in str(caught.value)


def test_checkpointing_of_the_text_tower_changes_no_gradient(tiny_model):
    backbone = tiny_model.backbone
    names = backbone.tokenize(["nut"], 3)
    gradients = []
    for enabled in (False, True):
        vectors = torch.ones(1, 2, 3, TEXT["width"] // 2, requires_grad=True)
        with frozen_text_checkpointing(backbone, enabled):
            backbone.encode_prompts(vectors, names).square().sum().backward()
        gradients.append(vectors.grad)
    torch.testing.assert_close(*gradients)
    assert backbone.text.transformer.grad_checkpointing is False
