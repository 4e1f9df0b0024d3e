"""What can be rendered in batches: families by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bayes_pfl.data.synthetic.batched import drawn, fabrics, grids, minerals, organic, sections
from bayes_pfl.data.synthetic.batched import things as shapes
from bayes_pfl.data.synthetic.batched.fields import Place
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.scene import Look, Scene, lamp, surface_scene

Material = Callable[[Draws, Place], Look]


@dataclass(frozen=True)
class Family:
    """One kind of picture: see ``synthetic.Category``; ``build`` makes a batch of clean scenes."""

    name: str
    class_name: str
    kind: str
    defects: tuple[str, ...]
    build: Callable[[Draws, Place], Scene]


_HARD = "scratch crack hole stain contamination chip discoloration thread dent"
_CLOTH = "hole stain contamination thread burn discoloration misaligned bent scratch"
_SOLID = (
    "scratch crack chip hole dent stain contamination discoloration missing_part misaligned thread"
)
_WIRES = "bent misaligned hole stain contamination thread burn"
_BODY = "lesion tumour discoloration bent"


def _flat(material: Material, staged: bool, draws: Draws, at: Place) -> Scene:
    look = material(draws.under("material"), at)
    return surface_scene(draws, at, look, lamp(draws), staged)


def _surface(
    name: str, class_name: str, defects: str, material: Material, kind: str = "texture"
) -> Family:
    build = partial(_flat, material, kind != "organic")
    return Family(f"batched_{name}", class_name, kind, tuple(defects.split()), build)


def _thing(
    name: str, class_name: str, defects: str, shape: shapes.Shape, stuff: Material
) -> Family:
    build = partial(shapes.things, shape, stuff)
    return Family(f"batched_{name}", class_name, "object", tuple(defects.split()), build)


def _section(name: str, class_name: str, head: bool) -> Family:
    build = partial(sections.section, head=head)
    return Family(f"batched_{name}", class_name, "organic", tuple(_BODY.split()), build)


BATCHED: dict[str, Family] = {
    family.name: family
    for family in (
        _surface("stone", "stone", _HARD, minerals.stone),
        _surface("terrazzo", "terrazzo", _HARD, minerals.terrazzo),
        _surface("plaster", "plaster", f"{_HARD} burn", minerals.plaster),
        _surface("wood", "wood", f"{_HARD} burn", drawn.wood),
        _surface("metal", "metal", f"{_HARD} burn", drawn.metal),
        _surface("cloth", "cloth", _CLOTH, fabrics.cloth),
        _surface("ribs", "ribbed fabric", _CLOTH, fabrics.ribs),
        _surface("leather", "leather", f"{_CLOTH} dent", fabrics.leather),
        _surface("tiles", "tiles", f"{_HARD} misaligned", grids.tiles),
        _surface("mesh", "mesh", _WIRES, grids.mesh),
        _surface("print", "printed sheet", f"{_CLOTH} crack", grids.printed),
        _surface("tissue", "tissue", f"{_BODY} stain contamination", organic.tissue, "organic"),
        _surface("skin", "skin", f"{_BODY} scratch burn", organic.skin, "organic"),
        _section("head", "head scan", True),
        _section("trunk", "body scan", False),
        _thing("washer", "washer", f"{_SOLID} bent", shapes.washer, drawn.metal),
        _thing("gear", "gear", f"{_SOLID} bent", shapes.gear, drawn.metal),
        _thing("nut", "nut", _SOLID, shapes.nut, drawn.metal),
        _thing("disc", "disc", _SOLID, shapes.disc, drawn.plastic),
        _thing("block", "block", f"{_SOLID} bent", shapes.block, drawn.plastic),
        _thing("capsule", "capsule", _SOLID, shapes.capsule, drawn.plastic),
        _thing("pebble", "pebble", f"{_SOLID} burn", shapes.pebble, minerals.stone),
    )
}  # fmt: skip
"""Every family by name; none shares its name with one of ``CATEGORIES``."""
