"""The cards: each layout in both forms, counts, pairs, and what they refuse."""

import json
import warnings

import pytest

from bayes_pfl.data.cards import (
    DatasetWarning,
    card_names,
    find_datasets,
    load_card,
    locate,
    read_dataset,
)
from bayes_pfl.data.images import read_mask
from bayes_pfl.data.records import count_labels
from bayes_pfl.errors import DataError
from tests.helpers.layout_trees import (
    AUTHORS_WORDS,
    BUILDERS,
    FURTHER,
    WORDS,
    Painter,
    write_meta,
)

ALL = {**BUILDERS, **FURTHER}
IMAGE_ONLY = {"headct", "brainmri", "br35h", "mvtec_loco"}

# Standardised files name categories as they please: some as the card, some otherwise.
OTHER_NAMES = {"metal1": "01", "Class8": "fabric8", "metal_nut": "Metal_Nut", "head_ct": "headct"}


@pytest.fixture(autouse=True)
def _counts_of_tiny_trees_differ():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        yield


def assert_pairs(samples, name, counts):
    assert count_labels(samples) == counts
    for sample in samples:
        assert sample.dataset == name
        assert sample.class_name == WORDS[name][sample.category]
        assert sample.authors_word == AUTHORS_WORDS.get((name, sample.category), "")
        assert sample.path.is_file()
        if sample.label and name not in IMAGE_ONLY:
            # Each mask was painted right after its picture and shows the same square.
            assert sample.mask and sample.mask.is_file() and sample.mask != sample.path
            assert sample.path.stem in sample.mask.stem
            assert read_mask(sample.mask).sum() == 20
        else:
            assert sample.mask is None
        assert (sample.defect == "good") == (sample.label == 0)


def test_there_are_fifteen_cards_with_all_their_facts():
    assert set(card_names()) == set(BUILDERS)
    for name in card_names():
        card = load_card(name)
        assert card.name == name and card.title and card.licence and card.citation
        assert card.home.startswith("http") and card.domain in ("industrial", "medical")
        assert card.categories and card.standardised.test
        assert ("image" in card.supports) or card.standardised.test[0] == 0
        known = [c.test for c in card.categories.values() if c.test]
        if known:
            assert (sum(n for n, _ in known), sum(a for _, a in known)) == card.standardised.test


def test_further_cards_are_known_by_name_and_stay_apart():
    assert set(card_names(further=True)) == set(FURTHER) and not set(FURTHER) & set(BUILDERS)
    for name in FURTHER:
        card = load_card(name)
        assert card.name == name and card.title and card.licence and card.citation and card.home
    with pytest.raises(DataError, match="'bayes-pfl'; known are br35h, .*mpdd.*visa"):
        load_card("bayes-pfl")  # a table of scores that lies in a folder of the cards


@pytest.mark.parametrize("name", ALL)
def test_layout_as_distributed(tmp_path, name):
    counts = ALL[name](Painter(tmp_path / name))
    assert_pairs(read_dataset(name, tmp_path), name, counts)
    assert_pairs(read_dataset(name, tmp_path, form="distributed"), name, counts)
    assert_pairs(read_dataset(name, tmp_path / name), name, counts)
    with pytest.raises(DataError, match="not found"):
        read_dataset(name, tmp_path, form="standardised")
    found = find_datasets(tmp_path, further=name in FURTHER)
    assert [key for key, place in found.items() if place] == [name]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("place", ["meta_{}.json", "{}/meta.json", "{}/meta_{}.json"])
def test_standardised_form(tmp_path, name, place):
    folder = tmp_path / name
    counts = ALL[name](Painter(tmp_path / "elsewhere"))
    named = {OTHER_NAMES.get(key, key): value for key, value in counts.items()}
    folder.mkdir()
    write_meta(Painter(folder), tmp_path / place.format(name, name), named, name in IMAGE_ONLY)
    assert_pairs(read_dataset(name, tmp_path), name, counts)
    assert locate(load_card(name), tmp_path).form == "standardised"
    if place == "{}/meta.json":
        assert_pairs(read_dataset(name, folder), name, counts)
    with pytest.raises(DataError, match="has no train images"):
        read_dataset(name, tmp_path, split="train")


@pytest.mark.parametrize("name", BUILDERS)
def test_standardised_paths_that_leave_the_root_are_refused(tmp_path, name):
    category = next(iter(WORDS[name]))
    (tmp_path / name).mkdir()
    Painter(tmp_path).image("secret.png")
    for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png"):
        items = {"test": {category: [{"img_path": path, "anomaly": 0}]}}
        (tmp_path / name / "meta.json").write_text(json.dumps(items))
        (tmp_path / name / "link.png").unlink(missing_ok=True)
        (tmp_path / name / "link.png").symlink_to(tmp_path / "secret.png")
        with pytest.raises(DataError, match="leaves|absolute"):
            read_dataset(name, tmp_path)


@pytest.mark.parametrize("column", ["image", "mask"])
def test_table_paths_that_leave_the_root_are_refused(tmp_path, column):
    BUILDERS["visa"](Painter(tmp_path / "visa"))
    Painter(tmp_path).image("secret.png")
    row = {"image": "candle/Data/Images/Anomaly/000.JPG", "mask": "", column: "../secret.png"}
    with (tmp_path / "visa" / "split_csv" / "1cls.csv").open("a") as file:
        file.write(f"candle,test,anomaly,{row['image']},{row['mask']}\n")
    with pytest.raises(DataError, match=r"1cls\.csv, line 14: .*leaves"):
        read_dataset("visa", tmp_path)


def test_train_splits(tmp_path):
    wanted = {"mvtec": (2, 0), "visa": (3, 0), "btad": (3, 0), "ksdd2": (2, 1), "dagm": (6, 3)}
    wanted |= {"mpdd": (2, 0), "mvtec_loco": (1, 0), "mvtec_ad_2": (1, 0), "tn3k": (0, 1)}
    for name, count in wanted.items():
        ALL[name](Painter(tmp_path / name))
        pairs = count_labels(read_dataset(name, tmp_path, split="train")).values()
        assert (sum(n for n, _ in pairs), sum(a for _, a in pairs)) == count


def test_other_published_layouts(tmp_path):
    """Trees that are passed around as well as the makers' own."""
    paint = Painter(tmp_path / "VisA_pytorch" / "1cls")
    paint.image("candle/test/good/1.JPG")
    paint.image("candle/test/bad/2.JPG")
    paint.mask("candle/ground_truth/bad/2.png")
    assert_pairs(read_dataset("visa", tmp_path), "visa", {"candle": (1, 1)})

    for root in ("HeadCT", "brain_mri"):
        paint = Painter(tmp_path / root)
        paint.image("test/good/1.png")
        paint.image("test/hemorrhage/2.png")
    assert_pairs(read_dataset("headct", tmp_path), "headct", {"head_ct": (1, 1)})
    assert_pairs(read_dataset("brainmri", tmp_path), "brainmri", {"brain": (1, 1)})

    paint = Painter(tmp_path / "Br35H")
    paint.image("brain/test/good/1.png")
    paint.image("brain/test/tumor/2.png")
    assert_pairs(read_dataset("br35h", tmp_path), "br35h", {"brain": (1, 1)})

    for root, images, masks in (
        ("RSDDs", "", "{}.png"),
        ("RSDDs dataset", "Rail surface images/", "GroundTruth/{}.jpg"),
    ):
        paint = Painter(tmp_path / root / root)
        for kind in ("Type-I RSDDs dataset", "Type-II RSDDs dataset"):
            paint.image(f"{kind}/{images}rail_1.jpg")
            paint.mask(f"{kind}/{masks.format('rail_1')}")
        assert_pairs(read_dataset("rsdd", tmp_path / root), "rsdd", {"metal": (0, 2)})

    paint = Painter(tmp_path / "CVC-ClinicDB" / "PNG")
    paint.image("Original/1.png")
    paint.mask("Ground Truth/1.png")
    assert_pairs(read_dataset("clinicdb", tmp_path), "clinicdb", {"colon": (0, 1)})

    paint = Painter(tmp_path / "Kvasir-SEG" / "Kvasir-SEG")
    paint.image("images/1.jpg")
    paint.mask("masks/1.jpg")
    assert_pairs(read_dataset("kvasir", tmp_path), "kvasir", {"colon": (0, 1)})


def test_categories_come_in_the_order_of_the_card(tmp_path):
    BUILDERS["btad"](Painter(tmp_path / "BTech_Dataset_transformed"))
    samples = read_dataset("btad", tmp_path)
    assert list(count_labels(samples)) == ["metal1", "wood", "metal2"]
    assert {s.category for s in read_dataset("btad", tmp_path, categories=["wood"])} == {"wood"}
    with pytest.raises(DataError, match="^btad has no category glass; it has metal1, wood, metal2"):
        read_dataset("btad", tmp_path, categories=["glass"])


def test_other_counts_are_told_with_both_numbers_and_reading_goes_on(tmp_path):
    BUILDERS["btad"](Painter(tmp_path / "btad"))
    with pytest.warns(DatasetWarning) as caught:
        assert len(read_dataset("btad", tmp_path)) == 6
    texts = [str(warning.message) for warning in caught]
    assert (
        "btad (distributed): found 3 normal and 3 anomalous test images, expected 451 and 290"
        in texts
    )
    assert "btad/metal2: found 1 normal and 1 anomalous test images, expected 400 and 41" in texts


def test_categories_that_the_card_lacks_are_kept_and_told(tmp_path):
    (tmp_path / "mvtec").mkdir()
    write_meta(
        Painter(tmp_path / "mvtec"), tmp_path / "meta_mvtec.json", {"glass_2": (1, 1)}, False
    )
    with pytest.warns(DatasetWarning, match="not in its card: glass_2"):
        samples = read_dataset("mvtec", tmp_path)
    assert {(s.class_name, s.authors_word) for s in samples} == {("glass", "glass_2")}


def test_missing_images_of_a_listing_are_counted_before_any_work(tmp_path):
    (tmp_path / "mvtec").mkdir()
    write_meta(
        Painter(tmp_path / "mvtec"), tmp_path / "mvtec" / "meta.json", {"pill": (2, 1)}, False
    )
    (tmp_path / "mvtec" / "pill" / "good" / "1.png").unlink()
    with pytest.raises(DataError, match="names 1 images that do not exist, first .*1.png"):
        read_dataset("mvtec", tmp_path)


def test_nothing_found_names_the_places(tmp_path):
    with pytest.raises(DataError, match="mvtec was not found in .*meta_mvtec.json"):
        read_dataset("mvtec", tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        read_dataset("mvtec", tmp_path / "none")
    with pytest.raises(DataError, match="is not a folder"):
        find_datasets(tmp_path / "none")
    with pytest.raises(DataError, match="form is 'raw'; allowed are auto"):
        read_dataset("mvtec", tmp_path, form="raw")
    with pytest.raises(DataError, match="by --data or by root"):
        read_dataset("mvtec")
    BUILDERS["mvtec"](Painter(tmp_path / "mvtec"))
    with pytest.raises(DataError, match="split is 'val'; allowed are test, train"):
        read_dataset("mvtec", tmp_path, split="val")


def test_no_set_is_taken_for_another_one(tmp_path):
    for name in ("kvasir", "colondb", "brainmri", "mvtec"):
        BUILDERS[name](Painter(tmp_path / name))
    found = {name for name, place in find_datasets(tmp_path).items() if place}
    assert found == {"kvasir", "colondb", "brainmri", "mvtec"}
    assert [n for n, place in find_datasets(tmp_path / "kvasir").items() if place] == ["kvasir"]


def test_tables_without_their_columns_are_refused(tmp_path):
    BUILDERS["headct"](Painter(tmp_path / "headct"))
    table = tmp_path / "headct" / "labels.csv"
    for text, reason in (
        ("id,bleeding\n1,0\n", "no column hemorrhage; it has id, bleeding"),
        ("", "no column"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=reason):
            read_dataset("headct", tmp_path)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a CSV file"):
        read_dataset("headct", tmp_path)
    table.write_text("id,hemorrhage\n{x},1\n77,1\n")
    with pytest.raises(DataError, match="names 2 images that do not exist"):
        read_dataset("headct", tmp_path)
