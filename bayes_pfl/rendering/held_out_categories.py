"""Categories to validate and to test on: none of them is trained on."""

from __future__ import annotations

from bayes_pfl.rendering import (
    edibles,
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
    medical,
    surface,
    thing,
)

VALIDATION = (
    surface("rail_head", "rail", METAL, metals.rail_head),
    surface(
        "plastic_panel", "plastic panel", f"{HARD} dent print_error burn", metals.plastic_panel
    ),
    surface("plaster", "painted wall", HARD, minerals.plaster),
    surface("terrazzo", "terrazzo", HARD, minerals.terrazzo),
    surface("parquet", "parquet", f"{WOOD} missing_part", fibres.parquet),
    surface("corduroy", "corduroy", CLOTH, fibres.corduroy),
    surface("cork", "cork", "hole crack stain contamination cut burn", fibres.cork),
    surface(
        "label",
        "label",
        "print_error scratch stain fold contamination cut misaligned",
        patterns.label,
    ),
    thing("washer", "washer", STEEL, hardware.washer, 0.4, 0.98, 0.25),
    thing(
        "bottle_mouth",
        "bottle",
        "chip contamination crack broken missing_part",
        goods.bottle_mouth,
        0.6,
        1.0,
        0.05,
    ),
    thing("button", "button", SOLID, goods.button, 0.4, 0.95, 0.25),
    thing("cracker", "cracker", FOOD, edibles.cracker, 0.5, 0.98, 0.15, 0.4),
    thing("capsule", "capsule", PRINTED, pills.capsule, 0.5, 0.98, 0.3),
    thing("almond", "almond", FOOD, edibles.almond, 0.45, 0.98, 0.25),
    medical("retina", "retina", "lesion bleeding bleeding", organic.retina),
    medical("chest_xray", "chest x-ray", "tumour lesion bleeding", scans.chest_xray),
)
TEST = (
    surface("galvanised", "galvanised steel", METAL, metals.galvanised),
    surface("granite", "granite", HARD, minerals.granite),
    surface("mosaic", "mosaic", f"{HARD} missing_part", minerals.mosaic),
    surface("slate", "slate", HARD, minerals.slate),
    surface("chipboard", "chipboard", WOOD, fibres.chipboard),
    surface("felt", "felt", CLOTH, fibres.felt),
    surface(
        "perforated_plate",
        "perforated plate",
        f"{METAL} bent misaligned",
        patterns.perforated_plate,
    ),
    surface(
        "bristles",
        "toothbrush",
        "missing_part misaligned bent contamination stain thread",
        patterns.bristles,
    ),
    thing("bolt", "bolt", STEEL, hardware.bolt, 0.6, 1.0, 0.15),
    thing("coin", "coin", STEEL, hardware.coin, 0.4, 0.95, 0.2),
    thing(
        "paper_clip",
        "paper clip",
        "bent corrosion missing_part broken scratch contamination",
        hardware.paper_clip,
        0.5,
        0.95,
        0.2,
    ),
    thing(
        "lens", "lens", "scratch crack chip contamination stain broken", goods.lens, 0.5, 1.0, 0.1
    ),
    thing("macaroni", "macaroni", FOOD, edibles.macaroni, 0.5, 0.95, 0.3),
    thing("lozenge", "chewing gum", FOOD, pills.lozenge, 0.45, 0.95, 0.25),
    thing("chocolate", "chocolate bar", FOOD, edibles.chocolate, 0.6, 1.0, 0.1),
    thing("candle", "candle", FOOD, goods.candle, 0.45, 0.95, 0.3),
    medical("head_ct", "head ct", "bleeding bleeding tumour", scans.head_ct),
    medical("ultrasound", "ultrasound scan", "tumour lesion", scans.ultrasound),
    medical("bone_xray", "bone x-ray", "crack crack lesion hole", scans.bone_xray),
    medical("teeth", "teeth", "chip stain lesion crack hole discoloration", organic.teeth),
)
