"""Masks, meta.json and dataset cards."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bayes_pfl.data.cards import load_card
from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.records import DatasetWarning
from bayes_pfl.data.sources import read_mvtec
from tests.bad_input.case import Case, World, message_of, one_image, picture, write_json

See = Callable[[World], str]
MASK = "nut/ground_truth/bent/000_mask.png"
FIGURES = ("image", "pixel", "n_normal", "n_anomalous")


def tree(root: Path) -> Path:
    """A tree in MVTec's layout: one normal image, three anomalous ones with masks; no two are
    alike, so that no score is another's but for rounding."""
    images = (("000", "good"), ("000", "bent"), ("001", "bent"), ("002", "bent"))
    for seed, (number, defect) in enumerate(images):
        path = root / "nut" / "test" / defect / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed=seed).save(path)
    (root / "nut" / "ground_truth" / "bent").mkdir(parents=True)
    for number in ("000", "001", "002"):
        save_mask(root / MASK.replace("000", number), marked())
    return root


def marked(value: int = 255, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    """A mask, uint8, with one corner marked."""
    mask = np.zeros(size, np.uint8)
    mask[:8, :8] = value
    return mask


def save_mask(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


def evaluated(world: World, data: Path, code: int = 0) -> tuple[dict[str, Any], str]:
    """metrics.json of a run over the data, and what the command said."""
    out = world.folder / "out"
    least = ("--checkpoint", world.checkpoint, "--out", out, "--samples", 1, "--no-report")
    found, said, complaints = world.run("evaluate", "--data", data, *least)
    assert found == code, complaints
    return json.loads((out / "metrics.json").read_text(encoding="utf-8")), said + complaints


def mask_is(values: np.ndarray | None, skipped: bool = True) -> See:
    """The first mask replaced (None: removed): the image is left out and told, or counted."""

    def see(world: World) -> str:
        data = tree(world.folder / "data")
        (data / MASK).unlink()
        if values is not None:
            save_mask(data / MASK, values)
        metrics, said = evaluated(world, data, 1 if skipped else 0)
        told = json.dumps(metrics) + said
        category = next(iter(metrics["datasets"].values()))["categories"]["nut"]
        assert category["n_anomalous"] == (2 if skipped else 3)
        return told

    return see


def cut_mask(world: World) -> str:
    data = tree(world.folder / "data")
    (data / MASK).write_bytes((data / MASK).read_bytes()[:60])
    metrics, said = evaluated(world, data, 1)
    return json.dumps(metrics) + said


def same_figures(change: Callable[[Path], object]) -> See:
    """A changed tree gives the figures of the plain one: what the user is warned of."""

    def see(world: World) -> str:
        wanted, _ = evaluated(world, tree(world.folder / "plain"))
        other = tree(world.folder / "other")
        change(other)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DatasetWarning)
            found, _ = evaluated(world, other)
        for metrics in (wanted, found):
            (figures,) = metrics["datasets"].values()
            metrics["figures"] = [figures["categories"]["nut"][key] for key in FIGURES]
        # Another order of the files may change the last bits.
        torch.testing.assert_close(found["figures"], wanted["figures"], rtol=1e-4, atol=1e-5)
        return " ".join(str(warning.message) for warning in caught)

    return see


def masks_of(values: np.ndarray) -> Callable[[Path], None]:
    """All masks of a tree replaced."""

    def change(data: Path) -> None:
        for number in ("000", "001", "002"):
            save_mask(data / MASK.replace("000", number), values)

    return change


def noise() -> np.ndarray:
    """The mask, with values of 1 to 20 in its background and of 200 to 255 in its corner."""
    rng = np.random.default_rng(0)
    low, high = (rng.integers(*span, (30, 40)) for span in ((1, 21), (200, 256)))
    return np.where(marked(), high, low).astype(np.uint8)


def black_palette(data: Path) -> None:
    image = Image.fromarray(marked(1))
    image.putpalette([0, 0, 0] * 2)
    for number in ("000", "001", "002"):
        image.save(data / MASK.replace("000", number))


def turned_by_exif(data: Path) -> None:
    """All pictures as a camera stores them; the masks with them, as square pictures."""
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in data.glob("nut/test/bent/*.png"):
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_180).save(path, exif=exif)
    masks_of(marked()[::-1, ::-1])(data)


def leftovers(data: Path) -> None:
    for place in (".ipynb_checkpoints", "nut/test/.trash", "__MACOSX/test/bent"):
        one_image(data / place)
    one_image(data / "nut/test/bent", "._000.png")
    (data / "nut/test/bent/Thumbs.db").touch()


def meta(content: Any) -> See:
    """A meta.json (text, or what is written as JSON) read by evaluate."""

    def see(world: World) -> str:
        path = world.folder / "meta.json"
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            write_json(path, content)
        message_of(lambda: read_meta(path))
        least = ("--checkpoint", world.checkpoint, "--out", world.folder / "out")
        return world.refused("evaluate", "--data", path, *least)

    return see


def item(**changes: Any) -> dict[str, Any]:
    """A meta.json of one image, changed."""
    good = {"img_path": "a.png", "mask_path": "", "cls_name": "nut", "anomaly": 0}
    return {"train": {}, "test": {"nut": [good | changes]}}


def meta_link(world: World) -> str:
    outside = world.folder / "outside"
    outside.mkdir()
    picture().save(outside / "a.png")
    root = world.folder / "data"
    root.mkdir()
    (root / "linked").symlink_to(outside)
    write_json(root / "meta.json", item(img_path="linked/a.png"))
    return message_of(lambda: read_meta(root / "meta.json"))


def no_category(world: World) -> str:
    return message_of(lambda: read_mvtec(world.folder))


def tree_twice(world: World) -> str:
    data = tree(world.folder / "data")
    least = ("--checkpoint", world.checkpoint, "--out", world.folder / "out")
    return world.refused("evaluate", "--data", data, "--data", data / "nut" / "..", *least)


def no_prompt(world: World) -> str:
    data, out = tree(world.folder / "data"), world.folder / "out"
    tree(world.folder / "other")
    (world.folder / "other" / "nut").rename(data / "\x01")
    said = world.refused("evaluate", "--data", data, "--checkpoint", world.checkpoint, "--out", out)
    assert not list(out.rglob("*.npz"))
    return said


MASKS = (
    Case(
        "mask of another size than its image",
        "`the mask is 20x10, its image`",
        mask_is(marked(size=(10, 20))),
    ),
    Case(
        "mask of 0 and 1 in place of 255",
        "every value above 0 is anomalous",
        same_figures(masks_of(marked(1))),
    ),
    Case(
        "mask of one grey value",
        "every value above 0 is anomalous",
        same_figures(masks_of(marked(77))),
    ),
    Case(
        "noise or soft edges in a mask",
        "`those above half of the highest, 255, count as anomalous`, said once for a dataset",
        same_figures(masks_of(noise())),
    ),
    Case(
        "palette mask whose colours are all black",
        "the numbers of its entries are read",
        same_figures(black_palette),
    ),
    Case(
        "picture turned by EXIF, mask without EXIF",
        "`the mask has no EXIF and is turned like it`, if the size does not decide",
        same_figures(turned_by_exif),
    ),
    Case(
        "two masks for one image",
        "`000_mask.png: read as the mask of 000.png, not 000.png`",
        same_figures(lambda data: save_mask(data / MASK.replace("_mask", ""), marked()[::-1])),
    ),
    Case(
        "hidden folders and leftovers in a tree",
        "`left out, hidden files and leftovers of other programs: 5, first`",
        same_figures(leftovers),
    ),
    Case(
        "folder of a tree called Good",
        "`images in folders called 'Good' count as normal`",
        same_figures(lambda data: (data / "nut/test/good").rename(data / "nut/test/Good")),
    ),
    Case(
        "files of other kinds in a tree",
        "`files of kinds that are not read (.npy): 1, first nut/test/bent/a.npy`",
        same_figures(lambda data: (data / "nut/test/bent/a.npy").touch()),
    ),
    Case(
        "images of a tree in deeper folders",
        "`images left out, in folders below those that are read: 1`",
        same_figures(lambda data: one_image(data / "nut/test/bent/deep")),
    ),
    Case("truncated mask", "the image is left out: `damaged or cut short`", cut_mask),
    Case(
        "mask missing",
        "the image counts for image metrics alone: `anomalous without a mask, so left out`",
        mask_is(None, skipped=False),
    ),
    Case("folder that is no dataset", "`holds no category: expected`", no_category),
    Case("tree given to evaluate twice", "`is given twice; name each once`", tree_twice),
    Case("category that no prompt can name", "`has no token`, before any work", no_prompt),
)

BROKEN = '{"test": {"nut": ['
META = (
    Case("meta.json cut short", "`is not a JSON file: Expecting value`", meta(BROKEN)),
    Case(
        "meta.json of wrong types",
        "`an item is an object with img_path and anomaly, not 7`",
        meta({"test": {"nut": [7]}}),
    ),
    Case(
        "meta.json that is a list",
        '`must hold {"test": {category: [item]}}; it holds []`',
        meta([]),
    ),
    Case(
        "path outside the root in meta.json",
        "`path '../a.png' leaves`",
        meta(item(img_path="../a.png")),
    ),
    Case(
        "absolute path in meta.json",
        "`path '/etc/passwd' is absolute`",
        meta(item(img_path="/etc/passwd")),
    ),
    Case(
        "Windows drive in meta.json", "`is absolute`", meta(item(mask_path="C:\\a.png", anomaly=1))
    ),
    Case("link in the data that leaves the root", "`leaves`", meta_link),
    Case(
        "meta.json nested 100,000 deep",
        "`is not a JSON file: nested too deeply`",
        meta('{"test":' + "[" * 100_000),
    ),
    Case(
        "key twice in meta.json",
        "`the key 'nut' is given twice`",
        meta('{"test": {"nut": [], "nut": []}}'),
    ),
    Case(
        "number of 5,000 digits in meta.json",
        "`is not a JSON file: a number of 5000 digits`",
        meta('{"test": ' + "9" * 5000 + "}"),
    ),
    Case(
        "NaN for a label", "`anomaly is nan; allowed are 0 and 1`", meta(item(anomaly=float("nan")))
    ),
    Case(
        "category called ../up in meta.json",
        "`category '../up' cannot be a name`",
        meta({"test": {"../up": []}}),
    ),
    Case(
        "line break in a path of meta.json", "`is not a file name`", meta(item(img_path="a\nb.png"))
    ),
    Case(
        "image of meta.json that is not there",
        "reported, and the others are evaluated: `no such file`",
        lambda world: absent(world),
    ),
)


def absent(world: World) -> str:
    data = world.folder / "data"
    data.mkdir()
    for name in ("a.png", "b.png"):
        picture().save(data / name)
    items = [item(img_path=name)["test"]["nut"][0] for name in ("a.png", "b.png", "c.png")]
    write_json(data / "meta.json", {"test": {"nut": items}})
    metrics, said = evaluated(world, data, 1)
    return json.dumps(metrics) + said


def card(text: str) -> See:
    """A card of that text."""

    def see(world: World) -> str:
        path = world.folder / "card.yaml"
        path.write_text(text, encoding="utf-8")
        message = message_of(lambda: load_card(path))
        least = ("--checkpoint", world.checkpoint, "--out", world.folder / "out")
        line = world.refused("evaluate", "--data", world.folder, "--dataset", path, *least)
        assert message[-60:] in line
        return message

    return see


def laughs(lists: bool = True) -> str:
    """Each of nine lists holds ten times the one before: a thousand million in all."""
    names = "abcdefghi"
    lines = ["a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    for before, name in zip(names, names[1:], strict=False):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    return "\n".join(lines)


def merges() -> str:
    lines = ["a: &a {k: 1}"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=False):
        lines.append(f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}")
    return "\n".join(lines)


GOOD = "name: mine\nlayouts: [{name: a, test: [{images: 'ok/*', label: normal, category: nut}]}]\n"
GOOD += "categories: {nut: nut}\n"
CARDS = (
    Case("YAML bomb by aliases", "`its aliases unfold to more than 20000 values`", card(laughs())),
    Case("YAML bomb by merges", "`its aliases unfold to more than 20000 values`", card(merges())),
    Case("YAML that contains itself", "`a value contains itself`", card("name: &a [*a]")),
    Case(
        "YAML with Python tags",
        "`could not determine a constructor for the tag`; nothing is run",
        card("name: !!python/object/apply:os.system ['touch hacked']"),
    ),
    Case("YAML nested 2,000 deep", "`nested too deeply`", card("name: " + "[\n " * 2_000)),
    Case("YAML of 300 kB", "`larger than 0.125 MiB`", card("# " + "x" * 300_000)),
    Case("key twice in a card", "`the key 'name' is given twice`", card("name: a\nname: b")),
    Case("date that is none in a card", "`month must be in 1..12`", card("name: 2001-99-99")),
    Case(
        "number of thousands of digits in a card",
        "`name a number of thousands of digits cannot be a name`",
        card("name: 0x" + "f" * 20_000),
    ),
    Case(
        "card with unknown fields", "`has an unknown field 'colour'`", card(GOOD + "colour: red\n")
    ),
    Case(
        "card with wrong types",
        "`layouts is 7; a list of at least one layout is wanted`",
        card("name: mine\nlayouts: 7"),
    ),
    Case(
        "card whose patterns leave the root",
        "`must stay below the dataset's folder`",
        card(GOOD.replace("ok/*", "../*")),
    ),
    Case(
        "card whose patterns take for ever",
        "`has more than 4 wildcards in one part`",
        card(GOOD.replace("ok/*", "*a*a*a*a*a*b")),
    ),
    Case(
        "card with a pattern that no file fits",
        "`test pattern 'fine/*' (normal) matches nothing: no 'fine' in`, by `datasets check`",
        lambda world: unfitting_card(world),
    ),
    Case(
        "card that is not UTF-8",
        "`is not a YAML file: 'utf-8' codec`",
        lambda world: binary_card(world),
    ),
)


def unfitting_card(world: World) -> str:
    path = world.folder / "card.yaml"
    path.write_text(GOOD.replace("'ok/*'", "['ok/*', 'fine/*']"), encoding="utf-8")
    one_image(world.folder / "mine" / "ok")
    code, said, _ = world.run("datasets", "check", path, "--data", world.folder)
    assert code == 1
    return f"datasets check: {said}"


def binary_card(world: World) -> str:
    path = world.folder / "card.yaml"
    path.write_bytes(b"name: \xff\xfe")
    return message_of(lambda: load_card(path))
