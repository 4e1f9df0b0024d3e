"""Names of files, kinds of folders, and where results go."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from bayes_pfl.data.images import read_image
from tests.bad_input.case import Case, World, message_of, one_image, picture
from tests.helpers.commands import command
from tests.helpers.killing import ended, started


def rows(world: World, key: str = "path") -> dict[str, dict[str, str]]:
    """The table of the run, by path or another column."""
    path = world.folder / "out" / "predictions.csv"
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}


def link_loop(world: World) -> str:
    images = one_image(world.folder / "images")
    (images / "again").symlink_to(images)
    world.predict(images)
    assert list(rows(world)) == ["a.png"]
    return ""


def named(name: str, to: str | None = None, make: str = "link") -> Case | object:
    """An entry called x.png beside a good image: the error in its row."""

    def see(world: World) -> str:
        images = one_image(world.folder / "images")
        if make == "link":
            (images / name).symlink_to(to or name)
        else:
            os.mkfifo(images / name)
        said = world.predict(images, code=1)
        assert "1 images scored, 1 failed" in " ".join(said.split())
        return rows(world)[name]["error"]

    return see


def link_out(world: World) -> str:
    images, outside = one_image(world.folder / "images"), world.folder / "outside.png"
    picture().save(outside)
    (images / "b.png").symlink_to(outside)
    world.predict(images)
    assert rows(world)["b.png"]["score"] == rows(world)["a.png"]["score"]
    return ""


def folder_called_image(world: World) -> str:
    images = one_image(world.folder / "images")
    one_image(images / "x.png", "b.png")
    world.predict(images)
    assert list(rows(world)) == ["a.png", "x.png/b.png"]
    return ""


def unreadable(world: World) -> str:
    """As a user who may not read it: root may read everything, so it becomes nobody meanwhile."""
    folder = tempfile.mkdtemp()
    path, user = Path(folder, "a.png"), os.geteuid()
    try:
        os.chmod(folder, 0o755)
        picture().save(path)
        path.chmod(0)
        if user == 0:
            os.seteuid(65534)
        return message_of(lambda: read_image(path))
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


def keeps(name: str | bytes) -> object:
    """An image of that name: its path in the table is what the system gives."""

    def see(world: World) -> str:
        images = world.folder / "images"
        images.mkdir()
        whole = os.path.join(os.fsencode(images), os.fsencode(name))
        with open(whole, "wb") as file:
            picture().save(file, "PNG")
        world.predict(images, "--maps", "png16", "--overlays", "--report")
        (found,) = rows(world).values()
        assert os.fsencode(found["path"]) == os.fsencode(name)
        assert found["score"] and not found["error"]
        assert len(list((world.folder / "out" / "maps").iterdir())) == 1
        return ""

    return see


def long_name(world: World) -> str:
    """Two names of 255 bytes that begin alike: each has its files, and the run can be resumed."""
    images = world.folder / "images"
    names = ["ä" * 125 + f"{end}.png" for end in "ab"]
    for name in names:
        assert len(os.fsencode(one_image(images, name).joinpath(name).name)) == 255
    options = ("--maps", "png16", "--overlays", "--report")
    for resume in ((), ("--resume",)):
        world.predict(images, *options, *resume)
        assert sorted(rows(world)) == names
        assert not any(row["error"] for row in rows(world).values())
        for folder in ("maps", "overlays"):
            assert len(list((world.folder / "out" / folder).iterdir())) == 2
    page = (world.folder / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("overlays/%C3%A4") == 2
    return ""


def deep(world: World) -> str:
    """Made one within the other: the whole path is longer than the system takes."""
    images = one_image(world.folder / "images")
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(images)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.fchdir(before)
        os.close(before)
    try:
        return world.predict(images, code=2)
    finally:
        subprocess.run(["/bin/rm", "-r", str(images)], check=True)  # Python's own would recurse


def dash(world: World) -> str:
    images = one_image(world.folder / "images", "-rf.png")
    world.predict(images)
    assert list(rows(world)) == ["-rf.png"]
    return ""


def markup(world: World) -> str:
    name = "<img src=x onerror=alert(1)>.png"
    images = one_image(world.folder / "images", name)
    world.predict(images, "--report")
    page = (world.folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and "onerror=alert(1)" in page
    assert "default-src &#39;none&#39;; script-src &#39;sha256-" in page
    return ""


def formula(world: World) -> str:
    images = one_image(world.folder / "images", "=1+1.png")
    world.predict(images)
    text = (world.folder / "out" / "predictions.csv").read_text(encoding="utf-8")
    assert '"=1+1.png"' in text
    return ""


def hidden(world: World) -> str:
    images = one_image(world.folder / "images")
    one_image(images, ".b.png")
    one_image(images / ".trash")
    (images / "Thumbs.db").touch()
    said = world.predict(images)
    assert list(rows(world)) == ["a.png"]
    return said


def other_kinds(world: World) -> str:
    images = one_image(world.folder / "images")
    for name in ("b.npy", "c.heic", "notes.txt"):
        (images / name).touch()
    said = world.predict(images)
    summary = json.loads((world.folder / "out" / "summary.json").read_text(encoding="utf-8"))
    assert list(rows(world)) == ["a.png"] and summary["remarks"][0] in said
    return said


def empty(world: World) -> str:
    (world.folder / "images").mkdir()
    return world.predict(world.folder / "images", code=2)


def without_images(world: World) -> str:
    (world.folder / "images").mkdir()
    (world.folder / "images" / "notes.txt").write_text("nothing", encoding="utf-8")
    return world.predict(world.folder / "images", code=2)


def nowhere(world: World) -> str:
    return world.predict(world.folder / "nowhere", code=2)


def file_as_folder(world: World) -> str:
    return world.refused("fit", one_image(world.folder) / "a.png", "--out", world.folder / "part")


def nothing_fits(world: World) -> str:
    return world.predict(one_image(world.folder) / "*.tif", code=2)


def one_is_missing(world: World) -> str:
    folder = one_image(world.folder)
    return world.predict(folder, folder / "b.png", code=2)


def out_is_a_file(world: World) -> str:
    images = one_image(world.folder / "images")
    (world.folder / "out").write_text("mine", encoding="utf-8")
    message = world.predict(images, code=2)
    assert (world.folder / "out").read_text(encoding="utf-8") == "mine"
    return message


def out_in_images(world: World) -> str:
    images = one_image(world.folder / "images")
    for _ in range(2):
        world.predict(images, "--out", images / "out", "--maps", "png16", "--overlays")
    summary = json.loads((images / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["images"] == 1
    return ""


def full_disk(world: World) -> str:
    """No file may grow past 2 kB: what a full disk does, in a process of its own."""
    images, told = world.folder / "images", world.folder / "told"
    for number in range(20):
        one_image(images, f"{number}.png")
    arguments = ["predict", images, "--checkpoint", world.checkpoint, "--class-name", "nut"]
    arguments += ["--out", world.folder / "out", "--maps", "none", "--no-overlays", "--no-report"]

    def limited() -> None:
        sys.dont_write_bytecode = True  # cut files of it would break every later run
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        with redirect_stderr(StringIO()) as said:
            code = command(*arguments, "--samples", "0")
        told.write_text(said.getvalue(), encoding="utf-8")
        sys.exit(code)

    code, message = ended(started(limited)), told.read_text(encoding="utf-8")
    assert code == 2 and "Traceback" not in message, message
    assert not (world.folder / "out" / "predictions.csv").exists()
    return message


FILES = (
    Case("link to a folder above", "each real folder is read once", link_loop),
    Case("link that points nowhere", "`no such file`", named("x.png", "gone.png")),
    Case("link that points to itself", "`no such file`", named("x.png")),
    Case(
        "link to a file outside the folder",
        "scored: it is your folder; data files (below) may not do this",
        link_out,
    ),
    Case(
        "named pipe called .png",
        "`is not a regular file`; it is not opened",
        named("x.png", make="pipe"),
    ),
    Case(
        "device called .png",
        "`is not a regular file`; it is not opened",
        named("x.png", "/dev/zero"),
    ),
    Case("folder called x.png", "looked into, as any folder", folder_called_image),
    Case("file without read permission", "`cannot be read:` the system's reason", unreadable),
    Case("line break in a name", "scored; the name is kept", keeps("a\nb.png")),
    Case("name that is not UTF-8", "scored; its bytes are kept", keeps(b"\xff\xfe.png")),
    Case(
        "blanks and other scripts in a name",
        "scored; the name is kept",
        keeps(" ä 漢字 \u202e.png"),
    ),
    Case("name of 255 bytes", "scored; its map and overlay have a shorter name", long_name),
    Case("1,500 folders below each other", "`more than 200 folders below each other`", deep),
    Case("name that begins with a dash", "scored", dash),
    Case("HTML in a name", "shown as text in report.html", markup),
    Case("name that begins with =", "quoted in predictions.csv, as it is", formula),
    Case(
        "hidden files and folders, leftovers of other programs",
        "`left out, hidden files and leftovers of other programs: 3, first`",
        hidden,
    ),
    Case(
        "files of other kinds",
        "`files of kinds that are not read (.heic .npy): 2, first b.npy`; also in summary.json",
        other_kinds,
    ),
    Case("empty folder", "`no images; files that end in`", empty),
    Case("folder without images", "`no images; files that end in`", without_images),
    Case("no such folder", "`does not exist; give a folder of images`", nowhere),
    Case("pattern that nothing fits", "`nothing fits this pattern`", nothing_fits),
    Case("several places, of which one is missing", "`b.png does not exist`", one_is_missing),
    Case(
        "fit with a file in place of a folder",
        "`is not a folder; give a folder of images`",
        file_as_folder,
    ),
    Case("output folder is a file", "`out` `not`; the file is left as it was", out_is_a_file),
    Case("output within the input", "earlier results are not taken for input", out_in_images),
    Case(
        "full disk", "`cannot be written`: `on a disk with room`; no half table is left", full_disk
    ),
)


def refused_name(name: str) -> object:
    def see(world: World) -> str:
        return world.predict(one_image(world.folder / "images"), "--class-name", name, code=2)

    return see


def scored_name(name: str, written: str | None = None) -> object:
    def see(world: World) -> str:
        said = world.predict(one_image(world.folder / "images"), "--class-name", name)
        (row,) = rows(world).values()
        assert row["class_name"] == (name if written is None else written) and row["score"]
        return said

    return see


def named_twice(world: World) -> str:
    path = world.folder / "names.csv"
    path.write_text('path,class_name\n"a\nb.png",nut\na.png,nut\na.png,bolt\n', encoding="utf-8")
    return world.predict(one_image(world.folder / "images"), "--class-name-from", path, code=2)


def pipe_of_names(world: World) -> str:
    os.mkfifo(world.folder / "names.csv")
    images = one_image(world.folder / "images")
    return world.predict(images, "--class-name-from", world.folder / "names.csv", code=2)


NAMES = (
    Case(
        "class name of 5,000 characters",
        "`class name of 5000 characters ('aaaa...`",
        refused_name("a" * 5000),
    ),
    Case(
        "empty class name", "`class name is empty: name the thing in the image`", refused_name("")
    ),
    Case(
        "class name of blanks",
        "`class name is empty: name the thing in the image`",
        refused_name(" \t "),
    ),
    Case(
        "class name of control characters",
        "`'\\x00\\x01\\x1b[31m' has no token; use words of letters and digits`",
        refused_name("\x00\x01\x1b[31m"),
    ),
    Case(
        "escape sequences of a terminal in a path",
        "`\\x1b[2J`: shown, not obeyed",
        lambda world: world.predict(world.folder / "\x1b[2J", code=2),
    ),
    Case("emoji", "scored", scored_name("🔩")),
    Case("words of another script", "scored; `is unusual for the tokenizer`", scored_name("螺丝")),
    Case("empty synonym", "`a synonym is empty`", refused_name("screw||bolt")),
    Case("path twice in a table", "`'a.png' is in line 4 and in line 5`", named_twice),
    Case("named pipe for a table", "`not a regular file`; it is not opened", pipe_of_names),
)
