"""The tool that tells what is found by size and by kind of fault."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.helpers.commands import command, load_script
from tests.helpers.layout_trees import BUILDERS, Painter


@pytest.fixture
def tool():
    return load_script("tools/faults.py")


@pytest.fixture
def evaluated(tmp_path, checkpoint_dir):
    """A tree, and the table of an evaluation of it with scores that can be reckoned by hand."""
    tree, out = tmp_path / "tree", tmp_path / "out"
    paint = Painter(tree)
    BUILDERS["mvtec"](paint)
    paint.image("bottle/test/good/001.png")
    arguments = ("--data", tree, "--out", out, "--checkpoint", checkpoint_dir, "--device", "cpu")
    assert command("evaluate", *arguments, "--samples", 0) == 0
    scores = {
        "bottle/test/good/000.png": 0.1,
        "bottle/test/good/001.png": 0.3,
        "bottle/test/bent/000.png": 0.2,
        "bottle/test/broken large/000.png": 0.3,
        "metal_nut/test/good/000.png": 0.6,
        "metal_nut/test/bent/000.png": 0.7,
        "metal_nut/test/broken large/000.png": 0.5,
    }
    with (out / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["score_deploy"] = scores[Path(row["path"]).relative_to(tree).as_posix()]
    write(out, rows)
    return tree, out, rows


def write(out, rows):
    with (out / "images.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def test_faults_are_held_against_the_normal_images_of_their_category(
    tool, evaluated, capsys, monkeypatch
):
    tree, out, _ = evaluated
    monkeypatch.chdir(tree.parent)
    assert tool.main([tree.name, str(out)]) == 0
    told = capsys.readouterr().out
    assert "| 3 to 100% | 4 | 56.2 |" in told  # (0.5 + 0.75 + 1 + 0) / 4
    assert told.index("| broken large | 2 | 37.5 |") < told.index("| bent | 2 | 75.0 |")


def test_sizes_are_told_apart(tool):
    assert tool.size_name(0.0005) == "0 to 0.1%" and tool.size_name(0.002) == "0.1 to 0.3%"
    assert tool.size_name(1.0) == "3 to 100%" and tool.size_name(None) == "no mask"


def test_what_cannot_be_used_ends_in_one_line(tool, evaluated, tmp_path, capsys):
    tree, out, rows = evaluated
    for change, words in (
        (lambda: write(out, [*rows, rows[0] | {"seed": 1}]), "2 seeds where one is wanted"),
        (lambda: write(out, [row | {"path": "x"} for row in rows]), "none of the tree's images"),
        (lambda: (out / "images.csv").write_text("a,b\n1,2\n"), "no images.csv of an evaluation"),
        (lambda: (out / "images.csv").unlink(), "no images.csv of an evaluation"),
    ):
        change()
        assert tool.main([str(tree), str(out)]) == 2
        told = capsys.readouterr().err
        assert words in told and told.count("\n") == 1
