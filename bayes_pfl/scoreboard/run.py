"""One scoreboard from a user's request, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.files import prepare_folder
from bayes_pfl.scoreboard.board import BoardSettings, Load, score_sets
from bayes_pfl.scoreboard.files import write_board
from bayes_pfl.support.environment import environment
from bayes_pfl.support.progress import Progress

Skipped = tuple[str, str, str]


def run_scoreboard(
    checkpoints: Sequence[str],
    data: Sequence[EvaluationData],
    out: Path,
    settings: BoardSettings = BoardSettings(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
    load: Load = load_checkpoint,
    backbones: Sequence[str] = (),
    load_bare: Load | None = None,
) -> tuple[list[Skipped], str]:
    """Score, and write scoreboard.md, scoreboard.csv and scoreboard.json into ``out``.

    Arguments are those of :func:`score_sets`.

    Returns:
        (set, path, reason) of the images that could not be read, and the tables of the sets.

    Raises:
        BayesPFLError: a checkpoint that cannot be loaded, a folder that cannot be written.
    """
    prepare_folder(out)
    board = score_sets(checkpoints, data, settings, progress, load, backbones, load_bare)
    sets = {
        one.name: {"images": len(one.samples), "first": str(one.samples[0].path)} for one in data
    }
    resolved = {"checkpoints": board.fingerprints, "sets": sets, **asdict(settings)}
    table = write_board(
        out, board, settings.bootstrap.confidence, resolved, environment(board.device)
    )
    return board.skipped, table
