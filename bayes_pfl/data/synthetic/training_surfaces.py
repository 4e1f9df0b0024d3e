"""Surfaces and organic pictures, to train on."""

from __future__ import annotations

from bayes_pfl.data.synthetic import (
    electric,
    fibres,
    metals,
    minerals,
    mottles,
    organic,
    patterns,
    scans,
)
from bayes_pfl.data.synthetic.category import CLOTH, HARD, METAL, WOOD, medical, surface

MOTTLED = (
    surface("gravel", "gravel", "stain contamination discoloration thread burn", mottles.gravel),
    surface("camouflage", "camouflage cloth", CLOTH, mottles.camouflage),
    surface("enamel", "speckled enamel", f"{HARD} dent corrosion", mottles.enamel),
    surface(
        "rubber_floor", "rubber floor",
        "cut hole stain contamination discoloration burn scratch dent crack", mottles.rubber_floor,
    ),
    surface(
        "wallpaper", "wallpaper",
        "cut hole stain scratch fold discoloration missing_part misaligned print_error",
        mottles.wallpaper,
    ),
    surface("foil", "foil", "cut hole stain contamination burn discoloration", mottles.foil),
    surface(
        "scales", "shingles", "crack hole stain missing_part contamination discoloration chip cut",
        mottles.scales,
    ),
    surface("foam", "foam", "cut hole stain burn contamination discoloration", mottles.foam),
)  # fmt: skip
SURFACES = (
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
ORGANIC = (
    medical("brain_scan", "brain", "tumour tumour lesion bleeding", scans.brain_scan),
    medical("abdomen_ct", "abdomen scan", "tumour lesion bleeding", scans.abdomen_ct),
    medical("skin", "skin", "lesion lesion bleeding burn cut rash", organic.skin),
    medical("colon", "colon", "polyp polyp bleeding lesion", organic.colon),
    medical("tissue_slide", "tissue", "tumour lesion bleeding discoloration", organic.tissue_slide),
)
