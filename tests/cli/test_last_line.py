"""The last line of a command that makes a page names it, also where files were skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.layout_trees import BUILDERS, Painter


@pytest.fixture
def tree(tmp_path):
    BUILDERS["mvtec"](Painter(tmp_path / "tree"))
    return tmp_path / "tree"


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("predict", "report.html"),
        ("evaluate", "report.html"),
        ("scoreboard", "scoreboard.md"),
        ("fit", "README.md"),
    ],
)
def test_it_names_the_page_to_open(
    run, tree, checkpoint_dir, tmp_path, monkeypatch, name, page, torn
):
    monkeypatch.chdir(tmp_path)
    good = Path("tree") / "bottle" / "test" / "good"
    given = {
        "predict": [good],
        "evaluate": ["--data", "tree"],
        "scoreboard": ["tree"],
        "fit": [good],
    }
    if torn:
        (tree / "bottle" / "test" / "good" / "torn.png").write_bytes(b"\x89PNG")
    options = ("--out", "out", "--checkpoint", checkpoint_dir)
    code, said, _ = run(name, *given[name], *options)
    assert code == int(torn)
    assert said.splitlines()[-1] == f"open {Path('out', page)}" and Path("out", page).is_file()


def test_several_pages_and_none(run, tree, checkpoint_dir, tmp_path):
    common = ("evaluate", "--data", tree, "--out", tmp_path / "out", "--checkpoint", checkpoint_dir)
    _, said, _ = run(*common, "--checkpoint", "bayes-pfl-tiny", "--categories", "bottle")
    last = said.splitlines()[-1].removeprefix("open ").split(", ")
    assert len(last) == 2 and all(Path(one).is_file() for one in last)
    _, said, _ = run(*common, "--no-report", "--categories", "bottle")
    assert said.splitlines()[-1] == f"open {tmp_path / 'out' / 'table.md'}"
