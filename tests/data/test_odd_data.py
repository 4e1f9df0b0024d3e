"""Data as it comes: leftovers, other kinds of files, EXIF, grey masks, names that fit twice."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.data import samples as samples_module
from bayes_pfl.data.cards import DatasetWarning, read_dataset
from bayes_pfl.data.check import check
from bayes_pfl.data.export import export_mvtec
from bayes_pfl.data.image_files import IMAGE_SUFFIXES, list_files
from bayes_pfl.data.images import read_image, read_mask
from bayes_pfl.data.labelled_batches import read_batches
from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.records import Sample, count_labels
from bayes_pfl.data.samples import load_mask
from bayes_pfl.data.sources import read_mvtec, read_source
from bayes_pfl.errors import DataError
from tests.helpers.layout_trees import Painter

CARD = "name: tree\nlayouts: [mvtec]\n"


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch):
    monkeypatch.setattr(samples_module, "_TOLD", set())


@pytest.fixture
def tree(tmp_path):
    paint = Painter(tmp_path / "tree")
    paint.image("nut/train/good/0.png")
    paint.image("nut/test/good/0.png")
    paint.image("nut/test/hole/1.png")
    paint.mask("nut/ground_truth/hole/1_mask.png")
    return paint


def read(tree, way="tree"):
    """The samples, and the warnings: of the tree itself, or by a card."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if way == "tree":
            samples = read_source(tree.root)
        else:
            card = tree.root.parent / "tree.yaml"
            card.write_text(CARD)
            samples = read_dataset(card, tree.root.parent)
    return samples, [str(w.message) for w in caught if w.category is DatasetWarning]


def check_of(tree):
    card = tree.root.parent / "tree.yaml"
    card.write_text(CARD)
    return check(card, tree.root.parent)


@pytest.mark.parametrize("way", ["tree", "card"])
def test_leftovers_are_never_images_masks_categories_or_defects(tree, way):
    before, lines = read(tree, way)
    assert lines == []
    for name in (
        ".ipynb_checkpoints/test/good/1.png",
        "__MACOSX/nut/test/good/._1.png",
        "__MACOSX/test/good/1.png",
        "nut/test/.ipynb_checkpoints/1-checkpoint.png",
        "nut/test/__MACOSX/1.png",
        "nut/test/hole/._1.png",
        "nut/ground_truth/hole/._1_mask.png",
    ):
        tree.image(name)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (tree.root / "nut/test/hole" / name).write_bytes(b"x")
    (tree.root / "nut/test/hole/notes.txt").write_text("nobody misses this")
    after, lines = read(tree, way)
    assert after == before
    assert (
        len(lines) == 1
        and "left out, hidden files and leftovers of other programs: 9, first .ipynb_ch" in lines[0]
    )
    assert check_of(tree).lines() == lines


@pytest.mark.parametrize("way", ["tree", "card"])
@pytest.mark.parametrize("name", ["Good", "GOOD", "good ", " Good"])
def test_good_in_any_case_and_with_blanks_is_normal_and_said(tree, name, way):
    (tree.root / "nut/test/good").rename(tree.root / "nut/test/between")
    (tree.root / "nut/test/between").rename(tree.root / "nut/test" / name)
    tree.image(f"nut/test/{name}/2.png")
    samples, lines = read(tree, way)
    assert count_labels(samples) == {"nut": (2, 1)}
    assert {s.defect for s in samples} == {"good", "hole"}
    assert lines == [f"images in folders called {name!r} count as normal"]


@pytest.mark.parametrize("way", ["tree", "card"])
def test_files_of_other_kinds_and_nested_folders_are_counted(tree, way):
    for name in ("a.npy", "b.exr", "c.heic"):
        (tree.root / "nut/test/hole" / name).write_bytes(b"x")
    tree.image("nut/test/hole/deep/1.png")
    tree.image("nut/test/crack/all deep/1.png")
    samples, lines = read(tree, way)
    assert count_labels(samples) == {"nut": (1, 1)}
    assert len(lines) == 2
    assert (
        "files of kinds that are not read (.exr .heic .npy): 3, first nut/test/hole/a.npy"
        in lines[0]
    )
    assert (
        "images left out, in folders below those that are read: 2, first nut/test/crack" in lines[1]
    )
    assert check_of(tree).lines() == lines


def test_what_pillow_opens_is_read(tmp_path):
    picture = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    formats = {".jpe": "JPEG", ".jfif": "JPEG", ".pnm": "PPM", ".pgm": "PPM", ".pbm": "PPM"}
    for number, suffix in enumerate(IMAGE_SUFFIXES):
        grey = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
        name = tmp_path / f"{number:02d}{suffix.upper()}"
        picture.convert(grey).save(name, formats.get(suffix))
    (tmp_path / "x.heic").touch()
    files = list_files(tmp_path)
    assert len(files.images) == len(IMAGE_SUFFIXES) >= 15
    assert [path.name for path in files.unread] == ["x.heic"]
    for path in files.images:
        assert read_image(path).size == (8, 8)


def test_a_listing_without_a_card_keeps_its_words_and_leaves_leftovers_out(tmp_path):
    names = ["metal1", "fabric2", "Metal_Nut", "chewinggum", "pcb4", "macaroni2", "pipe_fryum"]
    items = {
        name: [{"img_path": f"{name}/1.png", "cls_name": name, "anomaly": 0}] for name in names
    }
    items["metal1"].append({"img_path": "metal1/._1.png", "cls_name": "metal1", "anomaly": 1})
    items[".x"] = [{"img_path": ".ipynb_checkpoints/1.png", "anomaly": 1}]
    (tmp_path / "meta.json").write_text(json.dumps({"test": items}))
    with pytest.warns(DatasetWarning, match="leftovers of other programs: 2, first metal1/._1.png"):
        samples = read_meta(tmp_path / "meta.json")
    assert [s.class_name for s in samples] == [
        *("metal1", "fabric2", "metal nut", "chewing gum"),
        *("printed circuit board", "macaroni", "pipe fryum"),
    ]


# Masks that fit twice -----------------------------------------------------------------------------


def test_two_images_of_one_stem_with_a_mask_each_are_no_double(tree):
    tree.image("nut/test/hole/1.bmp")
    tree.mask("nut/ground_truth/hole/1_mask.bmp")
    samples, lines = read(tree)
    assert {s.mask.name for s in samples if s.label} == {"1_mask.bmp", "1_mask.png"}
    assert lines == []


@pytest.mark.parametrize("way", ["tree", "card"])
def test_one_mask_for_two_images_is_named(tree, way):
    tree.image("nut/test/hole/1.bmp")
    samples, lines = read(tree, way)
    assert len({s.mask for s in samples if s.label}) == 1
    assert len(lines) == 1 and "1_mask.png: one mask for 1.bmp, 1.png" in lines[0]
    assert check_of(tree).lines() == lines


@pytest.mark.parametrize("way", ["tree", "card"])
@pytest.mark.parametrize(
    ("image", "masks", "read_one"),
    [
        ("2.bmp", ("2.png", "2_mask.tif", "2_mask.bmp"), "2_mask.bmp"),
        ("2.bmp", ("2.bmp", "2_mask.tif", "2_mask.png"), "2_mask.png"),
        ("2.PNG", ("2.tif", "2.webp", "2.jpg"), "2.jpg"),
    ],
)
def test_of_several_masks_the_stated_one_is_read(tree, way, image, masks, read_one):
    tree.image(f"nut/test/hole/{image}")
    for name in masks:
        tree.mask(f"nut/ground_truth/hole/{name}")
    samples, lines = read(tree, way)
    (sample,) = (s for s in samples if s.path.name == image)
    assert sample.mask.name == read_one
    assert len(lines) == 1 and f"{read_one}: read as the mask of {image}, not" in lines[0]
    assert all(name in lines[0] for name in masks) and check_of(tree).lines() == lines


# What a mask holds --------------------------------------------------------------------------------

SQUARE = np.zeros((16, 16), bool)
SQUARE[3:7, 4:9] = True


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path)
    return path


def noisy():
    rng = np.random.default_rng(0)
    return np.where(SQUARE, rng.integers(200, 256, (16, 16)), rng.integers(1, 21, (16, 16)))


def soft():
    return np.where(SQUARE, 255, np.where(np.roll(SQUARE, 1, 0) | np.roll(SQUARE, -1, 1), 90, 0))


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        (noisy().astype(np.uint8), True),
        (soft().astype(np.uint8), True),
        ((soft() * 257).astype(np.uint16), True),
        ((soft() / 255).astype(np.float32), True),
        (np.stack([noisy()] * 3, axis=2).astype(np.uint8), True),
        (np.where(SQUARE, 255, 1).astype(np.uint8), True),
        ((SQUARE * 1).astype(np.uint8), False),
        ((SQUARE * 77).astype(np.uint8), False),
        (np.dstack([noisy(), noisy() - 1, noisy()]).astype(np.uint8), True),
        # Numbers of kinds of defects, as VisA has them.
        (np.where(SQUARE, np.arange(16) % 7 + 1, 0).astype(np.uint8), False),
        # Kinds by colour.
        (np.dstack([SQUARE * 128, SQUARE * 0, SQUARE * np.arange(16) * 9]).astype(np.uint8), False),
    ],
)
def test_grey_masks_are_read_at_half_of_their_maximum_and_all_others_above_zero(
    tmp_path, values, grey
):
    mask = save(tmp_path / "m.tif", values)
    assert np.array_equal(read_mask(mask), SQUARE)
    image = Image.new("RGB", (16, 16))
    samples = [Sample(tmp_path / "x.png", "nut", "nut", 1, mask, "hole", "set")] * 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for sample in samples:
            assert np.array_equal(load_mask(sample, image), SQUARE)
    assert len(caught) == grey
    if grey:
        text = str(caught[0].message)
        assert str(mask) in text and "above half of the highest" in text


def test_a_mask_in_which_all_is_marked_stays_so(tmp_path):
    for value in (1, 255):
        path = save(tmp_path / f"{value}.png", np.full((4, 4), value, np.uint8))
        assert read_mask(path).all()


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (9, 80, 7)])
def test_a_palette_without_contrast_is_read_by_its_numbers(tmp_path, colour):
    image = Image.fromarray(SQUARE.astype(np.uint8))
    image.putpalette(colour * 2)
    image.save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as stored:
        assert stored.mode == "P"
    assert np.array_equal(read_mask(tmp_path / "p.png"), SQUARE)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_is_warned_of_once_and_check_reports_it(tree, workers):
    for number in range(2, 6):
        tree.image(f"nut/test/hole/{number}.png")
        path = tree.root / f"nut/ground_truth/hole/{number}_mask.png"
        values = np.arange(120, dtype=np.uint8).reshape(10, 12)
        Image.fromarray(values).save(path)
    samples = read_mvtec(tree.root, dataset="tree")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            list(read_batches(samples, 8, 2, workers))
    doubts = [str(w.message) for w in caught if w.category is DatasetWarning]
    assert len(doubts) == 1 and "2_mask.png: holds more than two grey values" in doubts[0]
    (line,) = check_of(tree).lines()
    assert "2_mask.png: holds more than two grey values" in line and "(4 files)" in line


def test_a_file_of_several_pages_is_warned_of_and_its_first_page_read(tree):
    for name in ("good/2.tif", "hole/2.tif"):
        pages = [Image.new("RGB", (12, 10), colour) for colour in ("red", "blue")]
        place = tree.root / "nut/test" / name
        pages[0].save(place, save_all=True, append_images=pages[1:])
    samples = read_mvtec(tree.root, dataset="stacks")
    with pytest.warns(DatasetWarning, match="2.tif: holds several pages.* has the first; further"):
        batches = list(read_batches(samples, 8, 8, 0))
    read = dict(zip(batches[0].samples, batches[0].pixels, strict=True))
    assert all((read[s][0, 0] == (255, 0, 0)).all() for s in samples if s.path.suffix == ".tif")
    (line,) = [line for line in check_of(tree).lines() if "holds several" in line]
    assert "good/2.tif: holds several pages" in line and "(2 files)" in line


# EXIF ---------------------------------------------------------------------------------------------

TURNS = {6: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180, 5: Image.Transpose.TRANSPOSE}


def turned_pair(
    folder, size, orientation, mask_exif=False, mask_upright=False, kinds=("png", "png")
):
    """A picture that EXIF turns, with a white square; its mask; and the upright mask.

    Args:
        kinds: suffixes of the two.
    """
    stored = np.zeros(size[::-1], np.uint8)
    stored[1:5, 2:9] = 255
    upright = Image.fromarray(stored).transpose(TURNS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.dstack([stored] * 3))
    places = [folder / f"{of}/hole/1.{kinds[at]}" for at, of in enumerate(("test", "ground_truth"))]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
    image.save(places[0], exif=exif)
    mask = upright if mask_upright else Image.fromarray(stored)
    mask.save(places[1], **({"exif": exif} if mask_exif else {}))
    (sample,) = read_mvtec(folder)
    return sample, np.asarray(upright) > 0


@pytest.mark.parametrize("kinds", [("png", "png"), ("tif", "png"), ("png", "tif"), ("tif", "tif")])
@pytest.mark.parametrize(
    ("orientation", "size", "options", "doubtful"),
    [
        (6, (20, 20), {}, True),
        (3, (30, 20), {}, True),  # on its head: the size does not tell
        (5, (20, 20), {"mask_exif": True}, False),
        (6, (30, 20), {}, False),
        (5, (30, 20), {"mask_upright": True}, False),
        (3, (30, 20), {"mask_exif": True}, False),
    ],
)
def test_a_mask_lies_as_its_upright_picture(tmp_path, orientation, size, options, doubtful, kinds):
    sample, wanted = turned_pair(tmp_path / "nut", size, orientation, **options, kinds=kinds)
    image = read_image(sample.path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mask = load_mask(sample, image)
    assert np.array_equal(mask, wanted)
    assert np.array_equal(mask, np.asarray(image)[..., 0] > 0)
    assert ["EXIF" in str(w.message) for w in caught] == [True] * doubtful


def test_a_pair_that_does_not_fit_names_exif(tmp_path):
    sample, _ = turned_pair(tmp_path / "nut", (30, 20), 6)
    save(sample.mask, np.ones((7, 9), np.uint8))
    with pytest.raises(DataError, match=r"mask is 9x7.*1\.png, turned by EXIF, is 20x30"):
        load_mask(sample, read_image(sample.path))


@pytest.mark.parametrize("size", [(20, 20), (30, 20)])
def test_export_keeps_the_frame(tmp_path, size):
    sample, wanted = turned_pair(tmp_path / "nut", size, 6)
    out = export_mvtec({"test": [sample]}, tmp_path / "out")
    shutil.rmtree(tmp_path / "nut")
    (again,) = read_mvtec(out)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(load_mask(again, read_image(again.path)), wanted)
