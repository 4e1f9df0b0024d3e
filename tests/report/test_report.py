"""report.html: what it holds, that it is safe to open, and that a person can work with it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.inputs import input_files
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.report.html import NAME, data_island, render
from bayes_pfl.report.pictures import FEW, PANELS, ReportPictures, picture_name, strip
from bayes_pfl.report.runs import read_run, report_of_run
from bayes_pfl.support.version import __version__
from tests.helpers.commands import command
from tests.helpers.reports import FOLDER, entries, hostile_run, report


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """Folder of a run over pictures with hostile names."""
    base = tmp_path_factory.mktemp("report")
    hostile_run(tiny_model, base)
    return base


def island(page: str) -> dict:
    """The data in a page."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text[1])


def test_page_holds_every_row_and_picture(run):
    page = (run / "out" / NAME).read_text(encoding="utf-8")
    data = island(page)
    with (run / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = data["columns"]
    assert data["count"] == len(rows) and data["threshold"] == 0.5
    assert columns["name"] == [row["path"] for row in rows]
    assert columns["score"] == [float(row["score"]) if row["score"] else None for row in rows]
    shown = [picture.startswith("data:image/webp;base64,") for picture in columns["picture"]]
    assert shown == [not row["error"] for row in rows] and sum(shown) == len(rows) - 1
    assert "not an image" in page and "&lt;b&gt;broken.png" in page


def test_names_never_become_markup(run):
    page = (run / "out" / NAME).read_text(encoding="utf-8")
    for text in ("<script>alert", "<img src=x", "<b>broken", "</script><b>"):
        assert text not in page
    assert page.count("<script") == 2 and page.count("</script>") == 2
    assert f"{FOLDER}/in.png" in island(page)["columns"]["name"]


def test_policy_allows_the_page_s_own_script_and_style_only(run):
    page = (run / "out" / NAME).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    policy = policy.replace("&#39;", "'")
    for kind, text in (
        ("script-src", re.search(r"<script>(.*?)</script>", page, re.S)[1]),
        ("style-src", re.search(r"<style>(.*?)</style>", page, re.S)[1]),
    ):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)


@pytest.mark.parametrize("text", ["</script>", "<!--", "]]>", "&amp;", "\u2028", "\udcff", '"\\'])
def test_data_island_reads_back_and_cannot_end_its_element(text):
    island_text = data_island({"name": text})
    assert json.loads(island_text) == {"name": text}
    assert island_text.isascii() and not set("<>&") & set(island_text)


def test_the_same_run_gives_the_same_bytes(run, tiny_model, tmp_path):
    page = (run / "out" / NAME).read_bytes()
    assert report_of_run(run / "out").read_bytes() == page
    out = run / "out"
    again = tmp_path / "again"
    again.mkdir()
    predict_folder(
        tiny_model,
        run / "images",
        again,
        class_name="</script><b>nut",
        settings=FolderSettings(threshold=0.5, batch_size=3),
    )
    data = island((again / NAME).read_text(encoding="utf-8"))
    first = island(page.decode())
    assert data["columns"]["picture"] == first["columns"]["picture"]
    assert sorted(p.name for p in (again / "report/pictures").iterdir()) == sorted(
        p.name for p in (out / "report/pictures").iterdir()
    )


def test_report_command(run, tmp_path):
    path = run / "out" / NAME
    before = path.read_bytes()
    path.unlink()
    assert command("report", run / "out") == 0 and path.read_bytes() == before
    assert command("report", tmp_path) == 2
    with pytest.raises(DataError, match="no finished run; give the --out folder"):
        report_of_run(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "predictions.csv").write_text('"name"\n"a"\n')
    with pytest.raises(DataError, match="cannot be read .KeyError"):
        report_of_run(tmp_path)


def test_no_report_where_none_is_wanted(tiny_model, run, tmp_path):
    predict_folder(
        tiny_model,
        run / "images",
        tmp_path,
        class_name="nut",
        settings=FolderSettings(report=False),
    )
    assert not (tmp_path / NAME).exists() and not (tmp_path / "report").exists()


def test_pictures_of_a_report_are_no_input(tiny_model, run, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (30, 30), "red").save(images / "a.png")
    out = images / "out"
    predict_folder(
        tiny_model,
        images,
        out,
        class_name="nut",
        settings=FolderSettings(overlays=False, maps="none"),
    )
    assert list((out / "report" / "pictures").glob("*.webp"))
    assert [path.name for path in input_files(images, tmp_path / "elsewhere").images] == ["a.png"]


def test_many_images_stay_beside_the_page(tmp_path):
    numbered = enumerate(entries(FEW + 1))
    rows = [replace(entry, picture=f"report/pictures/{k}.webp") for k, entry in numbered]
    (tmp_path / "report" / "pictures").mkdir(parents=True)
    (tmp_path / "report" / "pictures" / "0.webp").write_bytes(b"RIFF")
    pictures = island(render(tmp_path, report(rows)))["columns"]["picture"]
    assert pictures == ["report/pictures/0.webp"] + [""] * FEW
    few = island(render(tmp_path, report(rows[:FEW])))["columns"]["picture"]
    assert few[0] == "data:image/webp;base64,UklGRg=="


def test_unknown_columns_cost_nothing_and_absent_ones_are_survived(run, tmp_path):
    for name in ("summary.json", "predictions.csv"):
        (tmp_path / name).write_bytes((run / "out" / name).read_bytes())
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = ("path", "class_name", "score", "error")
    with (tmp_path / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    made = read_run(tmp_path)
    assert all(entry.low is None and entry.review is None for entry in made.entries)
    columns = island(render(tmp_path, made))["columns"]
    assert set(columns) == {"name", "group", "score", "error", "picture"}


def test_threshold_starts_where_it_was_or_where_it_says(run):
    assert read_run(run / "out").threshold == 0.5
    assert "own threshold" in read_run(run / "out").threshold_note


def test_the_head_says_what_was_run_and_when(run, tmp_path):
    out = tmp_path / "<b>out"
    out.mkdir()
    for name in ("summary.json", "predictions.csv"):
        (out / name).write_bytes((run / "out" / name).read_bytes())
    summary = json.loads((out / "summary.json").read_text())
    assert datetime.fromisoformat(summary["finished"]).tzinfo is not None
    summary |= {"finished": "2026-11-30T11:16:08+01:00", "checkpoint": "<i>model"}
    summary["profile"] = {"folder": "/parts/<b>nut", "pictures": 3}
    (out / "summary.json").write_text(json.dumps(summary))
    head = dict(read_run(out).head)
    assert head == {
        "Run": "<b>out",
        "Finished": "2026-11-30 11:16 UTC+01:00",
        "Profile": "<b>nut",
        "Model": "<i>model",
        "Version": f"bayes-pfl {__version__}",
    }
    page = render(out, read_run(out))
    assert "&lt;i&gt;model" in page and "<i>model" not in page and "<b>" not in page
    for name in ("finished", "checkpoint", "profile", "environment"):
        del summary[name]
    (out / "summary.json").write_text(json.dumps(summary))
    assert dict(read_run(out).head) == {"Run": "<b>out"}


def test_scores_are_verdicts_only_by_a_threshold(run, tmp_path):
    made = read_run(run / "out")
    assert island(render(tmp_path, made))["words"] == ["OK", "NOK"]
    for name in ("summary.json", "predictions.csv"):
        (tmp_path / name).write_bytes((run / "out" / name).read_bytes())
    summary = json.loads((tmp_path / "summary.json").read_text())
    summary["settings"]["threshold"] = None
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    made = read_run(tmp_path)
    assert "highest 5%" in made.threshold_note
    assert island(render(tmp_path, made))["words"] == ["below", "above"]


@pytest.mark.parametrize(
    "threshold, said, path",
    [(0.4, "", "M60.0 "), (0.9, ", above these colours", "M129.0 "), (0.05, ", below", "M-9.0 ")],
)
def test_the_colour_bar_marks_the_threshold_of_the_map(tmp_path, threshold, said, path):
    rows = replace(report(entries(3)), limits=(0.2, 0.6), map_threshold=threshold)
    page = render(tmp_path, rows)
    assert f'class="mark" d="{path}' in page and page.count('class="mark"') == 1
    assert f"outlined from {threshold:.3f}{said}" in page
    assert 'class="mark"' not in render(tmp_path, report(entries(3)))


def test_best_f1_threshold_is_rounded_as_the_scores_are(tmp_path):
    category = {"n_normal": 2, "n_anomalous": 2, "image": {}, "pixel": {}}
    datasets = {"set": {"categories": {"part": category}}}
    metrics = {"seeds": [0], "skipped": [], "datasets": datasets}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    head = "dataset,category,seed,path,label,uncertainty,score_deploy"
    scores = ((0, "0.3"), (0, "0.6999994"), (1, "0.7000004"), (1, "0.9000005123"))
    rows = [f"set,part,0,{k}.png,{label},0.1,{score}" for k, (label, score) in enumerate(scores)]
    (tmp_path / "images.csv").write_text("\n".join([head, *rows]) + "\n")
    made = read_run(tmp_path)
    assert made.threshold == 0.7000004 and "best F1" in made.threshold_note
    data = island(render(tmp_path, made))
    assert data["threshold"] == 0.7 == data["columns"]["score"][2]
    reached = [score >= data["threshold"] for score in data["columns"]["score"]]
    assert reached == [False, False, True, True]


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (1, 500), (700, 3), (300, 300)])
def test_strip_has_four_panels_of_the_picture_s_proportions(shape):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (*shape, 3), np.uint8)
    values = rng.random((9, 9), np.float32)
    mask = values > 0.9
    data = strip(picture, values, values / 2, (0.2, 0.8), 128, mask)
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    scale = min(1, 128 / max(shape))
    assert height == max(1, round(shape[0] * scale))
    assert width == len(PANELS) * max(1, round(shape[1] * scale))


def test_regions_are_outlined_on_overlay_and_map():
    picture, values = np.full((96, 96, 3), 90, np.uint8), np.full((96, 96), 0.5, np.float32)
    area = np.zeros((96, 96), bool)
    area[30:60, 30:60] = True
    panels = []
    for given in (None, area):
        data = strip(picture, values, values / 2, (0.0, 1.0), 96, area=given)
        with Image.open(io.BytesIO(data)) as image:
            panels.append(np.asarray(image.convert("RGB")).astype(int).reshape(96, 4, 96, 3))
    changed = np.abs(panels[1] - panels[0]).max(-1) > 60
    assert changed[30, 1, 30:60].all() and changed[30, 2, 30:60].all()
    assert not changed[:, (0, 3)].any() and not changed[40:50, 1:3, 40:50].any()


def test_pictures_of_other_settings_are_removed(tmp_path):
    pictures = ReportPictures(tmp_path, (0.0, 1.0), 1)
    pictures.prepare("one")
    values = np.zeros((4, 4), np.float32)
    name = picture_name("a.png")
    assert pictures.write(name, np.zeros((4, 4, 3), np.uint8), values, values) is None
    own = pictures.folder / "own.webp"
    own.write_bytes(b"")
    pictures.prepare("one")
    assert (pictures.folder / name).is_file()
    pictures.prepare("two")
    assert not (pictures.folder / name).is_file() and own.is_file()
    assert "not written" in pictures.write("no/folder.webp", np.zeros((4, 4)), values, values)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        ReportPictures(tmp_path / "file", (0.0, 1.0), 1).prepare()


def test_evaluation_writes_a_report(checkpoint_dir, tmp_path):
    tree, out = tmp_path / "tree", tmp_path / "out"
    command("synthesize", "--out", tree, "--categories", "wood,leather", "--normals", 2,
            "--anomalies", 2, "--size", 48)  # fmt: skip
    bad = next((tree / "wood" / "test" / "good").iterdir())
    bad.write_bytes(b"nothing")
    arguments = ("evaluate", "--checkpoint", checkpoint_dir, "--data", tree, "--out", out)
    assert command(*arguments) == 1
    page = (out / NAME).read_bytes()
    made = read_run(out)
    assert [entry.truth for entry in made.entries].count(1) == 4 and len(made.skipped) == 1
    assert 0 < made.threshold < 1 and "best F1" in made.threshold_note
    data = island(page.decode())
    assert all(data["columns"]["picture"]) and data["count"] == 7
    assert "leather" in page.decode() and made.skipped[0][0].endswith(bad.name)
    assert command(*arguments) == 1 and (out / NAME).read_bytes() == page  # all from the cache
    metrics = json.loads((out / "metrics.json").read_text())
    tried = {"threshold": 0.25, "calibrated_fpr": 0.01}
    metrics["datasets"]["tree"]["categories"]["wood"]["at_threshold"] = tried
    (out / "metrics.json").write_text(json.dumps(metrics))
    made = read_run(out)
    assert made.threshold == 0.25 and "positive rate of 0.01" in made.threshold_note
    assert command(*arguments[:-1], tmp_path / "none", "--no-report") == 1
    assert not (tmp_path / "none" / NAME).exists()
