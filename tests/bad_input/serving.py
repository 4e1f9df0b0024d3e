"""``bayes-pfl serve``: what it refuses before it listens, or ends with."""

from __future__ import annotations

import importlib.util
import socket

import numpy as np
from PIL import Image

from tests.bad_input.case import Case, World, one_image
from tests.bad_input.profiles import fitted, sound


def served(world: World, *options: object) -> str:
    """Run ``bayes-pfl serve`` where it is refused."""
    return world.refused("serve", world.checkpoint, "--port", 0, *options)


def no_extra(world: World) -> str:
    find = importlib.util.find_spec

    def found(name: str, *package: str | None) -> object:
        return None if name == "uvicorn" else find(name, *package)

    with world.patch() as patch:
        patch.setattr("importlib.util.find_spec", found)
        return served(world)


def nothing_there(world: World) -> str:
    return world.refused("serve", world.folder / "part", "--port", 0)


def a_folder_of_pictures(world: World) -> str:
    return world.refused("serve", one_image(world.folder / "in"), "--port", 0)


def taken(world: World) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return served(world, "--port", listener.getsockname()[1])


def elsewhere(world: World) -> str:
    return served(world, "--host", "192.0.2.1", "--token", "x" * 20)


def open_to_all(world: World) -> str:
    return served(world, "--host", "0.0.0.0")


def short_token(world: World) -> str:
    said = served(world, "--token", "secret")
    assert "secret" not in said
    return said


def device(world: World) -> str:
    return served(world, "--device", "cuda:7")


def of_profile(world: World, *options: object) -> str:
    fitted(world, sound(world))
    return world.refused("serve", world.folder / "part", "--port", 0, *options)


def other_samples(world: World) -> str:
    return of_profile(world, "--samples", 3)


def other_checkpoint(world: World) -> str:
    return of_profile(world, "--checkpoint", "bayes-pfl-tiny")


def checkpoint_of_no_profile(world: World) -> str:
    return served(world, "--checkpoint", world.checkpoint)


def a_region_for_each(world: World) -> str:
    normals, regions = sound(world), world.folder / "regions"
    regions.mkdir()
    for path in normals.iterdir():
        mask = np.zeros((48, 48), np.uint8)
        mask[8:40, 8:40] = 255
        Image.fromarray(mask).save(regions / path.name)
    fitted(world, normals, "--roi", regions)
    return world.refused("serve", world.folder / "part", "--port", 0)


def no_time(world: World) -> str:
    return served(world, "--max-seconds", 0)


CASES = (
    Case("serve without its extra", "`uvicorn is not installed; run: pip install`", no_extra),
    Case(
        "serve with a name that is nothing",
        "`no folder of bayes-pfl fit or export, and`",
        nothing_there,
    ),
    Case(
        "serve with a folder of pictures",
        "`no folder of bayes-pfl fit or export, and`",
        a_folder_of_pictures,
    ),
    Case("a port that is taken", "`is taken; give another --port`", taken),
    Case("--host of another machine", "`no address of this machine`", elsewhere),
    Case(
        "--host for others without a token", "`give a token that requests must bring`", open_to_all
    ),
    Case(
        "a token of six characters",
        "`token of 6 characters: give 16 at least`; it is not shown",
        short_token,
    ),
    Case("serve on a device that is not there", "`device = 'cuda:7': there is none here`", device),
    Case(
        "serve of a profile with other samples",
        "`--samples with a profile, which brings its own`",
        other_samples,
    ),
    Case(
        "serve of a profile with another checkpoint",
        "`the profile does not fit this run`",
        other_checkpoint,
    ),
    Case(
        "serve of a checkpoint with --checkpoint",
        "`--checkpoint without a profile`",
        checkpoint_of_no_profile,
    ),
    Case(
        "serve of a profile with a region of interest for each picture",
        "`one for each picture; a service knows no names`",
        a_region_for_each,
    ),
    Case("serve with no time for an answer", "`max_seconds = 0.0: give seconds above 0`", no_time),
)
