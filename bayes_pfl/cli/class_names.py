"""``bayes-pfl class-names``, and the options that name images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from bayes_pfl.cli import options as opt
from bayes_pfl.cli.tables import show

if TYPE_CHECKING:
    from bayes_pfl.data.wording import ClassNames
    from bayes_pfl.model.network import BayesPFLNetwork

ClassName = Annotated[
    str | None,
    Option(help="What the images show, such as 'metal nut'; synonyms as in 'screw|bolt'."),
]
ClassNameFrom = Annotated[
    str | None,
    Option(help="'folder': names of the subfolders. Or a CSV file with path and class_name."),
]


def class_names(
    folder: Annotated[Path, Argument(help="Folder of images; subfolders are read.")],
    class_name: Annotated[str, Option(help="Names to compare, as in 'screw|bolt|fastener'.")],
    images: Annotated[
        int, Option(min=1, help="Number of images, taken evenly from the folder.")
    ] = 20,
    checkpoint: opt.Checkpoint = opt.EMBEDDED_CHECKPOINT,
    pretrained: opt.Pretrained = None,
    samples: opt.Samples = None,
    device: opt.Device = None,
    seed: opt.Seed = 0,
    json_out: opt.Json = None,
) -> None:
    """How much scores depend on the class name: with synonyms and the word 'object'."""
    from bayes_pfl.data.image_files import find_images
    from bayes_pfl.detect.name_sensitivity import name_sensitivity
    from bayes_pfl.detect.settings import ScoringSettings
    from bayes_pfl.report.tables import markdown_table

    paths = find_images(folder)
    chosen = [paths[at * len(paths) // images] for at in range(images)] if paths else []
    chosen = list(dict.fromkeys(chosen))
    model = opt.load_model(checkpoint, device, pretrained)
    settings = ScoringSettings(samples=samples, seed=seed)
    effects = name_sensitivity(model, chosen, class_name, settings)
    opt.say(f"{len(chosen)} images; change and rank correlation are against {class_name!r}\n")
    rows = [[one.name, f"{one.mean:.3f}", f"{one.change:.3f}", _rank(one.rank)] for one in effects]
    show(markdown_table(["name", "mean", "change", "rank"], rows))
    for effect in effects:
        for text in effect.warnings:
            opt.say(f"note: {effect.name}: {text}")
    others = effects[1:]
    if others and all(effect.slight for effect in others):
        largest = max(effect.largest for effect in others)
        opt.say(
            "note: the class name changes nearly nothing for this model on these images: no score "
            f"differs by more than {largest:.3f}, their standard deviation is "
            f"{others[0].spread:.3f}"
        )
    if json_out:
        opt.write_json(json_out, [asdict(effect) for effect in effects])


def _rank(rank: float | None) -> str:
    return "–" if rank is None else f"{rank:.3f}"


def names_of(class_name: str | None, source: str | None) -> str | ClassNames | None:
    """The names that the two options ask for; None where neither is given."""
    from bayes_pfl.data.wording import ClassNames

    if source is not None:
        return ClassNames(None if source == "folder" else Path(source), class_name)
    return class_name


def warn_of_names(model: BayesPFLNetwork, names: str | ClassNames | None) -> None:
    """Warn of words that the text tower hardly knows, and of a name that was left out."""
    from bayes_pfl.detect.class_names import unusual_words
    from bayes_pfl.detect.name_sensitivity import NEUTRAL

    if names is None:
        opt.warn(
            f"note: no --class-name: {NEUTRAL!r} is used; bayes-pfl class-names measures whether a "
            "name matters",
            style="yellow",
        )
    for word in unusual_words(model, names) if isinstance(names, str) else []:
        opt.warn(
            f"note: {word!r} is unusual for the tokenizer; try a plain word for the thing, and "
            "compare names with bayes-pfl class-names",
            style="yellow",
        )
