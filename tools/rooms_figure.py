"""Draw the rooms of bayes_pfl and the imports between them: python tools/rooms_figure.py.

Writes docs/images/rooms.svg: boxes in the layers of pyproject.toml ([tool.importlinter]), an arrow
for each import that no chain of other arrows implies, a table of all imports that exist, counted by
grimp, and what lives in each room, from CONTRIBUTING.md. The same tree gives the same bytes.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import grimp

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "bayes_pfl"
OUT = ROOT / "docs" / "images" / "rooms.svg"

WIDTH, MARGIN, TOP = 1000, 24, 92
BOX_WIDTH, BOX_HEIGHT, ROW, GAP = 152, 50, 80, 16
CENTRE = 300  # x of the middle of the boxes
TABLE, LABELS, CELL = 612, 84, 15.5  # left edge, width of the row names, side of a cell

COLOURS = ("#fdebd3", "#fbe9f0", "#e9e4f7", "#dfe9f7", "#def0ea", "#e8f2da", "#f3f1de", "#eeeeee")
INK, PALE, EDGE = "#2b2f36", "#5d6670", "#8d97a3"
LINE, BACKGROUND = "#7c8ea3", "#ffffff"


Imports = Counter[tuple[str, str]]
"""How many files of the first room import a file of the second."""


@dataclass(frozen=True)
class Room:
    """A folder or a module at the top of the package, and the upper left corner of its box."""

    name: str
    files: int
    lines: int
    layer: int
    x: float
    y: float

    @property
    def middle(self) -> float:
        """x of the centre."""
        return self.x + BOX_WIDTH / 2


def read_layers(path: Path) -> list[list[str]]:
    """Rooms from the highest layer to the lowest, as the import rules list them."""
    text = path.read_text(encoding="utf-8")
    listed = re.search(r"^layers = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    if listed is None:
        raise ValueError(f"{path}: no list of layers below [tool.importlinter]")
    return [line.split(" | ") for line in re.findall(r'"(.+)"', listed[1])]


def read_contents(path: Path) -> dict[str, str]:
    """What lives in each room, from the table in CONTRIBUTING.md."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: text.replace("`", "") for name, text in rows}


def size_of(name: str) -> tuple[int, int]:
    """Number of Python files of a room and their lines."""
    place = ROOT / PACKAGE / name
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return len(files), sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def place_rooms(layers: list[list[str]]) -> dict[str, Room]:
    """Boxes of equal size, each layer centred."""
    rooms: dict[str, Room] = {}
    for layer, names in enumerate(layers):
        start = CENTRE - (len(names) * (BOX_WIDTH + GAP) - GAP) / 2
        for column, name in enumerate(names):
            x, y = start + column * (BOX_WIDTH + GAP), TOP + layer * ROW
            rooms[name] = Room(name, *size_of(name), layer, x, y)
    return rooms


def count_imports(rooms: dict[str, Room]) -> Imports:
    """The imports between rooms; a file that imports two of a room counts once."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found: Imports = Counter()
    for module in graph.modules:
        targets = graph.find_modules_directly_imported_by(module)
        own = _room_of(module)
        for other in {_room_of(target) for target in targets} - {own}:
            if own in rooms and other in rooms:
                found[own, other] += 1
    return found


def _room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def not_implied(imports: Imports) -> list[tuple[str, str]]:
    """The imports that no chain of others implies (the transitive reduction), sorted."""
    below: dict[str, set[str]] = {}
    for start, end in imports:
        below.setdefault(start, set()).add(end)

    def reaches(start: str, end: str) -> bool:
        return any(one == end or reaches(one, end) for one in below.get(start, ()))

    return sorted(
        (start, end)
        for start, end in imports
        if not any(reaches(between, end) for between in below[start])
    )


def draw(rooms: dict[str, Room], imports: Imports, contents: dict[str, str]) -> str:
    """The whole picture as SVG."""
    height = TOP + ROW * (1 + max(room.layer for room in rooms.values())) - 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-labelledby="title" font-family="Helvetica, Arial, sans-serif">',
        '<title id="title">The rooms of bayes_pfl: each imports only rooms of lower layers</title>',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8"'
        f' markerHeight="8" orient="auto" markerUnits="userSpaceOnUse">'
        f'<path d="M0,0 L10,5 L0,10 z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="{BACKGROUND}"/>',
        _text(MARGIN, 36, "The rooms of bayes_pfl", 19, weight="600"),
        _text(MARGIN, 57, _summary(rooms), 13, colour=PALE),
    ]
    parts += [
        _arrow(rooms[start], rooms[end], rooms.values()) for start, end in not_implied(imports)
    ]
    parts += [_box(room) for room in rooms.values()]
    return "\n".join(
        [*parts, *_table(list(rooms), imports), *_contents(rooms, contents), "</svg>", ""]
    )


def _summary(rooms: dict[str, Room]) -> str:
    files, lines = (sum(getattr(room, x) for room in rooms.values()) for x in ("files", "lines"))
    return (
        f"{files} files, {lines:,} lines. An arrow goes from a room to one that it imports; those "
        "that other arrows imply are left out. All imports point down."
    )


def _arrow(start: Room, end: Room, rooms: Iterable[Room]) -> str:
    """A curve from the lower edge of one box to the upper edge of another.

    It runs around the boxes of the layers between, on the side of the box that is not central.
    """
    y1, y2 = start.y + BOX_HEIGHT, end.y - 1
    x1, x2 = _edge(start, end), _edge(end, start)
    begin, finish = f"M{x1:.0f},{y1:.0f} C{x1:.0f},{y1 + 26:.0f}", f"{x2:.0f},{y2:.0f}"
    between = [abs(r.middle - CENTRE) for r in rooms if start.layer < r.layer < end.layer]
    if not between:
        path = f"{begin} {x2:.0f},{y2 - 26:.0f} {finish}"
    else:
        outer = end if end.middle != CENTRE else start
        away = max(between) + BOX_WIDTH / 2 + 12 + 6 * (end.layer % 3)
        side = CENTRE - away if outer.middle < CENTRE else CENTRE + away
        bend = min(30.0, (y2 - y1) / 2)
        path = (
            f"{begin} {side:.0f},{y1:.0f} {side:.0f},{y1 + bend:.0f} "
            f"L{side:.0f},{y2 - bend:.0f} C{side:.0f},{y2:.0f} {x2:.0f},{y2 - 26:.0f} {finish}"
        )
    return (
        f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.3" marker-end="url(#tip)"/>'
    )


def _edge(room: Room, other: Room) -> float:
    """x where an arrow between two boxes meets ``room``: nearer to the other box."""
    shift = (other.middle - room.middle) / 4
    return room.middle + max(-0.3 * BOX_WIDTH, min(0.3 * BOX_WIDTH, shift))


def _box(room: Room) -> str:
    colour = COLOURS[room.layer % len(COLOURS)]
    small = f"{room.files} file{'s' * (room.files > 1)}, {room.lines:,} lines"
    return "\n".join(
        [
            f'<rect x="{room.x:.1f}" y="{room.y:.1f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}"'
            f' rx="8" fill="{colour}" stroke="{EDGE}"/>',
            _text(room.middle, room.y + 22, room.name, 15, weight="600", anchor="middle"),
            _text(room.middle, room.y + 39, small, 11.5, colour=PALE, anchor="middle"),
        ]
    )


def _table(names: list[str], imports: Imports) -> list[str]:
    """All imports: how many files of the row's room import the column's room."""
    left, top, middle = TABLE + LABELS, TOP + 112, CELL / 2
    most = max(imports.values())
    parts = [
        _text(TABLE, TOP + 8, "Files of a row that import a column", 13, weight="600"),
    ]
    for place, name in enumerate(names):
        x, y = left + place * CELL + middle + 4, top + place * CELL + middle + 4
        parts.append(_text(left - 6, y, name, 11.5, anchor="end"))
        parts.append(_text(0, 0, name, 11.5, turned=(x, top - 6)))
    for row, start in enumerate(names):
        for column, end in enumerate(names):
            x, y = left + column * CELL, top + row * CELL
            count = imports.get((start, end), 0)
            fill = "#e4e7eb" if row == column else LINE
            shade = 1.0 if row == column else (0.12 + 0.55 * count / most if count else 0.03)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{CELL - 1}" height="{CELL - 1}" rx="2"'
                f' fill="{fill}" fill-opacity="{shade:.2f}"/>'
            )
            if count:
                parts.append(_text(x + middle - 0.5, y + 11, str(count), 9, anchor="middle"))
    return parts


def _contents(rooms: dict[str, Room], contents: dict[str, str]) -> list[str]:
    """What lives in each room, one line each, in the order of the layers."""
    top = TOP + 150 + len(rooms) * CELL + 24
    parts = []
    for row, name in enumerate(rooms):
        y = top + 22 * row
        parts.append(_text(TABLE, y, name, 11.5, weight="600"))
        parts.append(_text(TABLE + LABELS, y, contents[name], 11.5, colour=PALE))
    return parts


def _text(
    x: float,
    y: float,
    words: str,
    size: float,
    *,
    weight: str = "400",
    colour: str = INK,
    anchor: str = "start",
    turned: tuple[float, float] | None = None,
) -> str:
    """One line of text; ``turned`` puts it there, upright."""
    place = f' transform="translate({turned[0]:.1f} {turned[1]:.1f}) rotate(-90)"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}"{place} font-size="{size}" font-weight="{weight}"'
        f' fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="SVG file to write")
    options = parser.parse_args()
    rooms = place_rooms(read_layers(ROOT / "pyproject.toml"))
    contents = read_contents(ROOT / "CONTRIBUTING.md")
    options.out.write_text(draw(rooms, count_imports(rooms), contents), encoding="utf-8")


if __name__ == "__main__":
    main()
