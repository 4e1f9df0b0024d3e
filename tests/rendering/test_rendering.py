"""The renderer: repeatable, exact masks, every kind of fault, captions that tell the truth."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from bayes_pfl.errors import ConfigError
from bayes_pfl.rendering import (
    CATEGORIES,
    FURTHER_CATEGORIES,
    MEDICAL_CATEGORIES,
    TEST_CATEGORIES,
    TRAIN_CATEGORIES,
    VALIDATION_CATEGORIES,
    render,
    write_mvtec_tree,
)
from bayes_pfl.rendering.captions import PHRASES, state_phrases
from bayes_pfl.rendering.catalog import Category
from bayes_pfl.rendering.defects import DEFECTS
from bayes_pfl.rendering.render import expose
from tests.helpers.commands import command

ALL = sorted(CATEGORIES)


def kinds(category: Category) -> list[str]:
    return list(dict.fromkeys(category.defects))


def test_groups_are_disjoint_complete_and_large_enough():
    training = (TRAIN_CATEGORIES, FURTHER_CATEGORIES, MEDICAL_CATEGORIES)
    groups = (*training, VALIDATION_CATEGORIES, TEST_CATEGORIES)
    assert [len(g) >= n for g, n in zip(groups, (30, 30, 8, 12, 12), strict=True)] == [True] * 5
    assert sorted(sum(groups, ())) == ALL
    words = [{CATEGORIES[name].class_name for name in group} for group in groups]
    assert len(set.union(*words)) == sum(map(len, words))


def test_every_kind_of_fault_is_used_and_has_words():
    used = {kind for category in CATEGORIES.values() for kind in category.defects}
    assert used == set(DEFECTS) == set(PHRASES)


@pytest.mark.parametrize("name", ALL)
def test_every_fault_is_seen_and_changes_pixels_only_inside_its_mask(name):
    for index, kind in enumerate(kinds(CATEGORIES[name])):
        shot = expose(name, 11, index, size=72, defect=kind)
        assert shot.defect == kind and shot.mask.any() and not shot.mask.all()
        change = np.abs(shot.spoiled - shot.clean).max(2)
        around = cv2.dilate(shot.mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        assert change[~around].max(initial=0.0) == 0.0, kind
        # The fault is visible: a good part of the mask differs clearly from the clean picture.
        assert np.percentile(change[shot.mask], 80) > 0.03, kind


@pytest.mark.parametrize("name", ALL)
def test_rendered_pictures_are_well_formed(name):
    bad = render(name, 3, 1, size=64, defect="random")
    assert bad.image.shape == (64, 64, 3) and bad.image.dtype == np.uint8
    assert bad.mask.dtype == bool and bad.mask.shape == (64, 64) and bad.mask.any()
    assert bad.category == name and bad.defect in CATEGORIES[name].defects
    good = render(name, 3, 1, size=64)
    assert not good.mask.any() and good.defect == "good" and good.image.std() > 1.0


@pytest.mark.parametrize("name", ["wood", "cookie", "brain_scan", "printed_board", "wire_mesh"])
def test_equal_arguments_give_equal_pictures(name):
    one, two = (render(name, 5, 7, size=80, defect="random") for _ in range(2))
    assert np.array_equal(one.image, two.image) and np.array_equal(one.mask, two.mask)
    assert one.caption == two.caption
    for other in (render(name, 6, 7, size=80), render(name, 5, 8, size=80)):
        assert not np.array_equal(render(name, 5, 7, size=80).image, other.image)


def test_pictures_do_not_depend_on_the_process_or_on_global_random_state():
    code = (
        "import zlib; from bayes_pfl.rendering import render;"
        "print(zlib.crc32(render('leather', 1, 2, size=64, defect='cut').image.tobytes()))"
    )
    sums = set()
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
        assert run.returncode == 0, run.stderr
        sums.add(run.stdout.strip())
    assert len(sums) == 1


def test_global_generators_and_opencv_threads_are_left_alone():
    np.random.seed(0)
    torch.manual_seed(0)
    threads = cv2.getNumThreads()
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    render("skin", 0, 0, size=64, defect="random")
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert cv2.getNumThreads() == threads


def test_faultless_and_faulty_picture_show_the_same_scene():
    clean = expose("hex_nut", 2, 4, size=96).clean
    for kind in ("scratch", "stain"):
        assert np.array_equal(expose("hex_nut", 2, 4, size=96, defect=kind).clean, clean)


def test_faults_come_in_all_sizes_and_strengths():
    shares, changes = [], []
    for name in TRAIN_CATEGORIES:
        for index in range(3):
            shot = expose(name, 0, index, size=128, defect="random")
            shares.append(shot.mask.mean())
            changes.append(np.abs(shot.spoiled - shot.clean).max(2)[shot.mask].mean())
    assert np.percentile(shares, 10) < 0.005 and np.percentile(shares, 90) > 0.04
    assert np.percentile(changes, 10) < 0.12 and np.percentile(changes, 90) > 0.3


@pytest.mark.parametrize("size", [32, 200, 300])
def test_any_size(size):
    picture = render("solar_cell", 0, 0, size=size, defect="crack")
    assert picture.image.shape == (size, size, 3) and picture.mask.shape == (size, size)


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        ({"category": "plutonium"}, ["'plutonium'", "wood"]),
        ({"category": "wood", "defect": "polyp"}, ["wood", "'polyp'", "scratch", "random"]),
        ({"category": "wood", "size": 8}, ["8", "32", "4096"]),
    ],
)
def test_refusals_name_value_and_choices(arguments, fragments):
    with pytest.raises(ConfigError) as refusal:
        render(**{"seed": 0, "index": 0, **arguments})
    assert all(fragment in str(refusal.value) for fragment in fragments)
    assert "\n" not in str(refusal.value)


def says_good(caption: str) -> bool:
    words = "flawless perfect unblemished intact normal good clean without no undamaged healthy"
    return bool(set(caption.split()) & {*words.split(), "unremarkable"})


def says_bad(caption: str, kind: str) -> bool:
    general = "damaged defective broken abnormal imperfect flawed faulty diseased unhealthy with"
    named = any(phrase.removeprefix("a ") in caption for phrase in PHRASES[kind])
    return named or bool(set(caption.split()) & set(general.split()))


@pytest.mark.parametrize("name", ALL)
def test_captions_name_the_thing_and_its_state(name):
    word = CATEGORIES[name].class_name
    for index in range(6):
        good = render(name, 1, index, size=32)
        bad = render(name, 1, index, size=32, defect="random")
        assert word in good.caption and word in bad.caption
        assert says_bad(bad.caption, bad.defect) and not says_good(bad.caption)
        assert not any(phrase in good.caption for phrase in PHRASES[bad.defect])


def test_groups_and_names_can_be_asked_for_together(tmp_path):
    out = tmp_path / "tree"
    words = ("--normals", 1, "--anomalies", 0, "--size", 32, "--workers", 0)
    assert command("synthesize", "--out", out, "--categories", "coin,further,coin", *words) == 0
    assert {p.name for p in out.iterdir()} == {"coin", *FURTHER_CATEGORIES}


def test_state_phrases_of_the_two_states_do_not_overlap():
    for organic in (False, True):
        good = set(state_phrases("thing", "good", organic))
        for kind in DEFECTS:
            bad = state_phrases("thing", kind, organic)
            assert not good & set(bad) and len(bad) == len(set(bad))
            assert all("thing" in phrase for phrase in bad)


def test_tree_has_the_mvtec_layout_and_masks_that_match(tmp_path):
    root = write_mvtec_tree(
        tmp_path / "set", ["wood", "coin"], normals=2, anomalies=5, train_normals=1, size=48
    )
    for name in ("wood", "coin"):
        assert len(list((root / name / "train/good").glob("*.png"))) == 1
        assert len(list((root / name / "test/good").glob("*.png"))) == 2
        bad = [p for p in (root / name / "test").rglob("*.png") if p.parent.name != "good"]
        assert len(bad) == 5 and len({p.parent.name for p in bad}) > 2
        for path in bad:
            mask_path = root / name / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
            mask = cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
            assert mask.shape == (48, 48) and set(np.unique(mask)) == {0, 255}
    picture = render("wood", 0, 1_000_000, size=48)
    saved = cv2.imread(str(root / "wood/test/good/000.png"))[..., ::-1]
    assert np.array_equal(saved, picture.image)


def test_any_number_of_processes_writes_the_same_tree(tmp_path):
    trees = []
    for workers in (0, 2):
        root = tmp_path / str(workers)
        write_mvtec_tree(
            root, ["wood", "coin"], normals=1, anomalies=2, size=48, seed=4, workers=workers
        )
        files = sorted(path for path in root.rglob("*") if path.is_file())
        trees.append({str(path.relative_to(root)): path.read_bytes() for path in files})
    assert trees[0] == trees[1] and len(trees[0]) == 2 * (1 + 2 * 2)
