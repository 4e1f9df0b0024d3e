"""`bayes-pfl datasets`, `benchmark` and the tools that call them."""

import json
import runpy
import sys

import pytest

from bayes_pfl.data.cards import read_dataset
from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.sources import read_mvtec
from bayes_pfl.evaluate.datasets import read_cards
from tests.helpers.commands import command
from tests.helpers.layout_trees import BUILDERS, FURTHER, Painter
from tests.helpers.paths import ROOT

TOOLS = ROOT / "tools"


@pytest.fixture
def root(tmp_path):
    """MVTec, two medical sets and a further one."""
    for name in ("mvtec", "isic", "br35h"):
        BUILDERS[name](Painter(tmp_path / "data" / name))
    FURTHER["mpdd"](Painter(tmp_path / "data" / "MPDD"))
    return tmp_path / "data"


def test_the_list_names_all_and_what_is_found(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert command("datasets") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*BUILDERS, *FURTHER)) and "--data ROOT" in text
    assert text.index("visa") < text.index("kvasir") < text.index("mpdd")  # apart, at the end
    out = tmp_path / "list.json"
    assert command("datasets", "--data", root, "--json", out) == 0
    text = capsys.readouterr().out
    assert "3 of 15 found" in text and "and 1 of 5 further datasets" in text
    rows = {row["name"]: row for row in json.loads(out.read_text())}
    assert rows["mvtec"]["form"] == "distributed" and rows["visa"]["form"] is None
    assert rows["mpdd"]["further"] and not rows["mvtec"]["further"]
    assert rows["mpdd"]["images"] == "2 normal, 2 anomalous (not as expected)"
    assert rows["mvtec"]["path"] == str(root / "mvtec")
    assert rows["mvtec"]["images"] == "2 normal, 4 anomalous (not as expected)"


def test_a_benchmark_that_is_there_but_unusable_is_told(root, capsys, tmp_path):
    (root / "mvtec" / "meta.json").write_text("{")
    out = tmp_path / "list.json"
    assert command("datasets", "--data", root, "--json", out) == 0
    rows = {row["name"]: row for row in json.loads(out.read_text())}
    assert rows["mvtec"]["images"].startswith("unusable: ")


def test_check_lists_every_finding(root, tmp_path, capsys):
    (root / "isic" / "ISBI2016_ISIC_Part1_Test_Data" / "ISIC_0000003.jpg").write_bytes(b"")
    out = tmp_path / "check.json"
    assert command("datasets", "check", "isic", "--data", root, "--json", out) == 1
    text = capsys.readouterr().out
    assert "expected 0 and 379" in text and "the file is empty" in text
    assert "skin: 0 normal, 2 anomalous test images" in text and "2 findings" in text
    report = json.loads(out.read_text())
    assert report["ok"] is False and len(report["unreadable"]) == 1


def test_further_sets_are_checked_by_name_and_left_out_of_all(root, capsys):
    assert command("datasets", "check", "mpdd", "--data", root) == 1
    assert "found 2 normal and 2 anomalous test images, expected 176 and 282" in (
        capsys.readouterr().out
    )
    found, _ = read_cards(["all"], root)
    assert {data.name for data in found} == {"mvtec", "isic", "br35h"}
    (data,), _ = read_cards(["mpdd"], root)
    (root / "MPDD" / "tubes" / "test" / "good" / "x.npy").touch()
    (again,), _ = read_cards(["mpdd"], root)
    assert again.samples == data.samples
    assert [note for note in again.notes if note not in data.notes] == [
        f"{root / 'MPDD'}: files of kinds that are not read (.npy): 1, first tubes/test/good/x.npy"
    ]


def test_check_of_a_sound_card_file(root, tmp_path, capsys):
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\nroot: data/mvtec\nlayouts: [mvtec]\n")
    assert command("datasets", "check", card) == 0
    assert "no problems found" in capsys.readouterr().out
    assert command("datasets", "check", card, "--split", "train") == 0
    assert "bottle: 1 normal, 0 anomalous train images" in capsys.readouterr().out


def test_export_as_a_tree(root, tmp_path, capsys):
    out = tmp_path / "copy"
    assert command("datasets", "export", "mvtec", "--data", root, "--out", out) == 0
    assert len(read_mvtec(out)) == 6 and len(read_mvtec(out, "train")) == 2
    assert "2 train, 6 test images" in capsys.readouterr().out
    assert command("datasets", "export", "mvtec", "--data", root, "--out", out) == 2
    assert "not an empty folder" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::bayes_pfl.data.cards.DatasetWarning")
def test_export_as_meta_without_training_images(root):
    arguments = ("datasets", "export", "isic", "--data", root, "--format", "meta")
    assert command(*arguments, "--out", root / "isic") == 0
    again = read_meta(root / "isic" / "meta.json")
    assert len(again) == 2
    assert {s.path for s in again} == {
        s.path for s in read_dataset("isic", root, form="distributed")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("datasets", "check", "isic"), "by --data"),
        (("datasets", "check", "nothing", "--data", "."), "no dataset card 'nothing'"),
        (("datasets", "--data", ".", "check", "isic"), "behind the command"),
        (("datasets", "--data", "nowhere"), "not a folder"),
        (("datasets", "check", "isic", "--data", "."), "was not found"),
        (("benchmark", "metrics", "--scaling", "x"), "--scaling 'x'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert command(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_benchmark_of_the_metrics_prints_and_writes(tmp_path, capsys):
    out = tmp_path / "bench.json"
    arguments = ("--maps", 3, "--size", 40, "--scaling", "2,4", "--json", out)
    assert command("benchmark", "metrics", *arguments) == 0
    text = capsys.readouterr().out
    assert "3 maps of 40x40" in text and "times ours" in text and "4 maps:" in text
    report = json.loads(out.read_text())
    assert report["largest_difference"] < 1e-3
    assert [row["maps"] for row in report["scaling"]] == [2, 4]


@pytest.mark.parametrize("tool", ["datasets", "benchmark", "verify_metrics", "evaluate"])
def test_every_tool_calls_its_command(tool, monkeypatch, capsys):
    script = str(TOOLS / f"{tool}.py")
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(script, run_name="__main__")
    assert not stopped.value.code and "--help" in capsys.readouterr().out
