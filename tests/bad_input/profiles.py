"""Normal pictures, profiles, and folders whose pictures are compared with each other."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bad_input.case import Case, World, picture
from tests.bad_input.data import tree
from tests.helpers.folders import rows_of


def texture(seed: int) -> Image.Image:
    """48×48 of grey noise."""
    noise = np.random.default_rng(seed).normal(128, 12, (48, 48)).clip(0, 255)
    return Image.fromarray(noise.astype(np.uint8)).convert("RGB")


def sound(world: World, count: int = 4) -> Path:
    """A folder of normal pictures."""
    folder = world.folder / "sound"
    folder.mkdir()
    for seed in range(count):
        texture(seed).save(folder / f"{seed}.png")
    return folder


def fitted(world: World, folder: Path, *options: object, code: int = 0) -> str:
    """Run ``bayes-pfl fit``: what it says."""
    name = ("--class-name", "nut", "--samples", 0)
    arguments = ("fit", folder, "--out", world.folder / "part", "--checkpoint", world.checkpoint)
    if code == 2:
        return world.refused(*arguments, *name, *options)
    found, said, complaints = world.run(*arguments, *name, *options)
    assert found == code, (said, complaints)
    return said + complaints


def used(world: World, *options: object, code: int = 2) -> str:
    """Use the profile that was fitted."""
    place = world.folder / "part"
    return world.predict(world.folder / "sound", "--profile", place, *options, code=code)


def changed(world: World, name: str, change: object) -> None:
    path = world.folder / "part" / "config.json"
    data = json.loads(path.read_text())
    data[name] = change
    path.write_text(json.dumps(data))


def another_checkpoint(world: World) -> str:
    fitted(world, sound(world))
    changed(world, "checkpoint", {"name": str(world.checkpoint), "sha256": "0" * 64})
    return used(world, "--class-name", "nut")


def cut_short(world: World) -> str:
    fitted(world, sound(world))
    path = world.folder / "part" / "profile.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    return used(world, "--class-name", "nut")


def no_profile(world: World) -> str:
    sound(world)
    return used(world, "--class-name", "nut")


def leads_elsewhere(world: World) -> str:
    fitted(world, sound(world))
    path = world.folder / "part" / "config.json"
    data = json.loads(path.read_text())
    data["pictures"][0]["digest"] = "../../../etc/passwd"
    path.write_text(json.dumps(data))
    return used(world, "--class-name", "nut")


def another_name(world: World) -> str:
    fitted(world, sound(world))
    return used(world, "--class-name", "bolt")


def with_threshold(world: World) -> str:
    fitted(world, sound(world, 24))
    return used(world, "--class-name", "nut", "--threshold", 0.5)


def one_picture(world: World) -> str:
    return fitted(world, sound(world, 1))


def another_thing(world: World) -> str:
    folder = sound(world, 8)
    ramp = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (48, 1))
    Image.fromarray(ramp).save(folder / "sky.png")
    return fitted(world, folder, code=2)


def copies(world: World) -> str:
    folder = sound(world)
    shutil.copy(folder / "0.png", folder / "z.png")
    return fitted(world, folder)


def unreadable(world: World) -> str:
    folder = sound(world)
    (folder / "bad.png").write_text("no image")
    return fitted(world, folder, code=1)


def none_readable(world: World) -> str:
    folder = sound(world, 0)
    (folder / "bad.png").write_text("no image")
    return fitted(world, folder, code=2)


def empty(world: World) -> str:
    return fitted(world, sound(world, 0), code=2)


def its_own_picture(world: World) -> str:
    fitted(world, sound(world, 8))
    used(world, "--class-name", "nut", code=0)
    scores = [float(row["memory_score"]) for row in rows_of(world.folder / "out")]
    assert min(scores) > 0.01  # its distance to itself would be 0
    return ""


def a_copy_saved_anew(world: World) -> str:
    folder = sound(world, 8)
    fitted(world, folder)
    for path in list(folder.iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
    used(world, "--class-name", "nut", code=0)
    with (world.folder / "out" / "predictions.csv").open(newline="") as file:
        far = {row["path"]: float(row["memory_score"]) for row in csv.DictReader(file)}
    for name in range(8):
        assert far[f"{name}.jpg"] > 0.8 * far[f"{name}.png"]  # else near 0
    return ""


def occupied(world: World) -> str:
    (world.folder / "part").mkdir()
    (world.folder / "part" / "notes.txt").write_text("mine")
    return fitted(world, sound(world), code=2)


def few_for_each_other(world: World) -> str:
    return world.predict(sound(world, 7), "--mutual", code=2)


def both(world: World) -> str:
    fitted(world, sound(world, 8))
    return used(world, "--class-name", "nut", "--mutual")


def evaluated(world: World, *options: object, code: int = 0) -> str:
    data = world.folder / "data"
    out, few = world.folder / "out", ("--samples", 0, "--no-report")
    arguments = ("evaluate", "--data", data, "--checkpoint", world.checkpoint, "--out", out, *few)
    if code == 2:
        return world.refused(*arguments, *options)
    found, said, complaints = world.run(*arguments, *options)
    assert found == code, complaints
    return said


def of_no_category(world: World) -> str:
    tree(world.folder / "data")
    fitted(world, sound(world))
    path = world.folder / "part" / "config.json"
    path.write_text(path.read_text().replace('"class_name": "nut"', '"class_name": "bolt"'))
    return evaluated(world, "--profile", world.folder / "part", code=2)


def train_unreadable(world: World) -> str:
    data = tree(world.folder / "data")
    picture().save(data / "nut" / "test" / "good" / "001.png")
    item = {"mask_path": "", "cls_name": "nut"}
    test = [
        item | {"img_path": f"nut/test/{kind}/00{at}.png", "anomaly": label}
        for label, kind in enumerate(("good", "bent"))
        for at in range(2)
    ]
    content = {"train": {"nut": [item | {"img_path": "../x.png"}]}, "test": {"nut": test}}
    (data / "meta.json").write_text(json.dumps(content))
    return evaluated(world, "--shots", 1)


def tiles_of_the_authors(world: World) -> str:
    tree(world.folder / "data")
    return evaluated(world, "--tile", 64, "--protocol", "both", code=2)


def tiles_of_none(world: World) -> str:
    tree(world.folder / "data")
    fitted(world, sound(world))
    return evaluated(world, "--tile", "auto", "--profile", world.folder / "part", code=2)


CASES = (
    Case(
        "profile of another checkpoint", "`other weights or scoring settings`", another_checkpoint
    ),
    Case("profile.safetensors cut short", "`missing, truncated, or not the one`", cut_short),
    Case("folder that is no profile", "`not readable`", no_profile),
    Case("profile whose pictures lead elsewhere", "`without a hash of theirs`", leads_elsewhere),
    Case("profile with another class name", "`leave the name out`", another_name),
    Case("profile with a threshold besides its own", "`leave one of them out`", with_threshold),
    Case(
        "one normal picture",
        "scored; `no thresholds: they need a second normal picture`",
        one_picture,
    ),
    Case(
        "a picture of another thing among the normal ones",
        "`differ much from the others`, with its name",
        another_thing,
    ),
    Case("a normal picture twice", "`z.png is a copy of another picture`", copies),
    Case("unreadable file among the normal pictures", "left out: `bad.png`, exit 1", unreadable),
    Case("no normal picture that can be read", "`no picture could be read`", none_readable),
    Case("no normal picture", "`no images`", empty),
    Case(
        "a normal picture that is also to be judged",
        "scored: compared with the others alone",
        its_own_picture,
    ),
    Case(
        "a normal picture that was saved again as JPEG and is also to be judged",
        "scored: recognised by its patches, compared with the others alone",
        a_copy_saved_anew,
    ),
    Case("profile into a folder of other files", "`holds other files`", occupied),
    Case(
        "seven pictures compared with each other",
        "`too few to be compared with each other`",
        few_for_each_other,
    ),
    Case("--mutual with a profile", "`give one of them`", both),
    Case(
        "evaluate with a profile of another class name",
        "`the profile is for 'bolt', which no category here is called; there are 'nut'`",
        of_no_category,
    ),
    Case(
        "evaluate --shots with a train split that cannot be read",
        "evaluated with normal test pictures, and said: `its train split cannot be read and "
        "counts as none`",
        train_unreadable,
    ),
    Case(
        "evaluate --tile with the protocol authors",
        "`whose maps and masks are of the model's size: use --protocol deploy`",
        tiles_of_the_authors,
    ),
    Case(
        "evaluate --tile auto with a profile that has no tiles",
        "`a profile that was made without tiles: fit it with --tile`",
        tiles_of_none,
    ),
)
