"""The commands and the Python of the documents run as they stand, page by page, in one folder.

The folder holds what the documents name. The embedded model is a tiny one there, and training is
short. What cannot run here stands in NOT_RUN with the test that runs it instead.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bayes_pfl.checkpoints import load
from tests.helpers.commands import command
from tests.helpers.layout_trees import SIZE, Painter, mvtec, visa
from tests.helpers.paths import ROOT
from tests.whole.test_docs import FENCE, OUTSIDE, PAGES, commands_in, named, python_in

NOT_RUN = {
    r"app|serve": "servers: tests/app, tests/serve",
    r"predict (s3:|.*--engine ray)": "clusters: tests/predict/ray",
    r"push |.* org/name": "the hub: tests/checkpoints/test_hub.py",
    r"convert ": "the authors' file: tests/checkpoints/test_authors.py",
    r"export ": "tests/export",
    r"train \.\.\.": "part of a command",
    r".*\$part": "a loop of the shell",
    r"(synthesize|train|resize) .*(train,further|categories validation|val\b|aux)": (
        "hours: tests/tools/test_pretrained.py"
    ),
    r"train .*ViT-L-14-336 --pretrained": "a download of weights: tests/clip/test_load.py",
    r".*--runtime": "tests/export",
}
PYTHON_NOT_RUN = {
    "import pyarrow.dataset": "the results of Ray: tests/predict/ray",
    'create_model("local-dir:checkpoints': "tests/checkpoints/test_embedded.py",
}
PICTURES = ("photos", "sound", "good", "FOLDER", "SOUND", "PHOTOS", "MORE", "NORMALS", "NEW")
BRACKETS = FENCE.search((ROOT / "docs/datasets.md").read_text(encoding="utf-8"))[2]


@pytest.fixture
def world(tmp_path, monkeypatch, checkpoint_dir, clip_dir):
    """A folder with what the documents name; the working directory."""
    paint = Painter(tmp_path)
    for name in PICTURES:
        for index in range(20 if name == "NORMALS" else 3):
            paint.image(f"{name}/{index}.png")
    for name in ("part", "new", "sound-1", "sound-2"):
        paint.image(f"{name}.png")
    Image.new("L", SIZE, 255).save(tmp_path / "roi.png")
    triangle = [[0, 0], [SIZE[0], 0], [SIZE[0], SIZE[1]]]
    (tmp_path / "roi.json").write_text(
        json.dumps({"size": SIZE, "polygons": [triangle]}), encoding="utf-8"
    )
    for name in ("TREE", "OTHER", "TRAIN", "VALIDATION"):
        mvtec(Painter(tmp_path / name))
    for name in ("ROOT", "DATA"):
        mvtec(Painter(tmp_path / name / "mvtec_anomaly_detection"))
        visa(Painter(tmp_path / name / "VisA_20220922"))
    paint = Painter(tmp_path / "line3")
    paint.image("photos/ok/0.png")
    paint.image("photos/ng/bent/1.png")
    paint.mask("masks/1.png")
    card = BRACKETS.replace("/data/line3", str(tmp_path / "line3"))
    (tmp_path / "brackets.yaml").write_text(card, encoding="utf-8")
    for name in ("runs/a", "runs/b", "runs/visa", "runs/mvtec", "runs/whole"):
        shutil.copytree(checkpoint_dir, tmp_path / name)
    for part in ("flow", "specific", "agnostic", "attention"):
        shutil.copytree(checkpoint_dir, tmp_path / f"runs/without-{part}")
    for name in ("a", "b"):
        shutil.copytree(clip_dir, tmp_path / name)
    embedded = {load.DEFAULT_CHECKPOINT: Path(checkpoint_dir)}
    monkeypatch.setattr(load, "_embedded", embedded.get)
    validation = {"visa": ("candle",), "mvtec": ("bottle",)}  # of the categories that are here
    monkeypatch.setattr("bayes_pfl.train.run.AUTHORS_VALIDATION", validation)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_short(words, clip):
    """The words of a command, made to end soon."""
    extra = {"train": ["--backbone", f"local-dir:{clip}", "--image-size", "48", "--epochs", "1"]}
    extra["train"] += ["--epochs2", "0", "--steps-per-epoch", "1", "--accelerator", "cpu"]
    extra["synthesize"] = ["--size", "32", "--normals", "1", "--anomalies", "1"]
    return [*words, *extra.get(words[0], [])]


def runs(line):
    return not any(re.match(pattern, line) for pattern in NOT_RUN)


def in_fences(page):
    """Commands of the page's blocks, as they stand; those in running text are parts of some."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = "\n".join(code for language, code in FENCE.findall(text) if language != "python")
    lines = re.findall(r"^bayes-pfl ([^#\n]+)", blocks, re.M)
    return [" ".join(line.split()) for line in lines]


WITH_COMMANDS = [page for page in PAGES + OUTSIDE if any(map(runs, in_fences(page)))]


@pytest.mark.filterwarnings("ignore")
@named(WITH_COMMANDS)
def test_commands_run_one_after_the_other(page, world, clip_dir, capsys):
    lines = [shlex.split(line) for line in filter(runs, in_fences(page))]
    if not any(words[0] == "fit" for words in lines):
        assert command("fit", "NORMALS", "--class-name", "metal nut", "--out", "part") == 0
    for words in lines:
        if words[0] == "train":
            shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    for words in lines:
        code = command(*in_short(words, clip_dir))
        said = capsys.readouterr()
        findings = words[:2] == ["datasets", "check"]  # the trees here have few pictures
        ended = "\n".join((shlex.join(words), said.out[-2000:], said.err[-2000:]))
        assert code == 0 or (code == 1 and findings), ended


def test_every_reason_not_to_run_a_command_is_needed():
    lines = [line for page in PAGES + OUTSIDE for line in (*in_fences(page), *commands_in(page))]
    for pattern in NOT_RUN:
        assert any(re.match(pattern, line) for line in lines), pattern


@pytest.mark.filterwarnings("ignore")
@named([page for page in PAGES + OUTSIDE if python_in(page) and page.name != "anomalib.md"])
def test_python_runs(page, world, checkpoint_dir):
    """Blocks of a page share their names, as in a notebook. Those of anomalib.md run in
    tests/integrations, with anomalib."""
    from bayes_pfl import BayesPFL

    known = {"model": BayesPFL.from_pretrained("bayes-pfl-tiny")}
    for code in python_in(page):
        if not any(part in code for part in PYTHON_NOT_RUN):
            exec(compile(code, str(page), "exec"), known)
