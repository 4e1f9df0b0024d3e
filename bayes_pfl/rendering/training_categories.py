"""Categories to train on: those that the embedded model was trained on."""

from __future__ import annotations

from bayes_pfl.rendering import (
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
)
from bayes_pfl.rendering.category import (
    CLOTH,
    FOOD,
    HARD,
    METAL,
    PRINTED,
    SOLID,
    STEEL,
    WOOD,
    Category,
    medical,
    surface,
    thing,
)

_SURFACES = (
    surface("brushed_metal", "brushed metal", f"{METAL} print_error", metals.brushed_metal),
    surface("rolled_steel", "steel sheet", METAL, metals.rolled_steel),
    surface("casting", "metal casting", METAL, metals.casting),
    surface("turned_metal", "machined metal", METAL, metals.turned_metal),
    surface("painted_sheet", "painted panel", f"{METAL} chip print_error", metals.painted_sheet),
    surface(
        "rubber_mat",
        "rubber mat",
        "cut hole stain contamination discoloration bent crack thread missing_part",
        metals.rubber_mat,
    ),
    surface("concrete", "concrete", HARD, minerals.concrete),
    surface(
        "asphalt",
        "asphalt road",
        "crack crack hole stain contamination discoloration chip",
        minerals.asphalt,
    ),
    surface("marble", "marble", HARD, minerals.marble),
    surface("tiles", "tile", f"{HARD} missing_part misaligned", minerals.tiles),
    surface("bricks", "brick wall", f"{HARD} missing_part", minerals.bricks),
    surface(
        "frosted_glass",
        "glass",
        "scratch crack chip stain contamination hole dent",
        minerals.frosted_glass,
    ),
    surface("wood", "wood", WOOD, fibres.wood),
    surface(
        "leather",
        "leather",
        "cut fold hole stain scratch contamination burn discoloration",
        fibres.leather,
    ),
    surface("woven", "woven fabric", CLOTH, fibres.woven),
    surface("knit", "knitted fabric", CLOTH, fibres.knit),
    surface("carpet", "carpet", CLOTH, fibres.carpet),
    surface(
        "paper",
        "paper",
        "fold cut hole stain burn contamination print_error discoloration thread",
        fibres.paper,
    ),
    surface(
        "wire_mesh",
        "grid",
        "bent broken contamination thread missing_part corrosion stain",
        patterns.wire_mesh,
    ),
    surface(
        "solar_cell",
        "solar cell",
        "crack crack discoloration scratch stain hole chip contamination",
        electric.solar_cell,
    ),
    surface(
        "printed_board",
        "printed circuit board",
        "missing_part misaligned scratch contamination burn bent stain print_error corrosion",
        electric.printed_board,
    ),
    surface(
        "zipper",
        "zipper",
        "bent missing_part misaligned cut thread stain hole contamination",
        patterns.zipper,
    ),
)
_THINGS = (
    thing("hex_nut", "metal nut", STEEL, hardware.hex_nut, 0.35, 0.98, 0.2),
    thing("screw", "screw", STEEL, hardware.screw, 0.6, 1.0, 0.2),
    thing("gear", "gear", STEEL, hardware.gear, 0.5, 1.0, 0.1),
    thing("bottle_cap", "bottle cap", PRINTED, goods.bottle_cap, 0.4, 0.98, 0.25),
    thing("bearing", "ball bearing", STEEL, hardware.bearing, 0.5, 1.0, 0.1),
    thing("ic_package", "microchip", PRINTED, electric.ic_package, 0.5, 1.0, 0.15),
    thing(
        "cable_section", "cable", f"{SOLID} misaligned cut", electric.cable_section, 0.6, 1.0, 0.05
    ),
    thing("cookie", "cookie", FOOD, edibles.cookie, 0.45, 0.98, 0.15, 0.5),
    thing("bread", "bread slice", FOOD, edibles.bread, 0.6, 1.0, 0.05, 0.4),
    thing("tablet", "pill", PRINTED, pills.tablet, 0.35, 0.95, 0.3),
    thing("hazelnut", "hazelnut", FOOD, edibles.hazelnut, 0.4, 0.95, 0.2),
    thing("plate", "ceramic plate", SOLID, goods.plate, 0.6, 1.05, 0.05),
    thing(
        "fruit",
        "fruit",
        "dent hole stain cut mould discoloration crack contamination",
        edibles.fruit,
        0.5,
        0.98,
        0.2,
    ),
    thing(
        "leaf",
        "leaf",
        "hole discoloration chip mould lesion burn cut stain",
        edibles.leaf,
        0.7,
        1.05,
        0.1,
    ),
)
_ORGANIC = (
    medical("brain_scan", "brain", "tumour tumour lesion bleeding", scans.brain_scan),
    medical("abdomen_ct", "abdomen scan", "tumour lesion bleeding", scans.abdomen_ct),
    medical("skin", "skin", "lesion lesion bleeding burn cut rash", organic.skin),
    medical("colon", "colon", "polyp polyp bleeding lesion", organic.colon),
    medical("tissue_slide", "tissue", "tumour lesion bleeding discoloration", organic.tissue_slide),
)
TRAIN: tuple[Category, ...] = (*_SURFACES, *_THINGS, *_ORGANIC)
