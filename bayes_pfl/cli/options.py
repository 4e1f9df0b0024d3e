"""What the commands share: options, consoles, progress bars."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.log import PACKAGE

if TYPE_CHECKING:
    from bayes_pfl.config import BackboneConfig
    from bayes_pfl.model.network import BayesPFLNetwork
    from bayes_pfl.support.progress import Progress

console = Console()
errors = Console(stderr=True)

EMBEDDED_BACKBONE = "bayes-pfl-clip-tiny"
EMBEDDED_CHECKPOINT = "bayes-pfl-tiny"
_SHOWN = 20
"""Skipped files named on the terminal."""

Precision = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option(
        help="Precision of the model; the short ones are faster on devices made for them."
    ),
]

Checkpoint = Annotated[
    str,
    typer.Option(help="Embedded name, checkpoint or run folder, or hub repository org/name[@rev]."),
]
Checkpoints = Annotated[
    list[str] | None,
    typer.Option(
        help="Embedded name, checkpoint or run folder, or hub repository org/name; "
        f"repeatable.  [default: {EMBEDDED_CHECKPOINT}]"
    ),
]
Device = Annotated[
    str | None, typer.Option(help="Where it runs: cpu, cuda, mps; default: the best at hand.")
]
Samples = Annotated[
    int | None,
    typer.Option(min=0, help="Monte Carlo samples R per image; 0: the mean prompt, fastest."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images that are scored at once.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that decode images.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
BACKBONE_HELP = (
    "open_clip name, local-dir:FOLDER, hf-hub:org/name, a file in OpenAI's format, "
    f"or {EMBEDDED_BACKBONE}."
)
Backbone = Annotated[str, typer.Option(help=BACKBONE_HELP)]
Pretrained = Annotated[
    str | None, typer.Option(help="open_clip tag (such as openai) or a weights file.")
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Side of the input in pixels; default: the backbone's.")
]
Layers = Annotated[
    str | None, typer.Option(help="Tapped layers, 1-based, as in 6,12,18,24; default: four.")
]
JoinLayers = Annotated[
    bool,
    typer.Option(
        "--join-layers", help="Join the tapped layers to one: for small convolutional towers."
    ),
]
Grid = Annotated[
    int | None,
    typer.Option(
        min=1, help="Tokens along a side, for convolutional towers; default: by the size."
    ),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the image tower by torch.compile, for long runs.")
]
Window = Annotated[
    str | None,
    typer.Option(help="CENTRE,WIDTH of the grey values of DICOM files; default: as the file says."),
]
Tile = Annotated[
    str | None,
    typer.Option(
        help="Score large images in overlapping tiles too: their side in pixels, or auto; "
        "default: the profile's, or no tiles."
    ),
]
Overlap = Annotated[
    float | None,
    typer.Option(help="Overlap of neighbouring tiles, as a share of their side.  [default: 0.25]"),
]
Roi = Annotated[
    Path | None,
    typer.Option(
        help="Region of interest: a mask picture, a JSON file of polygons, or a folder with one of "
        "these for each picture; default: the profile's, or whole pictures."
    ),
]
Report = Annotated[bool, typer.Option(help="Write report.html, a page that shows the results.")]
Json = Annotated[
    Path | None, typer.Option("--json", help="Also write the result to this JSON file.")
]


def load_model(checkpoint: str, device: str | None, pretrained: str | None) -> BayesPFLNetwork:
    """The model of ``--checkpoint``, ``--device`` and ``--pretrained``."""
    from bayes_pfl.checkpoints.load import load_checkpoint

    return load_checkpoint(checkpoint, device=device, pretrained=pretrained)


def checked(checkpoints: list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """The checkpoints of a run, each once; raises BayesPFLError for one that cannot be read.

    All are looked at before any is used: the last one's faults must not show after hours.
    """
    from bayes_pfl.checkpoints.format import read_config
    from bayes_pfl.checkpoints.load import find_checkpoint

    names = tuple(dict.fromkeys(checkpoints or default))
    for name in names:
        read_config(find_checkpoint(name))
    return names


def window_of(text: str | None) -> tuple[float, float] | None:
    """The window of ``--window``; raises ConfigError for what is not two numbers."""
    if text is None:
        return None
    try:
        centre, width = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--window {text!r}: give CENTRE,WIDTH, as in 40,400") from error
    return centre, width


def tiles_of(tile: str | None, overlap: float | None) -> dict[str, Any]:
    """The settings of ``--tile`` and ``--overlap``; raises ConfigError for what is no tile."""
    if tile is None and overlap is not None:
        raise ConfigError(f"--overlap {overlap} without --tile: give both, or neither")
    try:
        side = tile if tile in (None, "auto") else int(tile)
    except ValueError as error:
        raise ConfigError(f"--tile {tile!r}: give auto, or a number of pixels") from error
    return {"tile": side} if overlap is None else {"tile": side, "overlap": overlap}


def names_in(text: str | None) -> tuple[str, ...]:
    """Parts of a text separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def bars() -> AbstractContextManager[Progress]:
    """Progress on the error stream: bars on a terminal, else a line every 30 seconds.

    There is none where the package logs warnings alone, as with ``--quiet``.
    """
    from bayes_pfl.support.progress import Bars, Lines, NullProgress

    if not logging.getLogger(PACKAGE).isEnabledFor(logging.INFO):
        return nullcontext(NullProgress())
    return Bars(errors) if errors.is_terminal else Lines(warn)


def whole_numbers(option: str, text: str, example: str) -> tuple[int, ...]:
    """The numbers of a list separated by commas, each once.

    Raises:
        ConfigError: there are none, or others than whole ones from 0.
    """
    try:
        chosen = tuple(dict.fromkeys(int(part) for part in names_in(text)))
    except ValueError:
        chosen = ()
    if not chosen or min(chosen) < 0:
        raise ConfigError(f"{option} {text!r}: give whole numbers from 0, as in {example}")
    return chosen


def say(text: object) -> None:
    """Print text unchanged: no markup, no colours, no wrapping.

    Bytes of names that are not UTF-8 become escapes.
    """
    printable = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    console.print(printable, markup=False, highlight=False, soft_wrap=True)


def warn(text: str, style: str | None = None) -> None:
    """As :func:`say`, on the error stream."""
    errors.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def finish(skipped: list[str], summary: str, last: str) -> None:
    """Name the first of what was skipped, and say the last line; exit code 1 if there is any.

    Args:
        summary: follows the number of all.
        last: names what to open.
    """
    for reason in skipped[:_SHOWN]:
        warn(f"skipped: {reason}")
    if skipped:
        say(f"{len(skipped)} {summary}")
    say(last)
    if skipped:
        raise typer.Exit(1)


def write_json(path: Path, data: Any) -> None:
    """Write the file of ``--json``."""
    from bayes_pfl.support.files import raising_not_written, write_atomically

    with raising_not_written(path, "choose another file", ConfigError):
        write_atomically(path, json.dumps(data, indent=2, default=str) + "\n")


def backbone_config(
    name: str, pretrained: str | None, image_size: int | None, layers: str | None
) -> BackboneConfig:
    """The backbone of --backbone, --pretrained, --image-size and --layers.

    Raises:
        ConfigError: layers that are not numbers, or weights for a name that brings its own.
    """
    from bayes_pfl.clip.weights import refuse_unused
    from bayes_pfl.config import BackboneConfig

    refuse_unused(name, pretrained)

    try:
        taps = tuple(int(part) for part in layers.split(",")) if layers else None
    except ValueError as error:
        raise ConfigError(f"--layers {layers!r}: give numbers, as in 6,12,18,24") from error
    return BackboneConfig(name, pretrained, image_size, taps)
