"""Trees, standardised files and the tensors made of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.records import count_labels, select_categories
from bayes_pfl.data.samples import SampleDataset
from bayes_pfl.data.sources import read_mvtec
from bayes_pfl.data.transforms import InferenceTransform
from bayes_pfl.data.wording import prompt_word
from bayes_pfl.errors import DataError, ImageReadError
from bayes_pfl.train.augmentation import AugmentedDataset, TrainTransform

HALF = (0.5, 0.5, 0.5)


def write(path, size=(16, 12), value=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], value, np.uint8)).save(path)
    return path


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "set"
    for category, suffix in (("metal_nut", "_mask"), ("tile", "")):
        write(root / category / "train" / "good" / "000.png")
        write(root / category / "test" / "good" / "a b.png")
        for k in range(2):
            write(root / category / "test" / "crack" / f"{k}.PNG")
            write(root / category / "ground_truth" / "crack" / f"{k}{suffix}.png")
    return root


def test_mvtec_tree_pairs_pictures_with_masks(tree):
    samples = read_mvtec(tree, dataset="mine")
    assert count_labels(samples) == {"metal_nut": (1, 2), "tile": (1, 2)}
    assert {s.category: s.class_name for s in samples} == {"metal_nut": "metal nut", "tile": "tile"}
    for sample in samples:
        assert (sample.mask is not None) == (sample.label == 1) == (sample.defect == "crack")
        if sample.mask:
            assert sample.mask.stem.removesuffix("_mask") == sample.path.stem
            assert sample.mask.parts[-4] == sample.category
        assert sample.dataset == "mine"
    assert [s.category for s in select_categories(samples, ["tile"])] == ["tile"] * 3
    with pytest.raises(DataError, match="the data has no category wood; it has metal_nut, tile"):
        select_categories(samples, ["wood"])
    assert len(read_mvtec(tree / "tile")) == 3
    assert [s.label for s in read_mvtec(tree, split="train")] == [0, 0]


def test_a_folder_that_is_no_tree_says_what_is_expected(tree, tmp_path):
    for call, reason in (
        (lambda: read_mvtec(tmp_path / "none"), "does not exist"),
        (lambda: read_mvtec(tree / "tile" / "test"), "expected <category>/test/good"),
    ):
        with pytest.raises(DataError, match=reason):
            call()
    (tmp_path / "empty" / "x" / "test" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match="has no images"):
        read_mvtec(tmp_path / "empty")


@pytest.mark.parametrize(
    ("category", "word"),
    [
        ("metal_nut", "metal nut"),
        ("macaroni2", "macaroni"),
        ("Blotchy_099", "Blotchy"),
        ("01", "01"),
    ],
)
def test_prompt_words(category, word):
    assert prompt_word(category) == word


def item(**changes):
    base = {"img_path": "nut/1.png", "mask_path": "nut/1_m.png", "cls_name": "metal_nut"}
    return {**base, "specie_name": "crack", "anomaly": 1, **changes}


def write_meta(root, items, category="nut", **splits):
    root.mkdir(exist_ok=True)
    content = {"train": {category: [item(img_path="", anomaly=0)]}, "test": {category: items}}
    (root / "meta.json").write_text(json.dumps({**content, **splits}))
    return root / "meta.json"


def test_meta_is_read_relative_to_its_folder(tmp_path):
    write(tmp_path / "nut" / "1_m.png")
    normal = item(img_path="nut\\2.png", mask_path="", specie_name="good", anomaly=0)
    absent = item(img_path="nut/3.png", mask_path="nut/absent.png", dataset_name="other")
    path = write_meta(tmp_path, [item(), normal, absent])
    first, second, third = read_meta(path, dataset="mine")
    assert first.path == tmp_path / "nut/1.png" and first.mask == tmp_path / "nut/1_m.png"
    assert (first.label, first.class_name, first.defect) == (1, "metal nut", "crack")
    assert (second.path, second.label, second.mask) == (tmp_path / "nut/2.png", 0, None)
    assert third.mask is None and (first.dataset, third.dataset) == ("mine", "other")
    assert read_meta(path, split="train") == []


HOSTILE = {
    "absolute": (item(img_path="/etc/passwd"), "absolute"),
    "drive": (item(img_path="C:\\x.png"), "absolute"),
    "parent": (item(img_path="../secret.png"), "leaves"),
    "deep parent": (item(img_path="nut/../../secret.png"), "leaves"),
    "backslash parent": (item(mask_path="nut\\..\\..\\secret.png"), "leaves"),
    "link": (item(img_path="link/secret.png"), "leaves"),
    "nul": (item(img_path="a\0b.png"), "not a file name"),
    "surrogate": (item(img_path="\ud800.png"), "not a file name"),
    "number": (item(img_path=3), "path 3 is not a file name"),
    "list": (item(mask_path=["x"]), "not a file name"),
    "no path": ({"anomaly": 1}, "path None"),
    "label": (item(anomaly="yes"), "anomaly is 'yes'; allowed are 0 and 1"),
    "label two": (item(anomaly=2), "anomaly is 2"),
    "label list": (item(anomaly=[]), "anomaly is \\[\\]"),
    "name": (item(cls_name={"a": 1}), "cls_name"),
    "defect path": (item(specie_name="../x"), "specie_name"),
    "no object": ("text", "not 'text'"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_items_are_refused_by_name(tmp_path, kind):
    root = tmp_path / "root"
    root.mkdir()
    write(tmp_path / "secret.png")
    (root / "link").symlink_to(tmp_path)
    bad, reason = HOSTILE[kind]
    path = write_meta(root, [bad])
    with pytest.raises(DataError, match=reason) as caught:
        read_meta(path)
    assert str(caught.value).startswith(str(path)) and "test/nut[0]" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_faults_of_a_meta_file_are_counted_together(tmp_path):
    path = write_meta(tmp_path, [item(anomaly=k) for k in range(7)])
    with pytest.raises(DataError, match=r"nut\[2\].*nut\[3\].*nut\[4\].*and 2 more"):
        read_meta(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[]", "it holds"),
        ('{"train": {}}', '"test"'),
        ('{"test": []}', '"test"'),
        ('{"test": {"nut": 3}}', "a list of items"),
        ('{"test": {"../nut": []}}', "category '../nut' cannot be a name"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, text, reason):
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(DataError, match=reason):
        read_meta(tmp_path / "meta.json")


def test_missing_and_binary_meta_files(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_meta(tmp_path / "none.json")
    (tmp_path / "meta.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="not a JSON file"):
        read_meta(tmp_path / "meta.json")


def test_items_hold_image_mask_and_label(tree):
    samples = select_categories(read_mvtec(tree), ["tile"])
    dataset = SampleDataset(samples, InferenceTransform(8, HALF, HALF))
    items = [dataset[i] for i in range(3)]
    assert [i["label"] for i in items] == [1, 1, 0]
    assert [i["mask"].mean().item() for i in items] == [1, 1, 0]
    assert all(i["image"].shape == (3, 8, 8) and i["mask"].shape == (8, 8) for i in items)
    assert all(i["has_mask"] for i in items) and [i["index"] for i in items] == [0, 1, 2]


def test_bad_masks_and_images_name_the_file(tree, tmp_path):
    sample = select_categories(read_mvtec(tree), ["tile"])[0]
    transform = InferenceTransform(8, HALF, HALF)
    wrong = replace(sample, mask=write(tmp_path / "m.png", size=(9, 12)))
    with pytest.raises(DataError, match=r"m\.png.* 9x12.*16x12"):
        SampleDataset([wrong], transform)[0]
    none = replace(sample, mask=None)
    with pytest.raises(DataError, match="no mask") as caught:
        SampleDataset([none], transform)[0]
    assert str(sample.path) in str(caught.value)
    item = SampleDataset([none], transform, need_masks=False)[0]
    assert item["mask"].sum() == 0 and not item["has_mask"]
    sample.mask.write_bytes(b"")
    with pytest.raises(ImageReadError, match="empty"):
        SampleDataset([sample], transform)[0]


def noise_tree(root):
    rng = np.random.default_rng(0)
    for defect, count in (("good", 2), ("crack", 5)):
        for k in range(count):
            path = write(root / "x" / "test" / defect / f"{k}.png")
            Image.fromarray(rng.integers(0, 255, (20, 20, 3)).astype(np.uint8)).save(path)
            if defect == "crack":
                write(root / "x" / "ground_truth" / defect / f"{k}.png", size=(20, 20))
    return read_mvtec(root)


def test_augmented_items_are_the_same_in_any_number_of_workers(tmp_path):
    def epoch(workers, number, mosaic=0.5):
        transform = TrainTransform(16, HALF, HALF)
        dataset = AugmentedDataset(noise_tree(tmp_path), transform, seed=5, mosaic=mosaic)
        dataset.set_epoch(number)
        loader = DataLoader(dataset, batch_size=7, num_workers=workers)
        return next(iter(loader))

    alone, apart = epoch(0, 0), epoch(2, 0)
    assert torch.equal(alone["image"], apart["image"]) and torch.equal(alone["mask"], apart["mask"])
    assert not torch.equal(alone["image"], epoch(0, 1)["image"])
    assert not torch.equal(alone["image"], epoch(0, 0, mosaic=0.0)["image"])
    assert alone["mask"][alone["label"] == 0].sum() == 0
    assert (alone["mask"][alone["label"] == 1].mean((1, 2)) > 0.9).all()
