"""Exports, and runs that use one."""

from __future__ import annotations

import importlib
import importlib.util
import sys

import numpy as np
from PIL import Image

from tests.bad_input.case import Case, World, message_of, one_image
from tests.bad_input.profiles import fitted, sound

INTEGRATION = "bayes_pfl.integrations.anomalib"


def exported(world: World, *options: object) -> str:
    """Run ``bayes-pfl export`` where it is refused."""
    out = ("--out", world.folder / "export")
    return world.refused("export", world.checkpoint, *out, "--class-name", "nut", *options)


def no_extra(world: World) -> str:
    find = importlib.util.find_spec

    def found(name: str, *package: str | None) -> object:
        return None if name == "onnxscript" else find(name, *package)

    with world.patch() as patch:
        patch.setattr("importlib.util.find_spec", found)
        return exported(world)


def no_anomalib(world: World) -> str:
    with world.patch() as patch:
        patch.setitem(sys.modules, "anomalib", None)
        for name in [name for name in sys.modules if name.startswith(INTEGRATION)]:
            patch.delitem(sys.modules, name)
        return message_of(lambda: importlib.import_module(INTEGRATION))


def not_empty(world: World) -> str:
    kept = one_image(world.folder / "export") / "a.png"
    said = exported(world)
    assert kept.is_file()
    return said


def out_is_a_file(world: World) -> str:
    (world.folder / "export").write_text("mine")
    return exported(world)


def no_checkpoint(world: World) -> str:
    return world.refused("export", world.folder / "none", "--out", world.folder / "export")


def checkpoint_of_no_profile(world: World) -> str:
    return exported(world, "--checkpoint", world.checkpoint)


def of_profile(world: World, *options: object) -> str:
    place = world.folder / "part"
    said = world.refused("export", place, "--out", world.folder / "export", *options)
    assert not (world.folder / "export").exists()
    return said


def half_precision(world: World) -> str:
    fitted(world, sound(world), "--precision", "bfloat16")
    return of_profile(world)


def other_samples(world: World) -> str:
    fitted(world, sound(world))
    return of_profile(world, "--samples", 3)


def region(world: World) -> str:
    mask = np.zeros((48, 48), np.uint8)
    mask[8:40, 8:40] = 255
    photos = sound(world)
    (world.folder / "masks").mkdir()
    for photo in photos.iterdir():
        Image.fromarray(mask).save(world.folder / "masks" / f"{photo.stem}.png")
    fitted(world, photos, "--roi", world.folder / "masks")
    return of_profile(world)


def other_name(world: World) -> str:
    fitted(world, sound(world))
    return of_profile(world, "--class-name", "bolt")


def int8_without_pictures(world: World) -> str:
    return exported(world, "--precision", "int8")


def pictures_without_int8(world: World) -> str:
    return exported(world, "--calibrate", sound(world))


def int8_of_no_pictures(world: World) -> str:
    (world.folder / "empty").mkdir()
    return exported(world, "--precision", "int8", "--calibrate", world.folder / "empty")


def run(world: World, *options: object) -> str:
    return world.predict(one_image(world.folder / "in"), *options, code=2)


def folder_without_runtime(world: World) -> str:
    return run(world, "--export-folder", world.folder / "export")


def runtime_and_mutual(world: World) -> str:
    return run(world, "--runtime", "onnxruntime", "--mutual")


def no_export(world: World) -> str:
    place = one_image(world.folder / "other")
    return run(world, "--runtime", "onnxruntime", "--export-folder", place)


CASES = (
    Case("export without its extra", "`onnxscript is not installed; run: pip install`", no_extra),
    Case(
        "the module for anomalib without its extra",
        "`anomalib is not installed; run: pip install`",
        no_anomalib,
    ),
    Case(
        "export into a folder with other files",
        "`is not empty; choose another folder`; nothing is touched",
        not_empty,
    ),
    Case("--out is a file", "`cannot be written (it is a file)`", out_is_a_file),
    Case("no profile and no checkpoint of that name", "`none`", no_checkpoint),
    Case(
        "export of a checkpoint with --checkpoint",
        "`--checkpoint without a profile`",
        checkpoint_of_no_profile,
    ),
    Case(
        "export of a profile that was fitted in half precision",
        "`was made in bfloat16, an export computes in float32`",
        half_precision,
    ),
    Case(
        "export of a profile with other samples",
        "`the profile does not fit this run: samples = 3, but it was made with 0`",
        other_samples,
    ),
    Case(
        "export of a profile whose pictures each had a region of interest",
        "`an export takes one for all; fit it with --roi FILE`",
        region,
    ),
    Case("export of a profile with another name", "`leave the name out`", other_name),
    Case(
        "export in int8 without pictures to calibrate on",
        "`int8 needs normal pictures, whose ranges of values it learns: give --calibrate FOLDER`",
        int8_without_pictures,
    ),
    Case(
        "export in int8, calibrated on a folder without pictures",
        "`no images; files that end in`",
        int8_of_no_pictures,
    ),
    Case("--calibrate without int8", "`it is for int8; leave it out`", pictures_without_int8),
    Case("--export-folder without --runtime", "`give both, or neither`", folder_without_runtime),
    Case("--runtime with --mutual", "`leave one of them out`", runtime_and_mutual),
    Case(
        "--export-folder with a folder of other files",
        "`not the folder of an export`",
        no_export,
    ),
)
