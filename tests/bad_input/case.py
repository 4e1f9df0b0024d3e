"""One kind of bad input, and what cases may use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.errors import BayesPFLError


@dataclass(frozen=True)
class World:
    """What a case may use: an empty folder, the command line, the tiny model and its files.

    Attributes:
        rows: rows of predictions.csv by path, of one run over all the bad images.
        run: arguments of a command -> exit code, output, errors.
    """

    folder: Path
    run: Callable[..., tuple[int, str, str]]
    model: BayesPFL
    checkpoint: Path
    clip: Path
    rows: dict[str, dict[str, str]]

    def refused(self, *arguments: object) -> str:
        """The one line with which a command refuses."""
        code, _, said = self.run(*arguments)
        assert code == 2, (code, said)
        assert "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        return line

    @staticmethod
    def patch() -> Any:
        """A monkeypatch for the time of a with block."""
        return pytest.MonkeyPatch.context()

    def predict(self, images: Path, *options: object, code: int = 0) -> str:
        """Run `bayes-pfl predict` over a folder: what it says."""
        out = self.folder / "out"
        least = ("--out", out, "--maps", "none", "--no-overlays", "--no-report", "--samples", 0)
        name = () if "--class-name" in options else ("--class-name", "nut")
        model = () if "--checkpoint" in options else ("--checkpoint", self.checkpoint)
        arguments = ("predict", images, *least, *name, *model, *options)
        if code == 2:
            return self.refused(*arguments)
        found, said, complaints = self.run(*arguments)
        assert found == code, (said, complaints)
        return said + complaints


@dataclass(frozen=True)
class Case:
    """One row of the tables in docs/robustness.md.

    Attributes:
        kind: what is bad about the input.
        shows: what the user sees. What stands between backquotes is looked for in the message, with
            anything in place of three dots.
        see: brings it about and gives the message; asserts what is more to be said.
    """

    kind: str
    shows: str
    see: Callable[[World], str]

    def check(self, world: World) -> None:
        """Bring it about, and compare."""
        message = self.see(world)
        for part in re.findall(r"`([^`]+)`", self.shows):
            pattern = ".*".join(map(re.escape, part.split("...")))
            assert re.search(pattern, " ".join(message.split())), message


def message_of(call: Callable[[], Any]) -> str:
    """The one line with which a call refuses."""
    with pytest.raises(BayesPFLError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 2000
    return message


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    """40×30, of soft colours."""
    cells = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((40, 30), Image.Resampling.BICUBIC).convert(mode)


def one_image(folder: Path, name: str = "a.png") -> Path:
    """A folder with a good image in it."""
    folder.mkdir(parents=True, exist_ok=True)
    picture().save(folder / name, "PNG")
    return folder


def write_json(path: Path, content: Any) -> Path:
    """The content as a JSON file."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
