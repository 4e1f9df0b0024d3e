"""Coverage-guided search for bad input: `python tools/fuzz.py TARGET --seconds N`.

Needs atheris (`make fuzz` installs it into an environment of its own). A finding is written to
--findings; once it is fixed, move it to tests/data/fuzz/TARGET, where a test reads it again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("card", "meta", "config", "image", "safetensors", "pickle", "backbone", "question")
NAMES += ("tree", "run_line")
MEMORY = 3000  # MB of the process; torch alone takes some hundreds


def main(
    target: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    seconds: Annotated[int, typer.Option(min=1)] = 60,
    seed: Annotated[int, typer.Option(min=1)] = 1,
    findings: Annotated[Path, typer.Option(help="Where a finding is written.")] = Path(
        "build/fuzz"
    ),
) -> None:
    """Give mutated files to a reader until one makes it fail, or the time is over."""
    if target not in NAMES:
        raise typer.BadParameter(f"{target!r} is none of {', '.join(NAMES)}")
    sys.path.insert(0, str(ROOT))
    import atheris

    # What is imported here reports its branches, which is what the search goes by.
    with atheris.instrument_imports(include=["bayes_pfl", "yaml", "json", "PIL", "pickle"]):
        from tests.fuzz import mutation, seeds, targets
    place = findings / target
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        corpus = seeds.write_seeds(target, Path(made, "corpus"))
        known = ROOT / "tests" / "data" / "fuzz" / target
        folder, reader = Path(made), targets.TARGETS[target]
        words = seeds.write_words(target, Path(made, "words"))
        options = [f"-dict={words}"] if words else []
        options += [f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={place}/"]
        options += ["-timeout=20", f"-rss_limit_mb={MEMORY}", "-max_len=8192", "-verbosity=1"]
        options += [str(corpus), *([str(known)] if known.is_dir() else [])]
        mutator = {"custom_mutator": mutation.mutate} if words else {}
        atheris.Setup(
            ["fuzz", *options],
            lambda data: targets.examine(reader, data, folder) and None,
            **mutator,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    typer.run(main)
