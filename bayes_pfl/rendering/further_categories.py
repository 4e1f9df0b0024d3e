"""Further categories to train on: things that stand out though normal, varied surfaces."""

from __future__ import annotations

from bayes_pfl.rendering import cuttings, everyday, fibres, metals, minerals, mottles, rugged
from bayes_pfl.rendering.category import (
    CLOTH,
    FOOD,
    HARD,
    PRINTED,
    SOLID,
    STEEL,
    WOOD,
    Category,
    surface,
    thing,
)
from bayes_pfl.rendering.cuttings import Cutting

_CUT = (
    thing(
        "wooden_block", "wooden block", f"{WOOD} broken missing_part",
        Cutting(
            (fibres.wood,),
            (cuttings.block, cuttings.bracket, cuttings.facet, cuttings.star),
            bored=0.4, lettered=0.2,
        ), 0.4, 0.98, 0.2,
    ),
    thing(
        "stone", "stone", f"{HARD} broken dent",
        Cutting(
            (minerals.marble, minerals.concrete, minerals.asphalt),
            (cuttings.pebble, cuttings.shard), (0.2, 0.9), 0.12,
        ), 0.35, 0.98, 0.25,
    ),
    thing(
        "metal_part", "metal part", STEEL,
        Cutting(
            (metals.brushed_metal, metals.rolled_steel, metals.casting, metals.turned_metal),
            (cuttings.bracket, cuttings.block, cuttings.facet, cuttings.star, cuttings.bar),
            (0.02, 0.15), bored=0.6, lettered=0.15,
        ), 0.45, 1.0, 0.2,
    ),
    thing(
        "plastic_part", "plastic part", PRINTED,
        Cutting(
            (metals.painted_sheet,),
            (cuttings.bracket, cuttings.block, cuttings.star, cuttings.bar, cuttings.round_),
            (0.03, 0.4), bored=0.4, lettered=0.4,
        ), 0.35, 0.98, 0.25,
    ),
    thing(
        "rubber_part", "rubber part",
        "cut hole stain contamination discoloration crack chip broken",
        Cutting(
            (metals.rubber_mat,),
            (cuttings.block, cuttings.round_, cuttings.star, cuttings.bracket), bored=0.6,
        ), 0.4, 0.98, 0.2,
    ),
    thing(
        "leather_patch", "leather patch",
        "cut fold hole stain scratch contamination burn discoloration missing_part",
        Cutting(
            (fibres.leather,), (cuttings.block, cuttings.shard, cuttings.pebble), (0.02, 0.1), 0.03,
            bored=0.2, lettered=0.2,
        ), 0.5, 1.0, 0.1,
    ),
    thing(
        "cloth_swatch", "cloth swatch", f"{CLOTH} missing_part",
        Cutting(
            (fibres.woven, fibres.knit, fibres.carpet), (cuttings.block, cuttings.shard),
            (0.02, 0.1), 0.03,
        ), 0.5, 1.0, 0.1,
    ),
    thing(
        "glass_piece", "piece of glass", "scratch crack chip stain contamination hole broken",
        Cutting(
            (minerals.frosted_glass,), (cuttings.facet, cuttings.shard, cuttings.round_),
            (0.03, 0.2),
        ), 0.45, 1.0, 0.15,
    ),
    thing(
        "paper_tag", "paper tag",
        "fold cut hole stain burn contamination print_error print_error discoloration missing_part",
        Cutting(
            (fibres.paper,), (cuttings.block, cuttings.round_, cuttings.star), (0.01, 0.04), 0.02,
            bored=0.3, lettered=0.8,
        ), 0.45, 1.0, 0.15,
    ),
    thing(
        "tile_piece", "piece of tile", f"{HARD} broken",
        Cutting((minerals.tiles, minerals.bricks), (cuttings.shard, cuttings.block), (0.02, 0.1)),
        0.5, 1.0, 0.1,
    ),
)  # fmt: skip
_EVERYDAY = (
    thing("battery", "battery", f"{PRINTED} corrosion", everyday.battery, 0.45, 0.98, 0.25),
    thing("marker_pen", "marker pen", PRINTED, everyday.marker_pen, 0.5, 1.0, 0.2),
    thing("domino", "domino", SOLID, everyday.domino, 0.4, 0.95, 0.25),
    thing("power_socket", "power socket", SOLID, everyday.power_socket, 0.5, 1.0, 0.1),
    thing("key", "key", STEEL, everyday.key, 0.5, 1.0, 0.15),
    thing("badge", "badge", PRINTED, everyday.badge, 0.4, 0.95, 0.2),
    thing(
        "sponge", "sponge", "cut stain burn contamination discoloration missing_part mould broken",
        rugged.sponge, 0.45, 0.98, 0.15,
    ),
    thing("cheese", "cheese", FOOD, rugged.cheese, 0.45, 0.98, 0.15),
    thing("nut_bar", "cereal bar", FOOD, rugged.nut_bar, 0.45, 0.98, 0.2),
    thing("seashell", "seashell", SOLID, rugged.seashell, 0.4, 0.95, 0.2),
    thing(
        "pumice", "pumice stone", "crack hole stain contamination discoloration broken cut",
        rugged.pumice, 0.4, 0.98, 0.25,
    ),
    thing("keypad", "keypad", f"{SOLID} bent", everyday.keypad, 0.5, 1.0, 0.1),
    thing(
        "spool", "spool of thread", "cut stain thread contamination discoloration broken chip burn",
        everyday.spool, 0.4, 0.95, 0.2,
    ),
    thing("knob", "knob", SOLID, everyday.knob, 0.4, 0.95, 0.2),
)  # fmt: skip
_MOTTLED = (
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
FURTHER: tuple[Category, ...] = (*_CUT, *_EVERYDAY, *_MOTTLED)
