"""A user's own card: ten lines of YAML, and all faults of a card reported at once."""

import pytest

from bayes_pfl.data.card_schema import parse_card
from bayes_pfl.data.cards import load_card, read_dataset
from bayes_pfl.data.records import count_labels
from bayes_pfl.errors import DataError
from tests.helpers.layout_trees import BUILDERS, Painter

TEN_LINES = """
name: brackets
root: line3
categories: {bracket: steel bracket}
layouts:
  - test:
      - {images: "photos/ok/*", label: normal}
      - images: "photos/ng/{defect}/*"
        label: anomalous
        mask: "masks/{stem}.*"
"""


def write(folder, text, name="card.yaml"):
    (folder / name).write_text(text)
    return folder / name


def test_ten_lines_are_a_dataset(tmp_path):
    card = write(tmp_path, TEN_LINES)
    paint = Painter(tmp_path / "line3")
    paint.image("photos/ok/a b.png")
    paint.image("photos/ng/dent/1.jpg")
    paint.image("photos/ng/crack/2.{x}.jpg")
    paint.image("photos/ok/.hidden.png")
    (tmp_path / "line3" / "photos" / "ok" / "notes.txt").touch()
    paint.mask("masks/1.png")
    paint.mask("masks/2.{x}.png")
    samples = read_dataset(card)
    assert count_labels(samples) == {"bracket": (1, 2)}
    assert [s.defect for s in samples] == ["good", "crack", "dent"]
    assert [s.mask and s.mask.name for s in samples] == [None, "2.{x}.png", "1.png"]
    assert {s.class_name for s in samples} == {"steel bracket"}
    assert len(read_dataset(card, tmp_path / "line3")) == 3
    (tmp_path / "brackets").symlink_to(tmp_path / "line3")
    assert len(read_dataset(str(card), tmp_path)) == 3


def test_two_lines_read_a_tree(tmp_path):
    counts = BUILDERS["mvtec"](Painter(tmp_path / "tree"))
    card = write(tmp_path, "name: tree\nlayouts: [mvtec]\n")
    samples = read_dataset(card, tmp_path)
    assert count_labels(samples) == counts
    assert {s.class_name for s in samples} == {"bottle", "metal nut"}


def test_a_folder_per_part(tmp_path):
    paint = Painter(tmp_path)
    for part in ("p1", "p2", "p3"):
        paint.image(f"{part}/image.png")
        paint.mask(f"{part}/mask.png", marked=part == "p2")
    card = parse_card(
        {
            "name": "parts",
            "categories": {"part": None},
            "layouts": [
                {
                    "test": [
                        {
                            "images": "{part}/image.png",
                            "mask": "{part}/mask.png",
                            "label": "mask content",
                        }
                    ]
                }
            ],
        }
    )
    samples = read_dataset(card, tmp_path)
    assert [s.label for s in samples] == [0, 1, 0] and samples[1].mask.parent.name == "p2"


FAULTY = """
name: "../x"
colour: red
domain: space
supports: [image, sound]
categories: {no: rail, metal: {word: 3, test: [1]}}
standardised: {test: many}
layouts:
  - test:
      - {images: "/etc/*", label: normal}
      - {images: "../up/*", label: bad}
      - {images: "a/**/*", label: mask exists}
      - {images: "a/*", label: anomalous, mask: "m/{part}.png"}
      - {images: "a/*", label: normal, category: wood}
      - {label: normal}
      - {}
    table: {file: x.csv}
  - 7
"""


def test_all_faults_are_told_together_in_one_line(tmp_path):
    with pytest.raises(DataError) as caught:
        load_card(write(tmp_path, FAULTY))
    text = str(caught.value)
    assert "\n" not in text and text.startswith(str(tmp_path / "card.yaml"))
    for reason in (
        "name '../x' cannot be a name",
        "unknown field 'colour'; allowed are name",
        "domain is 'space'; allowed are industrial, medical, other",
        "supports is 'sound'; allowed are image, pixel",
        "category False cannot be a name",
        "yes and no in quotes",
        "categories.metal.word is 3",
        "categories.metal.test is [1]; [normal, anomalous]",
        "standardised.test is 'many'",
        "layouts[0].test[0].images '/etc/*' must be relative",
        "layouts[0].test[1].images '../up/*' must stay below",
        "layouts[0].test[1].label is 'bad'; allowed are normal",
        "layouts[0].test[2].images 'a/**/*' has **",
        "layouts[0].test[2] has the label 'mask exists' but no mask pattern",
        "layouts[0].test[3].mask uses {part}",
        "names the category 'wood', not in the card",
        "layouts[0].test[5].images is missing",
        "layouts[0].test[6].images is missing",
        "layouts[0].table.image is None",
        "either patterns for test and train, or a table",
        "does not say the category of its images",
        "layouts[1] is 7",
    ):
        assert reason in text, reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a card is a mapping"),
        ("[1, 2]", "a card is a mapping"),
        ("name: [", "not a YAML file"),
        ("name: a\nname: b\n", "'name' is given twice"),
        ("name: !!python/object/apply:os.getcwd []", "not a YAML file"),
        ("name: a", "layouts is None"),
        ("name: a\nlayouts: [visa]", "layouts\\[0\\] is 'visa'"),
        ("{[1]: 2}", "not a YAML file"),
    ],
)
def test_files_that_are_no_cards(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason):
        load_card(write(tmp_path, text))


def test_unknown_cards_name_the_known_ones(tmp_path):
    with pytest.raises(DataError, match="no dataset card 'mvtek'; known are br35h, .*visa"):
        load_card("mvtek")
    with pytest.raises(DataError, match="no dataset card '../mvtec'"):
        load_card("../mvtec")
    with pytest.raises(DataError, match="cannot be read"):
        load_card(tmp_path / "none.yaml")
    assert load_card("MVTec").name == "mvtec"
