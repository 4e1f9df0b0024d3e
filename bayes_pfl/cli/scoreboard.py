"""``bayes-pfl scoreboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bayes_pfl.cli import options as opt
from bayes_pfl.cli import profiles
from bayes_pfl.cli.tables import show


def scoreboard(
    sets: Annotated[
        list[str],
        Argument(
            help="MVTec-style trees of one category or several, meta.json files, names of cards."
        ),
    ],
    out: opt.Out,
    data: Annotated[Path | None, Option(help="Folder that holds the data of cards.")] = None,
    checkpoint: Annotated[
        list[str] | None,
        Option(
            help="Embedded name, checkpoint or run folder, or hub repository org/name; "
            f"repeatable. Default: {opt.EMBEDDED_CHECKPOINT}, if there is no --backbone."
        ),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        Option(
            help="A row for prompts by hand on a CLIP alone, without a checkpoint: a name as in "
            "train; repeatable."
        ),
    ] = None,
    pretrained: opt.Pretrained = None,
    image_size: opt.ImageSize = None,
    samples: Annotated[
        list[int] | None,
        Option(
            min=0,
            help="Monte Carlo samples R, 0 for the mean prompt; repeatable, a row for each. "
            "Default: the checkpoint's.",
        ),
    ] = None,
    shots: Annotated[
        str | None,
        Option(help="A row for each number of normal pictures to compare with, as in 1,4."),
    ] = None,
    profile: Annotated[
        Path | None,
        Option(
            help="Folder of bayes-pfl fit: adds a row with its pictures to compare with, for "
            "categories of its class name."
        ),
    ] = None,
    baselines: Annotated[
        bool, Option(help="Also rows for local contrast and for prompts by hand.")
    ] = True,
    resamples: Annotated[int, Option(min=0, help="Bootstrap resamples; 0: no intervals.")] = 1000,
    bootstrap_seed: Annotated[int, Option(min=0, help="Seed of the resamples.")] = 0,
    batch_size: opt.BatchSize = 8,
    precision: opt.Precision = "float32",
    workers: opt.Workers = 0,
    device: opt.Device = None,
    seed: opt.Seed = 0,
) -> None:
    """Checkpoints compared with baselines without training, with 95% intervals: scoreboard.md.

    Exit code 1: images were skipped. --image-size is that of every --backbone; a checkpoint has its
    own.
    """
    from bayes_pfl.errors import ConfigError
    from bayes_pfl.evaluate.datasets import read_sets
    from bayes_pfl.evaluate.files import prepare_folder
    from bayes_pfl.scoreboard.board import BoardSettings, bare_model
    from bayes_pfl.scoreboard.resampling import BootstrapSettings
    from bayes_pfl.scoreboard.run import run_scoreboard

    backbones = tuple(dict.fromkeys(backbone or []))
    if image_size and not backbones:
        raise ConfigError("--image-size belongs to a --backbone: name one, or use bayes-pfl resize")
    known, default = profiles.opened(profile, None)
    if backbones and not checkpoint and (shots or known):
        raise ConfigError("--shots and --profile are rows of a --checkpoint: name one")
    checkpoints = opt.checked(checkpoint, () if backbones else (default,))
    found = read_sets(sets, data)
    prepare_folder(out)
    settings = BoardSettings(
        samples=tuple(dict.fromkeys(samples)) if samples else (None,),
        baselines=baselines,
        batch_size=batch_size,
        precision=precision,
        workers=workers,
        seed=seed,
        shots=opt.whole_numbers("--shots", shots, "1,4") if shots is not None else (),
        bootstrap=BootstrapSettings(resamples=resamples, seed=bootstrap_seed),
    )
    with opt.bars() as progress:
        skipped, table = run_scoreboard(
            checkpoints,
            found,
            out,
            settings,
            progress,
            load=lambda name: opt.load_model(name, device, pretrained),
            backbones=backbones,
            load_bare=lambda name: bare_model(name, pretrained, device, image_size),
            profile=known,
        )
    show(table)
    reasons = [reason for _, _, reason in skipped]
    told = "skipped: listed under 'skipped' in scoreboard.json"
    opt.finish(reasons, told, f"open {out / 'scoreboard.md'}")
