"""Draw the method: python tools/method_figure.py docs/images/method.svg

Blue is frozen, orange is learnt, green is drawn at random, white is data.
"""

import argparse
from pathlib import Path
from xml.sax.saxutils import escape

COLOURS = {
    "frozen": ("#dbe7f5", "#35608f"),
    "learnt": ("#fde3c8", "#b0601a"),
    "drawn": ("#d9efdc", "#2e7d41"),
    "data": ("#ffffff", "#555555"),
}
SIZE = (1085, 600)
parts: list[str] = []


def text(x: float, y: float, words: str, size: int = 14, **style: str) -> None:
    attributes = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
    parts.append(f'<text x="{x}" y="{y}" font-size="{size}"{attributes}>{escape(words)}</text>')


def box(
    x: float, y: float, width: float, height: float, kind: str, *lines: str, cards: int = 1
) -> None:
    """A rounded box of lines, the first one bold; with ``cards`` a stack of them."""
    fill, edge = COLOURS[kind]
    for card in reversed(range(cards)):
        at = f'x="{x + 5 * card}" y="{y - 5 * card}" width="{width}" height="{height}"'
        parts.append(f'<rect {at} rx="7" fill="{fill}" stroke="{edge}" stroke-width="1.4"/>')
    top = y + height / 2 - 9 * (len(lines) - 1) + 5
    for index, line in enumerate(lines):
        weight = {"font_weight": "600"} if index == 0 else {}
        size = 14 if index == 0 else 12
        text(x + width / 2, top + 18 * index, line, size, text_anchor="middle", **weight)


def arrow(
    *points: tuple[float, float],
    label: str = "",
    at: tuple[float, float] = (0, 0),
    over: bool = False,
) -> None:
    """A line through points; with ``over`` it is drawn above those that it crosses."""
    path = " ".join(f"{x},{y}" for x, y in points)
    if over:
        parts.append(f'<polyline points="{path}" fill="none" stroke="#fafafa" stroke-width="7"/>')
    line = f'<polyline points="{path}" fill="none" stroke="#444" stroke-width="1.5"'
    parts.append(f'{line} marker-end="url(#tip)"/>')
    if label:
        text(*at, label, 12, fill="#222", font_style="italic")


def legend(x: float, y: float) -> None:
    words = {"frozen": "frozen CLIP", "learnt": "learnt", "drawn": "sampled", "data": "data"}
    for kind, word in words.items():
        fill, edge = COLOURS[kind]
        parts.append(
            f'<rect x="{x}" y="{y - 12}" width="18" height="14" rx="3" fill="{fill}"'
            f' stroke="{edge}"/>'
        )
        text(x + 25, y, word, 13)
        x += 45 + 8 * len(word)


def draw() -> str:
    # Top row: words.
    box(
        20,
        60,
        170,
        92,
        "learnt",
        "Prompt bank",
        "M = 3 pairs: contexts,",
        "normal and abnormal",
        "states",
    )
    box(250, 36, 190, 62, "learnt", "Image-agnostic flows", "shift the states")
    box(250, 128, 190, 62, "learnt", "Image-specific flow", "shifts the context")
    box(
        500,
        66,
        165,
        92,
        "drawn",
        "R · M prompt pairs",
        "context + abnormal + name",
        "context + normal + name",
        cards=3,
    )
    box(725, 76, 140, 72, "frozen", "Text tower")
    box(920, 76, 130, 72, "drawn", "Text embeddings", "normal, abnormal", cards=3)
    arrow((190, 82), (250, 67))
    arrow((190, 130), (250, 159))
    arrow((440, 67), (500, 100), label="R draws", at=(447, 58))
    arrow((440, 159), (500, 132), label="R draws", at=(447, 172))
    arrow((675, 112), (725, 112))
    arrow((865, 112), (920, 112))
    box(505, 12, 155, 30, "data", "class name")
    arrow((582, 42), (582, 56))
    # Bottom row: pictures.
    box(20, 366, 120, 72, "data", "Image", "S × S pixels")
    box(200, 330, 160, 144, "frozen", "Image tower", "four layers tapped")
    arrow((140, 402), (200, 402))
    arrow((345, 330), (345, 190))
    text(355, 262, "global embedding f", 12, fill="#222", font_style="italic")
    box(470, 366, 200, 72, "learnt", "Cross-modal attention", "texts look at patches (RCA)")
    arrow((360, 402), (470, 402), label="patch tokens", at=(374, 393))
    arrow((985, 148), (985, 222), (570, 222), (570, 262))
    text(760, 214, "every text embedding", 12, fill="#222", font_style="italic")
    box(730, 366, 150, 72, "drawn", "Maps", "one per pair and layer", cards=3)
    arrow((670, 402), (730, 402), label="cosines", at=(677, 393))
    box(935, 322, 125, 54, "data", "Anomaly map", "their mean")
    box(935, 428, 125, 54, "data", "Uncertainty map", "their spread")
    arrow((890, 392), (912, 392), (912, 349), (935, 349))
    arrow((890, 412), (912, 412), (912, 455), (935, 455))
    # The whole image.
    box(470, 262, 200, 62, "learnt", "Image alignment", "f and fused patch tokens")
    arrow((345, 293), (470, 293))
    box(730, 266, 150, 54, "drawn", "Text scores", "one per pair", cards=3)
    arrow((670, 293), (730, 293))
    arrow((700, 223), (700, 345), (620, 345), (620, 366), over=True)
    box(
        730,
        520,
        330,
        54,
        "data",
        "Score and interval",
        "½ text score + ½ mean of the highest map pixels",
    )
    arrow((800, 438), (800, 520))
    arrow((890, 293), (1070, 293), (1070, 547), (1060, 547))
    legend(20, 572)
    return "\n".join(parts)


def main(out: Path) -> None:
    width, height = SIZE
    out.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' aria-labelledby="title" font-family="Helvetica, Arial, sans-serif">\n'
        '<title id="title">Bayes-PFL: from an image and a class name to a map, its uncertainty'
        " and a score</title>\n"
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8"'
        ' markerHeight="8" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="#444"/></marker>'
        "</defs>\n"
        f'<rect width="{width}" height="{height}" fill="#fafafa"/>\n{draw()}\n</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="SVG file to write")
    main(parser.parse_args().out)
