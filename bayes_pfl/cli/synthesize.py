"""``bayes-pfl synthesize``."""

from __future__ import annotations

import time
from typing import Annotated

from typer import Option

from bayes_pfl.cli import options as opt
from bayes_pfl.errors import ConfigError
from bayes_pfl.support.processes import usable_cores


def synthesize(
    out: opt.Out,
    categories: Annotated[
        str,
        Option(help="train, further, medical, validation, test or names, separated by commas."),
    ] = "train",
    normals: Annotated[int, Option(min=0, help="Normal test images per category.")] = 20,
    anomalies: Annotated[int, Option(min=0, help="Anomalous test images per category.")] = 20,
    train_normals: Annotated[int, Option(min=0, help="Normal training images per category.")] = 0,
    size: Annotated[int, Option(min=32, help="Side of the images in pixels.")] = 256,
    workers: Annotated[
        int | None, Option(min=0, help="Processes that render; default: one for each core.")
    ] = None,
    seed: opt.Seed = 0,
) -> None:
    """Render surfaces, objects and scans with defects and exact masks as an MVTec-style tree."""
    from bayes_pfl.rendering import write_mvtec_tree

    names = _rendered_categories(categories)
    started = time.perf_counter()
    each = normals + anomalies + train_normals
    with opt.bars() as progress:
        progress.start("pictures", len(names) * each)
        write_mvtec_tree(
            out,
            names,
            normals=normals,
            anomalies=anomalies,
            train_normals=train_normals,
            size=size,
            seed=seed,
            workers=usable_cores() if workers is None else workers,
            on_category=lambda: progress.advance(each, {}),
        )
    seconds, pictures = time.perf_counter() - started, len(names) * each
    rate = f"{pictures} pictures in {seconds:.1f} s, {pictures / seconds:.0f} a second"
    opt.say(f"{len(names)} categories written to {out}: {rate}")


def _rendered_categories(text: str) -> tuple[str, ...]:
    from bayes_pfl import rendering as synthetic

    words = ("train", "further", "medical", "validation", "test")
    splits = {word: getattr(synthetic, f"{word.upper()}_CATEGORIES") for word in words}
    parts = (name for part in opt.names_in(text) for name in splits.get(part, (part,)))
    names = tuple(dict.fromkeys(parts))
    if unknown := [name for name in names if name not in synthetic.CATEGORIES]:
        raise ConfigError(
            f"categories {', '.join(unknown)} cannot be rendered; give {', '.join(words)}, or some "
            f"of {', '.join(synthetic.CATEGORIES)}"
        )
    return names
