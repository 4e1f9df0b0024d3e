"""`bayes-pfl evaluate`: the fifteen benchmarks in one command, its files, its exit codes."""

import csv
import json
import statistics

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.checkpoints.format import WEIGHTS_NAME
from bayes_pfl.checkpoints.load import DEFAULT_CHECKPOINT
from bayes_pfl.data.sources import read_mvtec
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.evaluate.datasets import read_cards, read_trees
from bayes_pfl.evaluate.files import folder_names
from bayes_pfl.evaluate.pictures import pick
from bayes_pfl.evaluate.records import CategoryRecord, ImageRow
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.run import run_benchmark, run_evaluation
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.support.resources import resource_dir
from tests.helpers.commands import command
from tests.helpers.killing import ended, files_of, started
from tests.helpers.layout_trees import BUILDERS, Painter, write_meta

PIXEL_ONLY = ("isic", "colondb", "clinicdb", "endo", "kvasir")
IMAGE_ONLY = ("headct", "brainmri", "br35h")


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    """All fifteen, as distributed, below one folder; and what each holds."""
    root = tmp_path_factory.mktemp("benchmarks")
    return root, {name: build(Painter(root / name)) for name, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def everything(benchmarks, checkpoint_dir, tmp_path_factory):
    """The results of `--dataset all`."""
    out = tmp_path_factory.mktemp("results") / "all"
    code = command(
        *("evaluate", "--dataset", "all", "--data", benchmarks[0], "--out", out),
        *("--checkpoint", checkpoint_dir, "--protocol", "both", "--compare", "published"),
    )
    assert code == 0
    return out


def read(path):
    return json.loads(path.read_text())


@pytest.fixture
def evaluate(checkpoint_dir, tmp_path):
    """Runs the command with the tiny checkpoint into tmp_path/out; exit code, metrics.json."""

    def run(*arguments, out="out"):
        code = command("evaluate", "--checkpoint", checkpoint_dir, "--out", tmp_path / out,
                       *arguments)  # fmt: skip
        path = tmp_path / out / "metrics.json"
        return code, read(path) if path.exists() else None

    return run


@pytest.fixture
def tree(tmp_path):
    BUILDERS["mvtec"](Painter(tmp_path / "parts"))
    return tmp_path / "parts"


@pytest.mark.parametrize("protocol", ["deploy", "authors"])
def test_every_benchmark_has_its_figures_in_the_promised_form(everything, benchmarks, protocol):
    report = read(everything / ("metrics.json" if protocol == "deploy" else "metrics_authors.json"))
    assert report["protocol"] == protocol
    assert set(report["datasets"]) == set(BUILDERS)
    for name, counts in benchmarks[1].items():
        dataset = report["datasets"][name]
        assert set(dataset["categories"]) == set(counts)
        for category, entry in [*dataset["categories"].items(), (None, dataset["mean"])]:
            if category:
                assert (entry["n_normal"], entry["n_anomalous"]) == counts[category]
            for level, keys in (
                ("pixel", ("auroc", "aupro", "ap", "f1_max", "iou")),
                ("image", ("auroc", "ap", "f1_max")),
            ):
                without = IMAGE_ONLY if level == "pixel" else PIXEL_ONLY
                for key in keys:
                    value = entry[level][key]
                    assert (value is None) == (name in without), (name, category, level, key)
                    if value is None:
                        assert entry[level]["reason"][key]
                    else:
                        assert 0 <= value <= 1
    assert report["skipped"] == []


def test_the_table_has_the_papers_arrangement_and_the_published_numbers(everything):
    tables = read(everything / "table_authors.json")["tables"]
    assert [table["title"] for table in tables] == [
        "Industrial, image level",
        "Industrial, pixel level",
        "Medical, image level",
        "Medical, pixel level",
    ]
    names = [[row["dataset"] for row in table["rows"]] for table in tables]
    assert names[0] == names[1]
    assert set(names[0]) == {*BUILDERS, "mean"} - {*PIXEL_ONLY, *IMAGE_ONLY}
    assert set(names[2]) == {*IMAGE_ONLY, "mean"} and set(names[3]) == {*PIXEL_ONLY, "mean"}
    mvtec = next(row for row in tables[1]["rows"] if row["dataset"] == "mvtec")["methods"]
    assert mvtec["Bayes-PFL (published)"] == {"auroc": 0.918, "aupro": 0.874, "ap": 0.483}
    text = (everything / "table_authors.md").read_text()
    assert "91.8 | 87.4 | 48.3" in text and "others' comparison tables" in text
    assert "which measures differently" not in text
    assert "which measures differently" in (everything / "table.md").read_text()
    assert "**By category**" in text and "| mvtec | metal_nut | 1 | 2 |" in text


def test_the_table_is_there_as_csv_and_latex_too(everything):
    rows = list(csv.DictReader((everything / "table.csv").open()))
    assert {(row["domain"], row["level"]) for row in rows} == {
        (domain, level) for domain in ("industrial", "medical") for level in ("image", "pixel")
    }
    tables = read(everything / "table.json")["tables"]
    ours = next(iter(tables[0]["rows"][0]["methods"]))
    row = next(r for r in rows if r["dataset"] == "mvtec" and r["method"] == ours)
    mvtec = next(row for row in tables[0]["rows"] if row["dataset"] == "mvtec")["methods"][ours]
    assert float(row["auroc"]) == mvtec["auroc"] and row["aupro"] == ""
    latex = (everything / "table.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
    assert r"dtd\_synthetic" in latex


def test_every_image_has_its_scores(everything, benchmarks):
    rows = list(csv.DictReader((everything / "images.csv").open()))
    assert len(rows) == sum(sum(pair) for c in benchmarks[1].values() for pair in c.values())
    for row in rows:
        mean = (float(row["text_score"]) + float(row["map_score"])) / 2
        assert float(row["score_deploy"]) == pytest.approx(mean)
        assert row["category"] in benchmarks[1][row["dataset"]]


def test_the_run_folder_tells_how_it_was_made(everything):
    config = read(everything / "config.json")
    assert config["seeds"] == [0] and config["protocols"] == ["deploy", "authors"]
    assert read(everything / "environment.json")["packages"]["torch"]
    assert len(list((everything / "cache").rglob("*.npz"))) == 23


def test_the_standardised_form_gives_the_same_command_the_same_shape(evaluate, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name in ("mvtec", "isic", "br35h"):
        counts = {"mvtec": {"bottle": (2, 1)}, "isic": {"skin": (0, 2)}, "br35h": {"brain": (1, 1)}}
        paint = Painter(root / name)
        write_meta(paint, root / f"meta_{name}.json", counts[name], name == "br35h")
    code, report = evaluate("--dataset", "all", "--data", root)
    assert code == 0 and set(report["datasets"]) == {"mvtec", "isic", "br35h"}
    assert report["datasets"]["br35h"]["categories"]["brain"]["n_anomalous"] == 1
    assert any("expected" in note for note in report["datasets"]["mvtec"]["notes"])


def test_a_tree_alone_needs_no_card(evaluate, tree, capsys):
    code, report = evaluate("--data", tree, "--seed", "3")
    assert code == 0
    assert report["seeds"] == [3] and report["datasets"]["parts"]["domain"] == "other"
    assert "Other, pixel level" in capsys.readouterr().out


def test_a_users_card_by_path(evaluate, tree, tmp_path):
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\nroot: parts\nsupports: [pixel]\nlayouts: [mvtec]\n")
    code, report = evaluate("--dataset", card, "--categories", "bottle")
    assert code == 0
    entry = report["datasets"]["mine"]["categories"]
    assert list(entry) == ["bottle"]
    assert "pixel-level" in entry["bottle"]["image"]["reason"]["auroc"]
    assert entry["bottle"]["pixel"]["auroc"] is not None


def test_seeds_are_mean_and_deviation(evaluate, tree):
    _, report = evaluate("--data", tree, "--seeds", "0, 1,2")
    parts = [run["parts"]["mean"]["pixel"]["auroc"] for run in report["per_seed"].values()]
    mean = report["datasets"]["parts"]["mean"]
    assert mean["pixel"]["auroc"] == pytest.approx(statistics.fmean(parts))
    assert mean["sd"]["pixel"]["auroc"] == pytest.approx(statistics.stdev(parts))
    _, alone = evaluate("--data", tree, "--seed", "1", out="alone")
    assert alone["datasets"]["parts"]["mean"]["pixel"]["auroc"] == pytest.approx(parts[1])


def test_several_checkpoints_stand_side_by_side(
    evaluate, tree, tiny_config, tiny_model, tmp_path, checkpoint_dir
):
    other = tiny_model.save_pretrained(tmp_path / "other")
    code, _ = evaluate("--data", tree, "--checkpoint", other)
    assert code == 0
    names = folder_names([str(checkpoint_dir), str(other)])
    first, second = (read(tmp_path / "out" / name / "metrics.json") for name in names)
    assert first["checkpoint_sha256"] == second["checkpoint_sha256"]
    assert first["datasets"] == second["datasets"]
    row = read(tmp_path / "out" / "table.json")["tables"][0]["rows"][0]
    assert list(row["methods"]) == names


def test_unreadable_images_are_listed_and_the_rest_is_done(evaluate, tree, capsys):
    bad = tree / "bottle" / "test" / "good" / "cut.png"
    bad.write_bytes(b"\x89PNG\r\n")
    code, report = evaluate("--data", tree)
    assert code == 1
    (skipped,) = report["skipped"]
    assert skipped["path"] == str(bad) and skipped["category"] == "bottle"
    assert "cut.png" in skipped["reason"]
    assert report["datasets"]["parts"]["categories"]["bottle"]["n_skipped"] == 1
    assert report["datasets"]["parts"]["mean"]["pixel"]["auroc"] is not None
    assert "cut.png" in capsys.readouterr().err
    bad.unlink()
    code, report = evaluate("--data", tree)
    assert (code, report["skipped"]) == (0, [])


def test_a_benchmark_that_cannot_be_read_does_not_stop_the_others(evaluate, tmp_path):
    root = tmp_path / "data"
    BUILDERS["endo"](Painter(root / "endo"))
    BUILDERS["visa"](Painter(root / "visa"))
    (root / "visa" / "split_csv" / "1cls.csv").write_text("object,split\n")
    code, report = evaluate("--dataset", "all", "--data", root)
    assert code == 1 and list(report["datasets"]) == ["endo"]
    assert report["skipped"][0]["dataset"] == "visa" and "column" in report["skipped"][0]["reason"]
    assert evaluate("--dataset", "visa", "--data", root, out="b") == (2, None)


def test_the_same_command_again_scores_nothing(evaluate, tree, monkeypatch):
    _, first = evaluate("--data", tree)

    def refuse(*_):
        raise AssertionError("scored again")

    monkeypatch.setattr("bayes_pfl.model.network.BayesPFLNetwork.score_encoded", refuse)
    assert evaluate("--data", tree) == (0, first)
    with pytest.raises(AssertionError):
        evaluate("--data", tree, "--no-cache")


def test_curves_and_sheets_are_pictures(evaluate, tree, tmp_path):
    spoken = tree / "odd [name] $x"
    (tree / "bottle").rename(spoken)
    code, _ = evaluate("--data", tree, "--curves", "--sheets", "--protocol", "both")
    assert code == 0
    out = tmp_path / "out"
    found = {str(path.relative_to(out)) for path in out.rglob("*.png")}
    assert {"curves/parts/metal_nut.png", "curves/parts/metal_nut_authors.png"} < found
    assert "sheets/parts/metal_nut.png" in found and len(found) == 6
    for path in out.rglob("*.png"):
        picture = np.asarray(Image.open(path).convert("RGB"))
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 5


def test_another_evaluation_leaves_nothing_of_the_former_one(evaluate, tree, tiny_model, tmp_path):
    other = tiny_model.save_pretrained(tmp_path / "other")
    pictures = ("--curves", "--sheets", "--protocol", "both")
    evaluate("--data", tree, "--checkpoint", other, "--no-report", *pictures)
    out = tmp_path / "out"
    before = files_of(out, "cache")
    (out / "notes.md").write_text("the user's")
    for place in ("out", "fresh"):
        code, _ = evaluate("--data", tree, "--categories", "bottle", "--no-report", out=place)
        assert code == 0
    expected = files_of(tmp_path / "fresh", "cache")
    assert set(files_of(out, "cache")) == {*expected, "notes.md"}
    assert len(before) > 3 * len(expected)


def test_pictures_of_image_only_and_pixel_only_sets(evaluate, benchmarks, tmp_path):
    arguments = ["--data", benchmarks[0], "--curves", "--sheets"]
    for name in ("br35h", "isic"):
        arguments += ["--dataset", name]
    code, _ = evaluate(*arguments)
    assert code == 0
    assert len(list((tmp_path / "out").rglob("*.png"))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --data TREE"),
        (["--dataset", "mvtc"], "known are br35h"),
        (["--dataset", "all"], "--data ROOT"),
        (["--dataset", "all", "--data", "nowhere"], "not a folder"),
        (["--dataset", "mvtec", "--data", "a", "--data", "b"], "one --data ROOT"),
        (["--data", ".", "--seeds", "1,x"], "--seeds '1,x'"),
        (["--data", ".", "--compare", "nowhere.yaml"], "nowhere.yaml"),
        (["--data", ".", "--checkpoint", "nowhere"], "checkpoint 'nowhere' not found"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    evaluate, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert evaluate(*arguments) == (2, None)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_all_of_an_empty_folder_says_what_it_looked_for(tmp_path):
    with pytest.raises(DataError, match="none of the 15 benchmarks"):
        read_cards(["all"], tmp_path)


def test_a_card_without_its_pictures_is_refused(tmp_path):
    counts = {"bottle": (1, 1)}
    write_meta(Painter(tmp_path / "mvtec"), tmp_path / "meta_mvtec.json", counts, False)
    for path in (tmp_path / "mvtec").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="none of them is there"):
        read_cards(["mvtec"], tmp_path)


def test_names_that_clash_are_refused(tmp_path, tree):
    card = tmp_path / "mine.yaml"
    card.write_text("name: mvtec\nroot: parts\nlayouts: [mvtec]\n")
    data, _ = read_cards([str(card), str(card)], None)
    assert len(data) == 1
    BUILDERS["mvtec"](Painter(tmp_path / "mvtec"))
    with pytest.raises(DataError, match="both describe 'mvtec'"):
        read_cards([str(card), "mvtec"], tmp_path)
    alias = tmp_path / "alias"
    alias.symlink_to(tree)
    for twice in ([tree, tree], [tree, tree / "bottle" / ".."], [alias, tree]):
        with pytest.raises(DataError, match="given twice"):
            read_trees(twice)
    with pytest.raises(ConfigError, match="--dataset all"):
        read_cards(["all"], None)


def test_the_function_evaluates_a_loaded_model(tiny_model, tree, tmp_path):
    settings = EvaluationSettings(seed=2)
    tables = run_evaluation(
        tiny_model, "mine", [tree], tmp_path / "o", ("authors", "deploy"), settings
    )
    assert list(tables) == ["authors", "deploy"]
    assert tables["authors"].startswith("| dataset | category")
    assert read(tmp_path / "o" / "metrics.json")["protocol"] == "authors"
    assert read(tmp_path / "o" / "metrics_deploy.json")["seeds"] == [2]
    assert not (tmp_path / "o" / "cache").exists()
    (tree / "bottle" / "test" / "good" / "cut.png").write_bytes(b"x")
    with pytest.raises(DataError, match="cut.png"):
        run_evaluation(tiny_model, "mine", [tree], tmp_path / "o2")


@pytest.mark.parametrize("category", ["\x01", "a b" + " a b" * 60])
def test_a_name_that_cannot_be_a_prompt_is_refused_before_any_work(
    evaluate, tree, tmp_path, capsys, monkeypatch, category
):
    (tree / "metal_nut").rename(tree / category)
    monkeypatch.setattr("bayes_pfl.evaluate.run.evaluate_together", lambda *_: pytest.fail("work"))
    assert evaluate("--data", tree) == (2, None)
    assert "class name" in capsys.readouterr().err


def test_two_runs_without_a_cache_do_not_write_to_one_folder(
    tiny_model, tree, tmp_path, checkpoint_dir
):
    request = EvaluationRequest(("a",), tuple(read_trees([tree])), tmp_path / "out")

    def second(*_):
        def refused():
            with pytest.raises(ConfigError, match="another run is writing there.*--out"):
                run_benchmark(request, load=lambda _: pytest.fail("work"))

        assert ended(started(refused)) == 0
        return tiny_model

    run_benchmark(request, load=second)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "metrics.json" in names and "evaluation.journal.jsonl" not in names
    run_benchmark(request, load=lambda _: tiny_model)  # when the first has ended


def test_checkpoints_get_short_names_that_differ():
    names = folder_names(["runs/a/best", "runs/b/best", "x/a", "org/name", "./a:b", "/"])
    assert names == ["a", "b", "a-2", "name", "a_b", "checkpoint"]


def test_the_images_worth_a_look():
    def row(name, label, score, uncertainty, ap=float("nan")):
        return ImageRow(name, name, label, True, score, score, score, uncertainty, ap)

    rows = [row(f"n{i}", 0, i / 10, 0.1 * i) for i in range(6)]
    rows += [row(f"a{i}", 1, 0.45, 0.01, 0.1 * i) for i in range(6)]
    best, worst, alarms, doubtful = (names(part) for _, part in pick(CategoryRecord(rows=rows), 2))
    assert (best, worst, alarms, doubtful) == (
        ["a5", "a4"],
        ["a0", "a1"],
        ["n5", "n4"],
        ["n5", "n4"],
    )
    bare = [*rows[:6], *(row(f"a{i}", 1, i / 10 - 0.05, 0.0) for i in range(6))]
    heading, found = pick(CategoryRecord(rows=bare), 1)[0]
    assert "rank among the normal ones" in heading and names(found) == ["a5"]
    assert names(pick(CategoryRecord(rows=rows[6:7]), 4)[1][1]) == []


def names(rows):
    return [row.path for row in rows]


def test_reading_the_tree_again_does_not_change_it(tree, evaluate):
    before = sorted(path.stat().st_mtime_ns for path in tree.rglob("*"))
    evaluate("--data", tree, "--sheets")
    assert sorted(path.stat().st_mtime_ns for path in tree.rglob("*")) == before
    assert len(read_mvtec(tree)) == 6


@pytest.mark.skipif(
    not (resource_dir("checkpoints") / DEFAULT_CHECKPOINT / WEIGHTS_NAME).is_file(),
    reason="the embedded checkpoint is not in this checkout",
)
def test_the_embedded_model_on_benchmarks_of_every_kind(benchmarks, tmp_path):
    """With masks and labels, labels alone, masks alone; the tiny model was on all of them."""
    out, names = tmp_path / "out", ("btad", "br35h", "isic")
    datasets = [part for name in names for part in ("--dataset", name)]
    code = command(
        *("evaluate", *datasets, "--data", benchmarks[0], "--out", out),
        *("--samples", 1, "--device", "cpu"),
    )
    assert code == 0
    assert set(read(out / "metrics.json")["datasets"]) == set(names)
