"""Rendering by the batch: the same picture in any company, exact masks, every fault to be seen."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.data.synthetic import CATEGORIES, class_names, render
from bayes_pfl.data.synthetic.batched import (
    BATCHED,
    FAULTS,
    expose_batch,
    find_device,
    render_batch,
)
from bayes_pfl.data.synthetic.batched.fields import fbm, plane, reached
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.captions import PHRASES
from bayes_pfl.errors import ConfigError

from .commands import command

NAMES = sorted(BATCHED)
PAIRS = [(name, kind) for name in NAMES for kind in BATCHED[name].defects]


def draws(count=8, seed=0):
    return Draws.of(["batched_wood"] * count, seed, range(count), torch.device("cpu"))


def test_names_are_new_and_every_fault_is_used_and_has_words():
    assert not set(NAMES) & set(CATEGORIES) and len(NAMES) >= 15
    assert {kind for _, kind in PAIRS} == set(FAULTS) <= set(PHRASES)
    assert {BATCHED[name].kind for name in NAMES} == {"texture", "object", "organic"}
    assert set(class_names()) == set(CATEGORIES)


def test_hashed_values_look_independent():
    d = draws(16)
    flat = d.white("a", 64, 64).flatten(1)
    assert flat.mean().abs() < 0.02 and (flat.var() - 1).abs() < 0.02
    other = d.white("b", 64, 64).flatten(1)
    many = torch.corrcoef(torch.cat([flat, other, flat.roll(1, 1)]))
    assert (many - torch.eye(len(many))).abs().max() < 0.08  # five standard deviations
    shares = torch.cat([d.under(f"value {k}").uniform("share").flatten() for k in range(500)])
    expected = torch.full((10,), len(shares) / 10)
    counts = torch.histc(shares, 10, 0, 1)
    assert (counts - expected).abs().max() < 5 * expected[0].sqrt()


@pytest.mark.parametrize("bit", [0, 1, 31, 32, 40])
def test_every_bit_of_seed_and_index_makes_another_picture(bit):
    plain, device = ["batched_wood"], torch.device("cpu")
    keys = [
        tuple(Draws.of(plain, seed, [index], device).keys[0].tolist())
        for seed, index in ((0, 0), (1 << bit, 0), (0, 1 << bit))
    ]
    assert all(len(set(half)) == 3 for half in zip(*keys, strict=True))


def test_noise_is_of_variance_one_and_alike_at_every_size():
    large, small = (
        fbm(draws(), "noise", plane(8, size, torch.device("cpu")), 0.1, 2) for size in (256, 128)
    )
    assert (large.std() - 1).abs() < 0.15
    assert (F.avg_pool2d(large[:, None], 2)[:, 0] - small).abs().mean() < 0.05


def test_reached_is_the_quantile():
    field, where = torch.rand(3, 40, 40, generator=torch.manual_seed(0)), torch.ones(3, 40, 40)
    found = reached(field, where > 0, 0.3).flatten()
    assert torch.allclose(found, torch.quantile(field.flatten(1), 0.7, dim=1), atol=2e-3)


def check_masks(size, seed, pairs):
    names, kinds = zip(*pairs, strict=True)
    shot = expose_batch(names, seed, range(len(pairs)), size=size, defects=kinds)
    change = (shot.spoiled - shot.clean).abs().amax(1)
    near = F.max_pool2d(shot.masks[:, None].float(), 5, 1, 2)[:, 0] > 0
    assert shot.defects == kinds
    for pair, there, mask, around in zip(pairs, change, shot.masks, near, strict=True):
        assert mask.any() and not mask.all(), pair
        assert not there[~around].any(), pair
        # The fault is visible: a good part of the mask differs clearly from the clean picture.
        assert torch.quantile(there[mask], 0.8) > 0.03, pair


def test_every_fault_of_every_family_is_seen_and_changes_pixels_only_inside_its_mask():
    check_masks(64, 1, PAIRS)


@pytest.mark.parametrize("first", range(4))
def test_and_so_it_is_in_larger_pictures(first):
    check_masks(256, 2, PAIRS[5 * first + 1 :: 21])


def test_faults_come_in_all_sizes_and_strengths():
    names, kinds = zip(*PAIRS[::2], strict=True)
    shot = expose_batch(names, 5, range(len(names)), size=64, defects=kinds)
    shares = shot.masks.float().mean((1, 2))
    change = (shot.spoiled - shot.clean).abs().amax(1)
    levels = torch.stack([c[m].mean() for c, m in zip(change, shot.masks, strict=True)])
    assert torch.quantile(shares, 0.2) < 0.005 and torch.quantile(shares, 0.9) > 0.03
    assert torch.quantile(levels, 0.1) < 0.12 and torch.quantile(levels, 0.9) > 0.25


def test_a_picture_is_the_same_in_any_company():
    kinds = [
        BATCHED[name].defects[i % 5 % len(BATCHED[name].defects)] for i, name in enumerate(NAMES)
    ]
    numbers = list(range(len(NAMES)))
    whole = render_batch(NAMES, 3, numbers, size=50, defects=kinds)
    back = render_batch(NAMES[::-1], 3, numbers[::-1], size=50, defects=kinds[::-1])
    assert torch.equal(whole.images, back.images.flip(0))
    assert torch.equal(whole.masks, back.masks.flip(0)) and whole.captions == back.captions[::-1]
    for i in (0, 5, 9, len(NAMES) - 1):
        alone = render_batch([NAMES[i]], 3, [i], size=50, defects=[kinds[i]])
        assert torch.equal(alone.images[0], whole.images[i])
        assert torch.equal(alone.masks[0], whole.masks[i])


def test_global_random_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    render_batch(["batched_tissue"], 0, [0], size=32, defects=["tumour"])
    assert torch.equal(torch.get_rng_state(), before)


def test_faultless_and_faulty_picture_show_the_same_scene_through_the_same_camera():
    names = ["batched_gear"] * 3
    shot = expose_batch(names, 2, [4] * 3, size=64, defects=[None, "stain", "scratch"])
    assert torch.equal(shot.clean[0], shot.clean[1]) and torch.equal(shot.clean[0], shot.clean[2])
    batch = render_batch(["batched_mesh"] * 2, 8, [4] * 2, size=128, defects=["good", "stain"])
    # Sharpening reaches a few pixels out of the mask, JPEG to the end of a block of eight.
    far = cv2.dilate(batch.masks[1].numpy().astype(np.uint8), np.ones((33, 33))) == 0
    assert torch.equal(batch.images[0][:, far], batch.images[1][:, far])


def test_pictures_are_well_formed_and_differ():
    batch = render_batch(
        NAMES * 2, 1, range(2 * len(NAMES)), size=64, defects=["random", None] * len(NAMES)
    )
    assert batch.images.shape == (len(batch), 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.masks.dtype == torch.bool
    for picture in batch.pictures():
        assert picture.image.shape == (64, 64, 3) and picture.image.std() > 1.0
        assert picture.mask.any() == (picture.defect != "good")
        assert picture.defect in ("good", *BATCHED[picture.category].defects)
        assert picture.class_name in picture.caption


@pytest.mark.parametrize("name", NAMES)
def test_normal_pictures_of_a_family_vary(name):
    images = render_batch([name] * 8, 0, range(8), size=64).images.float()
    means = images.mean((2, 3))
    assert (means.amax(0) - means.amin(0)).max() > 25
    differences = (images[:, None] - images[None]).abs().mean((2, 3, 4))
    assert differences[~torch.eye(8, dtype=torch.bool)].min() > 4


@pytest.mark.parametrize("size", [32, 45, 100])
def test_any_size(size):
    names = ["batched_nut", "batched_print", "batched_trunk"]
    batch = render_batch(names, 0, range(3), size=size, defects=["crack", "bent", "lesion"])
    assert batch.images.shape == (3, 3, size, size) and batch.masks.any((1, 2)).all()


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        ({"categories": ["wood"]}, ["'wood'", "batched_wood"]),
        ({"defects": ["polyp"]}, ["batched_wood", "'polyp'", "scratch", "random"]),
        ({"size": 8}, ["8", "32", "4096"]),
        ({"indices": [1, 2]}, ["1 categories, 2 indices and 1 defects", "as many"]),
        ({"categories": [], "indices": [], "defects": []}, ["0 categories", "at least one"]),
        ({"device": "tpu"}, ["'tpu'", "cpu, cuda, cuda:0 or auto"]),
        ({"device": "cuda:99"}, ["'cuda:99'", "cpu or auto"]),
    ],
)
def test_refusals_name_value_and_choices(arguments, fragments):
    given = {"categories": ["batched_wood"], "indices": [0], "defects": [None], **arguments}
    with pytest.raises(ConfigError) as refusal:
        render_batch(seed=0, **given)
    assert all(fragment in str(refusal.value) for fragment in fragments)
    assert "\n" not in str(refusal.value)


def test_auto_is_the_best_at_hand():
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_tree_has_the_mvtec_layout_beside_that_of_other_categories(tmp_path):
    words = ("--normals", 1, "--anomalies", 3, "--train-normals", 2, "--size", 40, "--workers", 0)
    groups = ("--categories", "batched_tiles,coin,batched_disc", "--device", "cpu")
    assert command("synthesize", "--out", tmp_path, *words, *groups) == 0
    for name in ("batched_tiles", "batched_disc", "coin"):
        assert len(list((tmp_path / name / "train/good").glob("*.png"))) == 2
        assert len(list((tmp_path / name / "test/good").glob("*.png"))) == 1
        bad = [p for p in (tmp_path / name / "test").rglob("*.png") if p.parent.name != "good"]
        assert len(bad) == 3
        for path in bad:
            folder = tmp_path / name / "ground_truth" / path.parent.name
            mask = cv2.imread(str(folder / f"{path.stem}_mask.png"), cv2.IMREAD_UNCHANGED)
            assert mask.shape == (40, 40) and set(np.unique(mask)) == {0, 255}
    saved = cv2.imread(str(tmp_path / "batched_tiles/test/good/000.png"))[..., ::-1]
    batch = render_batch(["batched_tiles"], 0, [1_000_000], size=40)
    assert np.array_equal(saved, next(batch.pictures()).image)
    coin = cv2.imread(str(tmp_path / "coin/test/good/000.png"))[..., ::-1]
    assert np.array_equal(coin, render("coin", 0, 1_000_000, size=40).image)


def test_the_group_has_all_families(tmp_path):
    words = ("--normals", 1, "--anomalies", 0, "--size", 32)
    assert command("synthesize", "--out", tmp_path, "--categories", "batched", *words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES


@pytest.mark.parametrize(
    "words, fragments",
    [
        (("--categories", "wood", "--device", "cpu"), ["--device cpu", "add batched"]),
        (("--categories", "batched", "--device", "tpu"), ["'tpu'", "cpu, cuda"]),
        (("--categories", "batched_x"), ["batched_x", "batched, or some of", "batched_wood"]),
    ],
)
def test_command_line_refuses(tmp_path, capsys, words, fragments):
    assert command("synthesize", "--out", tmp_path / "none", *words) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert all(fragment in told for fragment in fragments) and not (tmp_path / "none").exists()


def test_benchmark_tells_both_rates_and_their_ratio(tmp_path):
    words = ("--pictures", 2, "--size", 32, "--device", "cpu", "--json", tmp_path / "rates.json")
    assert command("benchmark", "rendering", *words) == 0
    rates = json.loads((tmp_path / "rates.json").read_text())
    assert rates["ratio"] == pytest.approx(rates["batched"] / rates["single"])


@pytest.mark.gpu
def test_a_gpu_draws_what_the_processor_draws():
    names, kinds = zip(*PAIRS, strict=True)
    numbers = range(len(PAIRS))
    cpu, cuda = (
        render_batch(names, 0, numbers, size=128, defects=kinds, device=device)
        for device in ("cpu", "cuda")
    )
    assert cuda.images.device.type == "cuda"
    far = (cpu.images.int() - cuda.images.cpu().int()).abs().amax(1) > 2
    # Rounding may tip a step of JPEG, or the edge of a cell; it must not tip a scene.
    assert far.float().mean() < 1e-3 and (cpu.masks != cuda.masks.cpu()).float().mean() < 1e-4
