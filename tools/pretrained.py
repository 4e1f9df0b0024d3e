"""Make the embedded CLIP and head from nothing: python tools/pretrained.py --out FOLDER.

Makes the small CLIP, the rendered data, the head at its final size and its scoreboard, with the
commands of the model cards; with --seeds 0 1 2 more heads, to see how they vary. A finished step is
not repeated. A stopped run resumes: in the CLIP after its pictures, in the tuning of its image
tower at most two minutes before the stop, in a training after its last epoch. Needs two cores and
about 20 GB of disk for cached features; no GPU, no network.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "checkpoints" / "bayes-pfl-tiny" / "train.json"


@dataclass(frozen=True)
class Step:
    """A command, and a file that exists when it is finished."""

    command: tuple[str, ...]
    done: Path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for all results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one head for each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, to train on")
    parser.add_argument("--clip-recipe", type=Path, help="PretrainConfig as JSON")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="heads' TrainConfig as JSON")
    parser.add_argument(
        "--no-cache", action="store_true", help="encode fresh views in every epoch: for a GPU"
    )
    parser.add_argument(
        "--image-size", type=int, default=320, help="side that the heads are used at, in pixels"
    )
    parser.add_argument("--grid", type=int, default=32, help="tokens along a side at that size")
    parser.add_argument("--normals", type=int, default=90, help="normal pictures of a category")
    parser.add_argument("--anomalies", type=int, default=115, help="anomalous ones")
    options = parser.parse_args(arguments)
    for step in steps(options):
        if step.done.exists():
            continue
        print("$", shlex.join(step.command), flush=True)
        code = subprocess.run(step.command, check=False).returncode
        if code:
            return code
        step.done.touch()
    return 0


def steps(options: argparse.Namespace) -> list[Step]:
    """The commands in their order."""
    out: Path = options.out
    clip, tool = out / "clip", (sys.executable, "-m", "bayes_pfl.cli.main")
    found = [Step(_pretraining(options, clip), clip / "README.md")]
    trees = (
        ("aux", "train,further,medical", options.normals, options.anomalies, 0),
        ("val", "validation", 5, 8, 1),
        ("board", "validation", 10, 10, 5),
    )
    for name, categories, normals, anomalies, seed in trees:
        numbers = {"--normals": normals, "--anomalies": anomalies, "--seed": seed}
        words = [str(word) for pair in numbers.items() for word in pair]
        finished = out / name / ".rendered"
        command = (*tool, "synthesize", "--out", str(out / name), "--categories", categories)
        found.append(Step((*command, *words), finished))
    for seed in options.seeds:
        found.append(Step(_training(options, seed, tool), _head(out, seed) / "results.json"))
        found.append(_resizing(options, seed, tool))
    heads = [word for s in options.seeds for word in ("--checkpoint", str(_sized(out, s)))]
    board = (*tool, "scoreboard", str(out / "board"), *heads, "--out", str(out / "scoreboard"))
    return [*found, Step(board, out / "scoreboard" / "scoreboard.json")]


def _head(out: Path, seed: int) -> Path:
    return out / f"head-{seed}"


def _sized(out: Path, seed: int) -> Path:
    return out / f"sized-{seed}"


def _resizing(options: argparse.Namespace, seed: int, tool: Sequence[str]) -> Step:
    """From the size of the rendered pictures, for training, to a larger one, for use."""
    folder = _sized(options.out, seed)
    size = ("--image-size", str(options.image_size), "--grid", str(options.grid))
    words = (*size, "--out", str(folder))
    validation = ("--validation-data", str(options.out / "val"), "--fit-temperatures")
    command = (*tool, "resize", str(_head(options.out, seed)), *words, *validation)
    return Step(command, folder / "model.safetensors")


def _pretraining(options: argparse.Namespace, clip: Path) -> tuple[str, ...]:
    words = {"--out": clip, "--cache": options.out / "cache", "--device": options.device}
    if options.clip_recipe:
        words["--config"] = options.clip_recipe
    flat = [str(word) for pair in words.items() for word in pair]
    return (sys.executable, str(ROOT / "tools" / "pretrain_backbone.py"), *flat)


def _training(options: argparse.Namespace, seed: int, tool: Sequence[str]) -> tuple[str, ...]:
    out: Path = options.out
    words = {
        "--data": out / "aux",
        "--validation-data": out / "val",
        "--out": _head(out, seed),
        "--backbone": f"local-dir:{out / 'clip'}",
        "--config": options.recipe,
        "--accelerator": options.device,
        "--seed": seed,
    }
    if not options.no_cache:
        words["--cache-features"] = out / "features"
    resume = ("--resume",) if (_head(out, seed) / "last" / "state.pt").exists() else ()
    flat = [str(word) for pair in words.items() for word in pair]
    return (*tool, "train", "--join-layers", *flat, *resume)


if __name__ == "__main__":
    sys.exit(main())
