"""Weights by name, tag and hub repository: caches, no network, and lines that help."""

import urllib.error
from dataclasses import replace

import huggingface_hub
import pytest
import torch

from bayes_pfl.checkpoints.hub import fetch_checkpoint
from bayes_pfl.clip import downloads
from bayes_pfl.clip.load import load_backbone
from bayes_pfl.config import BackboneConfig
from bayes_pfl.errors import BackboneError, CheckpointError
from tests.helpers.clips import SIGLIP_TEXT, VIT, clip_config, make_clip, openai_files, write_folder


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
    monkeypatch.setattr(downloads, "_OPENAI_CACHE", tmp_path / "clip-cache")

    def unreachable(*_, timeout, **__):
        assert timeout <= 10
        raise urllib.error.URLError("nobody answers")

    def forbidden(*_, **__):
        raise AssertionError("downloads must not begin without a network")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", unreachable)
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
        "(nobody answers)",
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
        downloads.urllib.request, "urlopen", lambda *_, **__: (_ for _ in ()).throw(answer)
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    backbone, _ = load_backbone(BackboneConfig("hf-hub:org/old"))
    assert backbone.image_size == 32 and len(asked) == 2


def test_files_of_a_hub_checkpoint(hub):
    folder = hub("org/head")
    folder.mkdir(parents=True)
    config = '{"format_version": 1, "model": {}}'
    for name, text in (("config.json", config), ("model.safetensors", "")):
        with pytest.raises(CheckpointError, match="config.json and model.safetensors of org/head"):
            fetch_checkpoint("org/head")
        (folder / name).write_text(text)
    assert fetch_checkpoint("org/head") == folder


def test_tokenizer_that_needs_the_hub_ends_in_one_line(tmp_path):
    text = {"hf_tokenizer_name": "timm/absent", **SIGLIP_TEXT}
    folder = write_folder(tmp_path / "clip", clip_config(VIT, text=text, custom_text=True))
    with pytest.raises(BackboneError, match="no tokenizer for") as caught:
        load_backbone(BackboneConfig(f"local-dir:{folder}", random_weights=True))
    assert "\n" not in str(caught.value)
