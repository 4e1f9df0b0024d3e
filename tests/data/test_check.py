"""What `check` finds in a dataset, and datasets written for other tools."""

import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.data.cards import DatasetWarning, read_dataset
from bayes_pfl.data.check import check
from bayes_pfl.data.export import export_meta, export_mvtec
from bayes_pfl.data.images import read_mask
from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.records import count_labels
from bayes_pfl.data.sources import read_mvtec
from bayes_pfl.errors import DataError
from bayes_pfl.support.progress import NullProgress
from tests.helpers.layout_trees import BUILDERS, Painter

CARD = "name: mine\nlayouts: [mvtec]\n"


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(CARD)
    BUILDERS["mvtec"](Painter(tmp_path / "mine"))
    return path


class Recorder(NullProgress):
    """Counts the steps that are announced, and those that are done."""

    done = 0

    def start(self, title, steps):
        self.steps = steps

    def advance(self, done, values):
        self.done += done


def test_a_sound_dataset_has_no_findings(tmp_path, card):
    seen = Recorder()
    report = check(card, tmp_path, progress=seen)
    assert report.ok and report.lines() == [] and report.form == "distributed"
    assert report.counts == {"bottle": (1, 2), "metal_nut": (1, 2)}
    assert (seen.steps, seen.done) == (6, 6)


def test_everything_amiss_is_found(tmp_path, card):
    test = tmp_path / "mine" / "bottle" / "test"
    masks = tmp_path / "mine" / "bottle" / "ground_truth"
    (test / "good" / "cut.png").write_bytes((test / "good" / "000.png").read_bytes()[:60])
    shutil.copy(test / "bent" / "000.png", test / "good" / "copy.png")
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(masks / "bent" / "000_mask.png")
    Image.fromarray(np.ones((4, 4), np.uint8)).save(masks / "broken large" / "000_mask.png")
    nut = tmp_path / "mine" / "metal_nut" / "ground_truth"
    (nut / "bent" / "000_mask.png").unlink()
    (nut / "broken large" / "000_mask.png").write_bytes(b"")
    report = check(card, tmp_path)
    assert not report.ok and len(report.lines()) == 6
    assert [text.split(":")[0][-7:] for text in report.unreadable] == ["cut.png", "ask.png"]
    assert [p.parts[-4:] for p in report.missing_masks] == [
        ("metal_nut", "test", "bent", "000.png")
    ]
    assert "mask is 4x4, its image" in report.wrong_sizes[0] and "12x10" in report.wrong_sizes[0]
    assert report.empty_masks == [masks / "bent" / "000_mask.png"]
    assert [{p.name for p in group} for group in report.duplicates] == [{"000.png", "copy.png"}]


OWN = """
name: mine
categories: {brackets: bracket}
layouts:
  - test:
      - {images: ["ok/*.png", "ok/*.jpg", "fine/late/*"], label: normal}
      - {images: "nok/{defect}/*.jpg", label: anomalous}
    train:
      - {images: "sound/*", label: normal}
"""


def test_patterns_that_match_nothing_are_named_with_where_they_were_looked_for(tmp_path):
    card, root = tmp_path / "mine.yaml", tmp_path / "mine"
    card.write_text(OWN)
    paint = Painter(root)
    for name in ("ok/1.png", "nok/dent/1.png", "fine/early/1.png"):
        paint.image(name)
    report = check(card, tmp_path)
    assert not report.ok and report.misses == [
        f"test pattern 'fine/late/*' (normal) matches nothing: no 'late' in {root / 'fine'}",
        f"test pattern 'nok/{{defect}}/*.jpg' (anomalous) matches nothing: no image in "
        f"{root / 'nok' / 'dent'}",
    ]
    paint.image("fine/late/1.jpg")
    paint.image("nok/dent/2.jpg")
    assert check(card, tmp_path).misses == []


def test_a_card_that_finds_nothing_says_where_its_first_pattern_ends(tmp_path):
    card = tmp_path / "mine.yaml"
    card.write_text(OWN)
    Painter(tmp_path / "mine").image("OKAY/1.png")
    with pytest.raises(DataError, match="'ok/.*png'.*matches nothing: no 'ok' in .*mine$"):
        check(card, tmp_path)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_pattern_of_a_benchmark_matches_what_its_makers_distribute(tmp_path, name):
    BUILDERS[name](Painter(tmp_path / name))
    assert check(name, tmp_path).misses == []


def test_image_level_sets_need_no_masks_and_counts_are_reported(tmp_path):
    BUILDERS["br35h"](Painter(tmp_path / "br35h"))
    report = check("br35h", tmp_path)
    assert report.missing_masks == []
    assert report.lines() == [
        "br35h (distributed): found 3 normal and 2 anomalous test images, expected 1500 and 1500"
    ]


@pytest.mark.parametrize("name", BUILDERS)
def test_export_as_a_tree_and_back(tmp_path, name):
    counts = BUILDERS[name](Painter(tmp_path / name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        samples = read_dataset(name, tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / name).rglob("*.*") if path.is_file()}
    out = export_mvtec({"test": samples}, tmp_path / "out")
    again = read_mvtec(out)
    assert count_labels(again) == {key: counts[key] for key in sorted(counts)}
    images = sorted(sample.path.read_bytes() for sample in samples)
    assert images == sorted(sample.path.read_bytes() for sample in again)
    masks = [(sample, read_mask(sample.mask).sum()) for sample in again if sample.mask]
    assert len(masks) == sum(sample.mask is not None for sample in samples)
    assert all(total == 20 for _, total in masks)
    assert before == {path: path.read_bytes() for path in before}
    with pytest.raises(DataError, match="not an empty folder"):
        export_mvtec({"test": samples}, out)


def test_export_as_meta_and_back(tmp_path, card):
    splits = {split: read_dataset(card, tmp_path, split=split) for split in ("train", "test")}
    file = export_meta(splits, tmp_path / "mine" / "meta.json")
    for split, samples in splits.items():
        again = read_meta(file, split)
        assert [(s.path, s.mask, s.label, s.defect) for s in again] == [
            (s.path, s.mask, s.label, s.defect) for s in samples
        ]
        assert [s.class_name for s in again] == [s.class_name for s in samples]
    with pytest.raises(DataError, match="exists; move it away"):
        export_meta(splits, file)
    (tmp_path / "far").mkdir()
    with pytest.raises(DataError, match="does not lie below"):
        export_meta(splits, tmp_path / "far" / "meta.json")
    with pytest.raises(DataError, match="cannot be written"):
        export_meta({}, tmp_path / "none" / "meta.json")


def test_equal_names_do_not_overwrite_each_other(tmp_path):
    paint = Painter(tmp_path / "x")
    for name in ("a/1.png", "b/1.png", "b/1.jpg"):
        paint.image(name)
        paint.mask(name.replace(".", "_m."))
    card = tmp_path / "x.yaml"
    card.write_text(
        "name: x\ncategories: {x: x}\nlayouts:\n  - test:\n"
        '      - {images: "{folder}/*", exclude: "*_m.*", label: anomalous, '
        'mask: "{folder}/{stem}_m.*"}\n'
    )
    out = export_mvtec({"test": read_dataset(card, tmp_path)}, tmp_path / "out")
    samples = read_mvtec(out)
    assert len(samples) == 3 and len({sample.mask for sample in samples}) == 3
