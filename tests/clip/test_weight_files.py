"""Weights in folders and files: OpenAI's format, open_clip's, and what is refused."""

import pickle
import warnings
import zipfile

import open_clip
import pytest
import torch

from bayes_pfl.clip import weights
from bayes_pfl.clip.load import load_backbone
from bayes_pfl.config import BackboneConfig
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.checksums import file_sha256
from tests.helpers.clips import (
    RESNET,
    VIT,
    activations,
    clip_config,
    make_clip,
    openai_files,
    write_folder,
)


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


@torch.no_grad()
def test_half_weights_are_read_at_another_size(tmp_path):
    config = clip_config(VIT)
    folder = write_folder(tmp_path / "clip", config, make_clip(config).half())
    backbone, _ = load_backbone(BackboneConfig(f"local-dir:{folder}", image_size=64))
    assert backbone.encode_image(torch.randn(2, 3, 64, 64)).pooled.isfinite().all()


def test_other_weights_than_the_checkpoint_was_trained_on_are_refused(clip_dir):
    settings = BackboneConfig(f"local-dir:{clip_dir}", sha256="0" * 64)
    with pytest.raises(BackboneError, match=r"SHA-256 is .*get the original weights"):
        load_backbone(settings)


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
        text = backbone.text(words, backbone.text.tokenize(["nut"], 2))[:, 0]
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
