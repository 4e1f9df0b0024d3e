"""What microscopes and scanners write: files of several pages, and DICOM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLosslessSV1

from bayes_pfl.data import dicom
from bayes_pfl.data.pages import pictures_of
from bayes_pfl.data.tiff import MAX_PAGES
from tests.bad_input.case import Case, World, message_of, one_image, picture
from tests.bad_input.images import animation
from tests.bad_input.places import rows
from tests.helpers.dicom import write_dicom
from tests.helpers.stacks import by_hand, cut, damage, stack

GREY = np.asarray(picture("L"))


def folder(world: World) -> Path:
    """An empty folder for images."""
    (world.folder / "images").mkdir()
    return world.folder / "images"


def pages(make: Callable[[Path], object], bad: set[int], good: int) -> Callable[[World], str]:
    """A run over a stack: the reasons of its bad pages, all others being scored."""

    def see(world: World) -> str:
        images = folder(world)
        make(images / "a.tif")
        said = world.predict(images, code=int(bool(bad)))
        found = rows(world, key="page")
        assert {int(page or 0) for page, row in found.items() if row["error"]} == bad
        assert sum(bool(row["score"]) for row in found.values()) == good
        return said + " ".join(row["error"] for row in found.values())

    return see


def circle(path: Path) -> None:
    """Two pages, the second of which names the first as the next one."""
    by_hand(path, "<", [0, 0])
    data = bytearray(path.read_bytes())
    data[8 + 2 * 126 - 4 : 8 + 2 * 126] = (8).to_bytes(4, "little")
    path.write_bytes(data)


def too_many(world: World) -> str:
    path = folder(world) / "a.tif"
    by_hand(path, "<", [0] * (MAX_PAGES + 2), bytes(MAX_PAGES + 2))
    assert len(pictures_of(path)) == MAX_PAGES + 1
    return message_of(pictures_of(path)[-1].read)


def moving(world: World) -> str:
    images = folder(world)
    animation("WEBP")(images / "a.webp")
    return world.predict(images)


def scan(change: Callable[[Any], object] | None = None, **options: Any) -> Callable[[World], str]:
    """A run over a good image and a DICOM file that has been changed: its reason."""

    def see(world: World) -> str:
        images = one_image(folder(world))
        path = write_dicom(images / "b.dcm", **{"values": GREY, **options})
        if change is not None:
            made = pydicom.dcmread(path)
            change(made)
            made.save_as(path)
        world.predict(images, code=1)
        assert rows(world)["a.png"]["score"]
        return rows(world)["b.dcm"]["error"]

    return see


def compress(made: Any) -> None:
    made.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = JPEGLosslessSV1


def frames(world: World) -> str:
    images = folder(world)
    path = write_dicom(images / "a.dcm", np.stack([GREY] * 3))
    path.write_bytes(path.read_bytes()[: -GREY.nbytes // 2])
    world.predict(images, code=1)
    found = rows(world, key="page")
    assert found["1"]["score"] and found["2"]["score"]
    return found["3"]["error"]


def no_dicom(world: World) -> str:
    (world.folder / "images").mkdir()
    (world.folder / "images" / "a.dcm").write_bytes(b"no scan" * 90)
    world.predict(world.folder / "images", code=1)
    return rows(world)["a.dcm"]["error"]


def without_pydicom(alone: bool) -> Callable[[World], str]:
    def see(world: World) -> str:
        images = folder(world)
        write_dicom(images / "IM000001", GREY)
        if not alone:
            one_image(images)
        with world.patch() as patch:
            patch.setattr(dicom, "can_read_dicom", lambda: False)
            return world.predict(images, code=2 * alone)

    return see


def window(text: str) -> Callable[[World], str]:
    return lambda world: world.predict(one_image(folder(world)), "--window", text, code=2)


CASES = (
    Case(
        "TIFF of several pages",
        "scored, each page as a row of its own",
        pages(lambda path: stack(path, 3), set(), 3),
    ),
    Case(
        "smaller copies and masks in a TIFF",
        "not scored; they keep their numbers",
        pages(lambda path: by_hand(path, "<", [0, 1, 4, 0]), set(), 2),
    ),
    Case(
        "damaged page",
        "`damaged or cut short (`; the other pages are scored",
        pages(lambda path: damage(stack(path, 3), 2), {2}, 2),
    ),
    Case(
        "stack cut short",
        "`damaged or cut short before this page` for the first page that is missing",
        pages(lambda path: cut(stack(path, 4), 3), {3}, 2),
    ),
    Case(
        "pages that go in a circle",
        "`damaged or cut short before this page` after each was scored once",
        pages(circle, {3}, 2),
    ),
    Case(
        "TIFF without a page",
        "`damaged or cut short (`",
        pages(lambda path: path.write_bytes(b"II*\0\0\0\0\0"), {0}, 0),
    ),
    Case(
        "more pages than 10,000",
        "`page 10001: only 10000 pages of a file are read; split it`; the others are scored",
        too_many,
    ),
    Case(
        "animation",
        "`animations, of which the first frame is read: 1, first a.webp`; also in summary.json",
        moving,
    ),
    Case(
        "DICOM without pixels",
        "`a DICOM file without pixels, such as a report; leave it out`",
        scan(values=None),
    ),
    Case(
        "DICOM frames cut short",
        "`damaged or cut short (`; the frames before are scored",
        frames,
    ),
    Case(
        "DICOM compressed as no decoder here knows",
        "`compressed as JPEG Lossless...no decoder is installed; pip install python-gdcm`",
        scan(compress),
    ),
    Case(
        "deflated DICOM",
        "`deflated DICOM files are not read; save it without deflation`",
        scan(syntax=DeflatedExplicitVRLittleEndian),
    ),
    Case(
        "DICOM window of no width",
        "`its window cannot be used (...); give --window CENTRE,WIDTH`",
        scan(WindowCenter=40, WindowWidth=0),
    ),
    Case(
        "DICOM that declares 60000×60000",
        "`60000x60000 is more than 178956970 pixels; reduce it`",
        scan(Rows=60000, Columns=60000),
    ),
    Case("text named .dcm", "`not an image, or of a kind unknown here`", no_dicom),
    Case(
        "DICOM without pydicom",
        "`files of kinds that are not read (DICOM): 1, first IM000001; pip install "
        "'bayes-pfl[medical]' to read DICOM`",
        without_pydicom(alone=False),
    ),
    Case(
        "nothing but DICOM without pydicom",
        "`no images; files that end in ...1, first IM000001; pip install 'bayes-pfl[medical]'`",
        without_pydicom(alone=True),
    ),
    Case(
        "--window of one number", "`--window '40': give CENTRE,WIDTH, as in 40,400`", window("40")
    ),
    Case(
        "--window of no width",
        "`window = (40.0, 0.0): give two numbers, centre and a width above 0`",
        window("40,0"),
    ),
)
