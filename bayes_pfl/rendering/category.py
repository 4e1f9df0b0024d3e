"""What a category is, and the faults that a kind of material or thing can have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bayes_pfl.rendering import surroundings
from bayes_pfl.rendering.noise import Rng
from bayes_pfl.rendering.scene import Scene
from bayes_pfl.rendering.solids import Layout, Maker, lay

Builder = Callable[[Rng, int], Scene]


@dataclass(frozen=True)
class Category:
    """One kind of picture.

    name        key in ``CATEGORIES``, and folder name
    class_name  how a prompt calls it
    kind        "texture", "object" or "organic"
    defects     the kinds of fault it can have; one listed twice is drawn twice as often
    build       (rng, size) -> a clean :class:`Scene`
    """

    name: str
    class_name: str
    kind: str
    defects: tuple[str, ...]
    build: Builder


HARD = "scratch crack hole stain contamination chip discoloration thread"
METAL = "scratch dent hole stain contamination corrosion crack burn discoloration cut"
CLOTH = "hole cut stain thread contamination discoloration fold burn misaligned bent"
WOOD = "scratch crack hole stain contamination burn dent discoloration chip cut"
SOLID = "scratch crack dent chip contamination stain discoloration missing_part hole broken"
STEEL = f"{SOLID} corrosion bent"
FOOD = "crack broken chip hole burn contamination missing_part stain discoloration thread mould"
PRINTED = f"{SOLID} print_error print_error"


def surface(name: str, class_name: str, defects: str, build: Builder) -> Category:
    """A category of a surface; ``defects`` are names between blanks."""
    return Category(
        name, class_name, "texture", tuple(defects.split()), partial(surroundings.framed, build)
    )


def thing(name: str, class_name: str, defects: str, maker: Maker, *layout: float) -> Category:
    """A category of an object; ``defects`` are names between blanks, ``layout`` is for `Layout`."""
    build = partial(lay, maker=maker, layout=Layout(*layout), ground=surroundings.supported)
    return Category(name, class_name, "object", tuple(defects.split()), build)


def medical(name: str, class_name: str, defects: str, build: Builder) -> Category:
    """A category of a scan or a picture of the body; ``defects`` are names between blanks."""
    return Category(name, class_name, "organic", tuple(defects.split()), build)
