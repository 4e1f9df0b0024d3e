"""``bayes-pfl synthesize``."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from bayes_pfl.commands.options import Out, Seed, console, names_in
from bayes_pfl.errors import ConfigError


def synthesize(
    out: Out,
    categories: Annotated[
        str,
        typer.Option(
            help="train, further, medical, validation, test, batched or names, separated by commas."
        ),
    ] = "train",
    normals: Annotated[int, typer.Option(min=0, help="Normal test images per category.")] = 20,
    anomalies: Annotated[int, typer.Option(min=0, help="Anomalous ones per category.")] = 20,
    train_normals: Annotated[int, typer.Option(min=0, help="Normal ones in train/.")] = 0,
    size: Annotated[int, typer.Option(min=32, help="Side in pixels.")] = 256,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that render; default: one for each core.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Draws batched categories: cpu, cuda, or auto, which is cuda where there is one; "
            "default: auto. The others are drawn on the processor."
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Render surfaces, objects and scans with defects and exact masks as an MVTec-style tree."""
    from bayes_pfl.data.synthetic import write_mvtec_tree
    from bayes_pfl.data.synthetic.batched import BATCHED, find_device, write_batched_tree

    names = _rendered_categories(categories)
    single, batched = ([n for n in names if (n in BATCHED) is kind] for kind in (False, True))
    if device is not None and not batched:
        raise ConfigError(
            f"--device {device} draws batched categories alone, and none is asked for: "
            "leave it out, or add batched to --categories"
        )
    find_device(device or "auto")  # an unknown one should be told before any work
    numbers = {"normals": normals, "anomalies": anomalies, "train_normals": train_normals}
    pixels = {"size": size, "seed": seed}
    started = time.perf_counter()
    processes = (os.cpu_count() or 1) if workers is None else workers
    if single:
        write_mvtec_tree(out, single, **numbers, **pixels, workers=processes)
    if batched:
        write_batched_tree(out, batched, **numbers, **pixels, device=device or "auto")
    seconds = time.perf_counter() - started
    pictures = len(names) * (normals + anomalies + train_normals)
    rate = f"{pictures} pictures in {seconds:.1f} s, {pictures / seconds:.0f} a second"
    console.print(f"{len(names)} categories written to {out}: {rate}", soft_wrap=True)


def _rendered_categories(text: str) -> tuple[str, ...]:
    from bayes_pfl.data import synthetic
    from bayes_pfl.data.synthetic.batched import BATCHED

    splits = {
        "train": synthetic.TRAIN_CATEGORIES,
        "further": synthetic.FURTHER_CATEGORIES,
        "medical": synthetic.MEDICAL_CATEGORIES,
        "validation": synthetic.VALIDATION_CATEGORIES,
        "test": synthetic.TEST_CATEGORIES,
        "batched": tuple(BATCHED),
    }
    parts = (name for part in names_in(text) for name in splits.get(part, (part,)))
    names = tuple(dict.fromkeys(parts))
    known = (*synthetic.CATEGORIES, *BATCHED)
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"categories {', '.join(unknown)} cannot be rendered; give train, further, medical, "
            f"validation, test, batched, or some of {', '.join(known)}"
        )
    return names
