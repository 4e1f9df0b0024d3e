"""The recipe of the embedded small CLIP, at a size of seconds and without its weights' package."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.clip.load import load_backbone
from bayes_pfl.config import BackboneConfig
from bayes_pfl.errors import ConfigError, DataError
from pretraining import PictureSource, PretrainConfig, pretrain
from pretraining.architecture import build_clip, embed_texts
from pretraining.export import WEIGHTS_FILE, compact
from pretraining.lite_weights import TRUNK, LiteWeights
from tests.helpers.paths import ROOT
from tests.helpers.small_recipe import SOURCE, TINY, Picture, draw, random_weights


@pytest.fixture(scope="module")
def weights() -> LiteWeights:
    return random_weights()


@pytest.fixture(scope="module")
def made(weights: LiteWeights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "clip"
    pretrain(TINY, folder, source=SOURCE, weights=weights)
    return folder


def test_config_reports_all_faults_together() -> None:
    with pytest.raises(ConfigError) as caught:
        PretrainConfig(
            steps=0, text_width=10, text_heads=3, unknown_noun=1.5, trunk="vit", unlocked=8
        )
    message = str(caught.value)
    wrong = ("steps = 0", "text_width = 10", "unknown_noun = 1.5", "trunk = 'vit'", "unlocked = 8")
    assert all(name in message for name in wrong)


def test_text_without_padding_equals_open_clip(weights: LiteWeights) -> None:
    clip = build_clip(TINY, weights)
    ids = open_clip.SimpleTokenizer()(["a", "a photo of a flawless metal nut", "screw"])
    with torch.inference_mode():
        assert torch.allclose(embed_texts(clip, ids), clip.encode_text(ids), atol=1e-6)


def test_building_leaves_the_random_state_alone(weights: LiteWeights) -> None:
    before = torch.random.get_rng_state()
    first, second = build_clip(TINY, weights), build_clip(TINY, weights)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.text_projection, second.text_projection)
    assert not any(p.requires_grad for p in first.visual.trunk.parameters())


def test_a_locked_tower_stays_as_it_came(weights: LiteWeights, tmp_path: Path) -> None:
    config = replace(TINY, unlocked=0, places=0, steps=2)
    pretrain(config, tmp_path, source=SOURCE, weights=weights)
    clip = open_clip.create_model(f"local-dir:{tmp_path}")
    kernel = "blocks.6.0.conv_pwl.weight"
    assert torch.equal(clip.visual.trunk.state_dict()[kernel], weights.trunk[kernel].half().float())
    assert "unchanged" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_folder_loads_in_open_clip_and_as_a_backbone(made: Path, weights: LiteWeights) -> None:
    clip = open_clip.create_model(f"local-dir:{made}").eval()
    kernel = weights.trunk["conv_stem.weight"]
    assert torch.equal(clip.visual.trunk.conv_stem.weight, kernel.half().float())
    assert torch.equal(clip.visual.trunk.bn1.running_var, weights.trunk["bn1.running_var"])
    backbone, resolved = load_backbone(BackboneConfig(name=f"local-dir:{made}"))
    assert (resolved.image_size, backbone.embed_dim, backbone.text.width) == (64, 8, 8)
    assert backbone.mean == (0.5, 0.5, 0.5)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = clip.encode_image(images)
    assert torch.allclose(backbone.encode_image(images).pooled, expected, atol=1e-5)
    assert all(p.dtype == torch.float32 for p in backbone.parameters())


def test_card_tells_data_figures_and_hash(made: Path) -> None:
    card = (made / "README.md").read_text(encoding="utf-8")
    for part in ("metal nut, wood", "felt, granite", "AUROC", "Apache-2.0", "SHA-256", "6 steps"):
        assert part in card
    config = json.loads((made / "open_clip_config.json").read_text(encoding="utf-8"))
    assert config["model_cfg"]["vision_cfg"]["timm_model_name"] == TRUNK


def test_recipe_is_reproducible_and_neither_renders_nor_tunes_the_tower_again(
    made: Path, weights: LiteWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.random.get_rng_state()

    def refuse(*args: object, **settings: object) -> Picture:
        if args[1] == TINY.seed:
            raise AssertionError("rendered again")
        return draw(*args, **settings)  # the held-out pictures, which are not kept

    for number, render in enumerate((draw, refuse)):
        source = PictureSource(render, SOURCE.training, SOURCE.held_out)
        pretrain(TINY, tmp_path / str(number), source=source, weights=weights, cache=tmp_path)
        monkeypatch.setattr("pretraining.recipe.unlock", refuse)
    assert torch.equal(state, torch.random.get_rng_state())
    first, again, kept = (
        (folder / WEIGHTS_FILE).read_bytes() for folder in (made, tmp_path / "0", tmp_path / "1")
    )
    assert first == again == kept
    card = (tmp_path / "1" / "README.md").read_text(encoding="utf-8")
    assert f"The last {TINY.unlocked} stages" in card
    (tower,) = tmp_path.glob("tower-*.safetensors")
    tower.write_bytes(b"broken")
    with pytest.raises(DataError, match="not a tuned tower .*; delete it"):
        pretrain(TINY, tmp_path / "2", source=source, weights=weights, cache=tmp_path)


@pytest.mark.gpu
def test_recipe_on_a_gpu(weights: LiteWeights, tmp_path: Path) -> None:
    measures = pretrain(TINY, tmp_path, source=SOURCE, weights=weights, device="cuda")
    assert (tmp_path / WEIGHTS_FILE).is_file() and 0 <= measures.held_out.state_mean <= 1


def test_compact_keeps_vectors_exact() -> None:
    variances, kernel = torch.tensor([1e-9, 1e6]), torch.full((2, 2), math.pi)
    assert torch.equal(compact(variances), variances)
    assert compact(kernel).dtype == torch.float16
    assert compact(torch.tensor(3)).dtype == torch.int64


def test_tool_refuses_a_bad_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    tool = importlib.import_module("pretrain_backbone")
    assert tool.main(["--out", str(tmp_path), "--steps", "0"]) == 2
    assert "steps = 0" in capsys.readouterr().err
    assert tool.main(["--out", str(tmp_path), "--device", "abacus"]) == 2
    assert "device 'abacus': not available here; use cpu" in capsys.readouterr().err
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"pictures": 1, "unlock_step": 3}', encoding="utf-8")
    assert tool.main(["--out", str(tmp_path), "--config", str(recipe)]) == 2
    assert "unknown entry 'unlock_step'" in capsys.readouterr().err
    recipe.write_text('{"pictures": 1}', encoding="utf-8")
    assert tool.main(["--out", str(tmp_path), "--config", str(recipe)]) == 2
    assert "pictures = 1: must be at least 2" in capsys.readouterr().err
    sys.modules.pop("pretrain_backbone")


EMBEDDED = ROOT / "checkpoints" / "bayes-pfl-clip-tiny"


@pytest.mark.skipif(not (EMBEDDED / WEIGHTS_FILE).is_file(), reason="not made yet")
class TestEmbedded:
    def test_size(self) -> None:
        assert sum(file.stat().st_size for file in EMBEDDED.iterdir()) < 31e6

    def test_it_is_a_backbone_whose_joint_width_is_its_text_width(self) -> None:
        backbone, resolved = load_backbone(BackboneConfig(name="bayes-pfl-clip-tiny"))
        assert backbone.embed_dim == backbone.text.width == 192
        assert backbone.vision_widths[-1] == 320 and resolved.image_size == 256

    def test_it_knows_the_names_of_classes(self) -> None:
        clip = open_clip.create_model(f"local-dir:{EMBEDDED}").eval()
        tokenizer = open_clip.get_tokenizer(f"local-dir:{EMBEDDED}")
        texts = [f"a photo of a {name}" for name in ("daisy", "tabby", "screw", "fire engine")]
        from sklearn.datasets import load_sample_image

        image = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None]
        small = F.interpolate(image / 127.5 - 1, (256, 256), mode="bilinear", antialias=True)
        with torch.inference_mode():
            images, words = clip.encode_image(small), clip.encode_text(tokenizer(texts))
        assert F.cosine_similarity(images, words).argmax() == 0
