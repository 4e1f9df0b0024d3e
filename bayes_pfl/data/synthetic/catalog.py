"""What can be rendered: categories by name, their faults, and three disjoint groups of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bayes_pfl.data.synthetic import (
    edibles,
    electric,
    fibres,
    goods,
    hardware,
    metals,
    minerals,
    organic,
    patterns,
    pills,
    scans,
    surroundings,
)
from bayes_pfl.data.synthetic.noise import Rng
from bayes_pfl.data.synthetic.scene import Scene
from bayes_pfl.data.synthetic.solids import Layout, Maker, lay

Builder = Callable[[Rng, int], Scene]


@dataclass(frozen=True)
class Category:
    """One kind of picture.

    name        key in :data:`CATEGORIES`, and folder name
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


_HARD = "scratch crack hole stain contamination chip discoloration thread"
_METAL = "scratch dent hole stain contamination corrosion crack burn discoloration cut"
_CLOTH = "hole cut stain thread contamination discoloration fold burn misaligned bent"
_WOOD = "scratch crack hole stain contamination burn dent discoloration chip cut"
_SOLID = "scratch crack dent chip contamination stain discoloration missing_part hole broken"
_STEEL = f"{_SOLID} corrosion bent"
_FOOD = "crack broken chip hole burn contamination missing_part stain discoloration thread mould"
_PRINTED = f"{_SOLID} print_error print_error"


def _surface(name: str, class_name: str, defects: str, build: Builder) -> Category:
    return Category(
        name, class_name, "texture", tuple(defects.split()), partial(surroundings.framed, build)
    )


def _thing(name: str, class_name: str, defects: str, maker: Maker, *layout: float) -> Category:
    build = partial(lay, maker=maker, layout=Layout(*layout), ground=surroundings.supported)
    return Category(name, class_name, "object", tuple(defects.split()), build)


def _medical(name: str, class_name: str, defects: str, build: Builder) -> Category:
    return Category(name, class_name, "organic", tuple(defects.split()), build)


_TRAIN = (
    _surface("brushed_metal", "brushed metal", f"{_METAL} print_error", metals.brushed_metal),
    _surface("rolled_steel", "steel sheet", _METAL, metals.rolled_steel),
    _surface("casting", "metal casting", _METAL, metals.casting),
    _surface("turned_metal", "machined metal", _METAL, metals.turned_metal),
    _surface("painted_sheet", "painted panel", f"{_METAL} chip print_error", metals.painted_sheet),
    _surface(
        "rubber_mat",
        "rubber mat",
        "cut hole stain contamination discoloration bent crack thread missing_part",
        metals.rubber_mat,
    ),
    _surface("concrete", "concrete", _HARD, minerals.concrete),
    _surface(
        "asphalt",
        "asphalt road",
        "crack crack hole stain contamination discoloration chip",
        minerals.asphalt,
    ),
    _surface("marble", "marble", _HARD, minerals.marble),
    _surface("tiles", "tile", f"{_HARD} missing_part misaligned", minerals.tiles),
    _surface("bricks", "brick wall", f"{_HARD} missing_part", minerals.bricks),
    _surface(
        "frosted_glass",
        "glass",
        "scratch crack chip stain contamination hole dent",
        minerals.frosted_glass,
    ),
    _surface("wood", "wood", _WOOD, fibres.wood),
    _surface(
        "leather",
        "leather",
        "cut fold hole stain scratch contamination burn discoloration",
        fibres.leather,
    ),
    _surface("woven", "woven fabric", _CLOTH, fibres.woven),
    _surface("knit", "knitted fabric", _CLOTH, fibres.knit),
    _surface("carpet", "carpet", _CLOTH, fibres.carpet),
    _surface(
        "paper",
        "paper",
        "fold cut hole stain burn contamination print_error discoloration thread",
        fibres.paper,
    ),
    _surface(
        "wire_mesh",
        "grid",
        "bent broken contamination thread missing_part corrosion stain",
        patterns.wire_mesh,
    ),
    _surface(
        "solar_cell",
        "solar cell",
        "crack crack discoloration scratch stain hole chip contamination",
        electric.solar_cell,
    ),
    _surface(
        "printed_board",
        "printed circuit board",
        "missing_part misaligned scratch contamination burn bent stain print_error corrosion",
        electric.printed_board,
    ),
    _surface(
        "zipper",
        "zipper",
        "bent missing_part misaligned cut thread stain hole contamination",
        patterns.zipper,
    ),
    _thing("hex_nut", "metal nut", _STEEL, hardware.hex_nut, 0.35, 0.98, 0.2),
    _thing("screw", "screw", _STEEL, hardware.screw, 0.6, 1.0, 0.2),
    _thing("gear", "gear", _STEEL, hardware.gear, 0.5, 1.0, 0.1),
    _thing("bottle_cap", "bottle cap", _PRINTED, goods.bottle_cap, 0.4, 0.98, 0.25),
    _thing("bearing", "ball bearing", _STEEL, hardware.bearing, 0.5, 1.0, 0.1),
    _thing("ic_package", "microchip", _PRINTED, electric.ic_package, 0.5, 1.0, 0.15),
    _thing(
        "cable_section", "cable", f"{_SOLID} misaligned cut", electric.cable_section, 0.6, 1.0, 0.05
    ),
    _thing("cookie", "cookie", _FOOD, edibles.cookie, 0.45, 0.98, 0.15, 0.5),
    _thing("bread", "bread slice", _FOOD, edibles.bread, 0.6, 1.0, 0.05, 0.4),
    _thing("tablet", "pill", _PRINTED, pills.tablet, 0.35, 0.95, 0.3),
    _thing("hazelnut", "hazelnut", _FOOD, edibles.hazelnut, 0.4, 0.95, 0.2),
    _thing("plate", "ceramic plate", _SOLID, goods.plate, 0.6, 1.05, 0.05),
    _thing(
        "fruit",
        "fruit",
        "dent hole stain cut mould discoloration crack contamination",
        edibles.fruit,
        0.5,
        0.98,
        0.2,
    ),
    _thing(
        "leaf",
        "leaf",
        "hole discoloration chip mould lesion burn cut stain",
        edibles.leaf,
        0.7,
        1.05,
        0.1,
    ),
    _medical("brain_scan", "brain", "tumour tumour lesion bleeding", scans.brain_scan),
    _medical("abdomen_ct", "abdomen scan", "tumour lesion bleeding", scans.abdomen_ct),
    _medical("skin", "skin", "lesion lesion bleeding burn cut rash", organic.skin),
    _medical("colon", "colon", "polyp polyp bleeding lesion", organic.colon),
    _medical(
        "tissue_slide", "tissue", "tumour lesion bleeding discoloration", organic.tissue_slide
    ),
)
_VALIDATION = (
    _surface("rail_head", "rail", _METAL, metals.rail_head),
    _surface(
        "plastic_panel", "plastic panel", f"{_HARD} dent print_error burn", metals.plastic_panel
    ),
    _surface("plaster", "painted wall", _HARD, minerals.plaster),
    _surface("terrazzo", "terrazzo", _HARD, minerals.terrazzo),
    _surface("parquet", "parquet", f"{_WOOD} missing_part", fibres.parquet),
    _surface("corduroy", "corduroy", _CLOTH, fibres.corduroy),
    _surface("cork", "cork", "hole crack stain contamination cut burn", fibres.cork),
    _surface(
        "label",
        "label",
        "print_error scratch stain fold contamination cut misaligned",
        patterns.label,
    ),
    _thing("washer", "washer", _STEEL, hardware.washer, 0.4, 0.98, 0.25),
    _thing(
        "bottle_mouth",
        "bottle",
        "chip contamination crack broken missing_part",
        goods.bottle_mouth,
        0.6,
        1.0,
        0.05,
    ),
    _thing("button", "button", _SOLID, goods.button, 0.4, 0.95, 0.25),
    _thing("cracker", "cracker", _FOOD, edibles.cracker, 0.5, 0.98, 0.15, 0.4),
    _thing("capsule", "capsule", _PRINTED, pills.capsule, 0.5, 0.98, 0.3),
    _thing("almond", "almond", _FOOD, edibles.almond, 0.45, 0.98, 0.25),
    _medical("retina", "retina", "lesion bleeding bleeding", organic.retina),
    _medical("chest_xray", "chest x-ray", "tumour lesion bleeding", scans.chest_xray),
)
_TEST = (
    _surface("galvanised", "galvanised steel", _METAL, metals.galvanised),
    _surface("granite", "granite", _HARD, minerals.granite),
    _surface("mosaic", "mosaic", f"{_HARD} missing_part", minerals.mosaic),
    _surface("slate", "slate", _HARD, minerals.slate),
    _surface("chipboard", "chipboard", _WOOD, fibres.chipboard),
    _surface("felt", "felt", _CLOTH, fibres.felt),
    _surface(
        "perforated_plate",
        "perforated plate",
        f"{_METAL} bent misaligned",
        patterns.perforated_plate,
    ),
    _surface(
        "bristles",
        "toothbrush",
        "missing_part misaligned bent contamination stain thread",
        patterns.bristles,
    ),
    _thing("bolt", "bolt", _STEEL, hardware.bolt, 0.6, 1.0, 0.15),
    _thing("coin", "coin", _STEEL, hardware.coin, 0.4, 0.95, 0.2),
    _thing(
        "paper_clip",
        "paper clip",
        "bent corrosion missing_part broken scratch contamination",
        hardware.paper_clip,
        0.5,
        0.95,
        0.2,
    ),
    _thing(
        "lens", "lens", "scratch crack chip contamination stain broken", goods.lens, 0.5, 1.0, 0.1
    ),
    _thing("macaroni", "macaroni", _FOOD, edibles.macaroni, 0.5, 0.95, 0.3),
    _thing("lozenge", "chewing gum", _FOOD, pills.lozenge, 0.45, 0.95, 0.25),
    _thing("chocolate", "chocolate bar", _FOOD, edibles.chocolate, 0.6, 1.0, 0.1),
    _thing("candle", "candle", _FOOD, goods.candle, 0.45, 0.95, 0.3),
    _medical("head_ct", "head ct", "bleeding bleeding tumour", scans.head_ct),
    _medical("ultrasound", "ultrasound scan", "tumour lesion", scans.ultrasound),
    _medical("bone_xray", "bone x-ray", "crack crack lesion hole", scans.bone_xray),
    _medical("teeth", "teeth", "chip stain lesion crack hole discoloration", organic.teeth),
)

CATEGORIES: dict[str, Category] = {c.name: c for c in (*_TRAIN, *_VALIDATION, *_TEST)}
TRAIN_CATEGORIES: tuple[str, ...] = tuple(c.name for c in _TRAIN)
VALIDATION_CATEGORIES: tuple[str, ...] = tuple(c.name for c in _VALIDATION)
TEST_CATEGORIES: tuple[str, ...] = tuple(c.name for c in _TEST)
