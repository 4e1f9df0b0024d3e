"""report.html: what it holds, that it is safe to open, and that a person can work with it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.prediction import input_images, predict_folder
from bayes_pfl.progress import Silence
from bayes_pfl.report.html import NAME, Entry, Report, data_island, render, write_report
from bayes_pfl.report.pictures import FEW, PANELS, ReportPictures, picture_name, strip
from bayes_pfl.report.runs import read_run, report_of_run

from .browser import chromium, complaints, requested
from .commands import command

HOSTILE = (
    "<script>alert(1)<!--.png",
    "quote\" and 'blanks'  here.png",
    "ünï 日本 🔩.png",
    "&lt;b&gt;.png",
    "=1+1.png",
    "two\nlines.png",
    "${7*7}{{7*7}}.png",
)
FOLDER = "<img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """A run over pictures with hostile names, one of them broken."""
    base = tmp_path_factory.mktemp("report")
    images = base / "images"
    (images / FOLDER).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*HOSTILE, f"{FOLDER}/in.png", "tall.png"):
        shape = (60, 20, 3) if name == "tall.png" else (40, 60, 3)
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(images / name)
    (images / "<b>broken.png").write_bytes(b"nothing")
    predict_folder(tiny_model, images, base / "out", class_name="</script><b>nut", threshold=0.5)
    return base


def island(page: str) -> dict:
    """The data in a page."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text[1])


def entries(count: int) -> list[Entry]:
    """Images with scores k/count; every third is anomalous."""
    return [
        Entry(
            f"image {k:04}.png",
            group="even" if k % 2 == 0 else "odd",
            score=k / count,
            low=max(0.0, k / count - 0.1),
            high=min(1.0, k / count + 0.1),
            uncertainty=(k * 7 % count) / (2 * count),
            truth=int(k % 3 == 0),
        )
        for k in range(count)
    ]


def report(rows: list[Entry], threshold: float | None = 0.5) -> Report:
    return Report("test", "evaluation", rows, threshold, "chosen", (0.0, 1.0), "images.csv")


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
        tiny_model, run / "images", again, class_name="</script><b>nut", threshold=0.5, batch_size=3
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
    predict_folder(tiny_model, run / "images", tmp_path, class_name="nut", report=False)
    assert not (tmp_path / NAME).exists() and not (tmp_path / "report").exists()


def test_pictures_of_a_report_are_no_input(tiny_model, run, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (30, 30), "red").save(images / "a.png")
    out = images / "out"
    predict_folder(tiny_model, images, out, class_name="nut", overlays=False, maps="none")
    assert list((out / "report" / "pictures").glob("*.webp"))
    assert [path.name for path in input_images(images, tmp_path / "elsewhere")] == ["a.png"]


def test_many_images_stay_beside_the_page(tmp_path):
    rows = [replace(entry, picture=f"report/pictures/{k}.webp") for k, entry in
            enumerate(entries(FEW + 1))]  # fmt: skip
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


def test_pictures_of_other_settings_are_removed(tmp_path):
    pictures = ReportPictures(tmp_path, (0.0, 1.0), 1)
    pictures.prepare("one")
    values = np.zeros((4, 4), np.float32)
    name = picture_name("a.png")
    assert pictures.write(name, np.zeros((4, 4, 3), np.uint8), values, values) == ""
    own = pictures.folder / "own.webp"
    own.write_bytes(b"")
    pictures.prepare("one")
    assert (pictures.folder / name).is_file()
    pictures.prepare("two")
    assert not (pictures.folder / name).is_file() and own.is_file()
    assert pictures.write("no/folder.webp", np.zeros((4, 4)), values, values) != ""
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


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture
def opened(browser, tmp_path):
    """Open a report of 150 images, and wait for it."""

    def call(rows=None):
        path = write_report(tmp_path, report(entries(150) if rows is None else rows))
        browser.get(path.as_uri())
        assert browser.execute_script("return document.documentElement.dataset.ready") == "true"
        return browser

    return call


def names(driver) -> list[str]:
    script = "return [...document.querySelectorAll('.tile .name')].map((e) => e.textContent)"
    return driver.execute_script(script)


def counts(driver) -> list[str]:
    script = "return [...document.querySelectorAll('#counts b')].map((e) => e.textContent)"
    return driver.execute_script(script)


def counted(driver, *expected: str) -> None:
    """Wait until the first counts are these."""
    script = "return [...document.querySelectorAll('#counts b')].map((e) => e.textContent)"
    wait(driver, f"{script}.slice(0, {len(expected)}).join() === {json.dumps(','.join(expected))}")


def choose(driver, select: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("id", select)).select_by_visible_text(text)


def wait(driver, script: str) -> None:
    """Until the script gives something true."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 5).until(lambda _: driver.execute_script(script))


def settle(driver) -> None:
    """Wait until the next picture has been drawn."""
    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )


def test_browser_shows_hostile_names_and_runs_nothing(browser, run):
    browser.get((run / "out" / NAME).as_uri())
    browser.get_log("performance")
    browser.refresh()
    settle(browser)
    assert complaints(browser) == []
    assert set(HOSTILE) | {f"{FOLDER}/in.png", "tall.png"} <= set(names(browser))
    assert "</script><b>nut" in browser.find_element("tag name", "h1").text
    for selector, expected in (("script", 2), ("h1 *", 0), (".name *", 0)):
        assert len(browser.find_elements("css selector", selector)) == expected
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.tile img')].map((e) => e.naturalWidth)"
    )
    assert len(widths) == 9 and min(widths) > 0
    page = (run / "out" / NAME).as_uri()
    assert {url for url in requested(browser) if not url.startswith("data:")} == {page}


def test_browser_sorts(opened):
    driver = opened()
    assert names(driver)[:2] == ["image 0149.png", "image 0148.png"]
    choose(driver, "sort", "lowest score")
    assert names(driver)[:2] == ["image 0000.png", "image 0001.png"]
    choose(driver, "sort", "most uncertain")
    expected = sorted(entries(150), key=lambda e: -e.uncertainty)
    assert names(driver)[:5] == [entry.name for entry in expected[:5]]
    choose(driver, "sort", "nearest the threshold")
    assert names(driver)[0] == "image 0075.png"
    assert complaints(driver) == []


def test_browser_moves_the_threshold_and_counts_follow(opened):
    from selenium.webdriver.common.keys import Keys

    driver = opened()
    # 150 scores k/150: k >= 75 are flagged; of 50 anomalous ones those with k >= 75 are 25.
    assert counts(driver)[:2] == ["75", "75"]
    assert counts(driver)[3:] == ["50.0% (25 of 50)", "50.0% (50 of 100)", "25"]
    slider = driver.find_element("id", "threshold")
    slider.send_keys(Keys.HOME)
    counted(driver, "150", "0")
    slider.send_keys(Keys.END)
    counted(driver, "0", "150")
    slider.send_keys(Keys.ARROW_LEFT)
    assert float(slider.get_attribute("value")) == pytest.approx(0.999, abs=1e-6)
    box = driver.find_element("id", "threshold-number")
    box.clear()
    box.send_keys("0.9")
    counted(driver, "15", "135")
    driver.find_element("id", "histogram").click()  # its middle
    settle(driver)
    middle = float(slider.get_attribute("value"))
    assert counts(driver)[0] == str(sum(entry.score >= middle for entry in entries(150)))
    assert 0.4 < middle < 0.6
    driver.find_element("id", "threshold-reset").click()
    counted(driver, "75", "75")
    assert complaints(driver) == []


def test_browser_filters_gallery_and_table(opened):
    driver = opened()
    box = driver.find_element("id", "filter")
    box.send_keys("EVEN 014")
    found = ["image 0014.png", *(f"image 014{k}.png" for k in (0, 2, 4, 6, 8))]
    assert sorted(names(driver)) == found
    assert driver.find_element("id", "shown").text == "6 of 150"
    driver.find_element("css selector", "#view input[value=table]").send_keys(" ")
    rows = "return [...document.querySelectorAll('#table tbody tr')].map((e) => e.textContent)"
    assert len(driver.execute_script(rows)) == 6
    driver.find_element("css selector", "th[data-key=name] button").click()
    assert driver.execute_script(rows)[0].startswith("image 0014.png")
    sort = driver.find_element("css selector", "th[data-key=name]").get_attribute("aria-sort")
    assert sort == "ascending"
    box.send_keys(" nowhere")
    assert driver.find_element("id", "nothing").is_displayed()
    driver.find_element("id", "clear").click()
    assert driver.find_element("id", "shown").text == "150 of 150"
    choose(driver, "show", "false alarms")
    assert driver.find_element("id", "shown").text == "50 of 150"
    assert complaints(driver) == []


def test_browser_card_by_keyboard(opened, run):
    from selenium.webdriver.common.keys import Keys

    driver = opened(read_run(run / "out").entries)
    driver.get((run / "out" / NAME).as_uri())
    first, second = names(driver)[:2]
    driver.execute_script("document.querySelector('.tile').focus()")
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    title = driver.find_element("id", "card-name")
    shown = "return document.getElementById('card-name').textContent"
    wait(driver, f"{shown} === {json.dumps(first)}")
    assert title.is_displayed()
    assert driver.switch_to.active_element.get_attribute("id") == "card-close"
    driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    wait(driver, f"{shown} === {json.dumps(second)}")
    driver.find_element("id", "card-fade").send_keys(Keys.HOME)
    wait(driver, "return getComputedStyle(document.querySelector('#card-stage .top')).opacity == 0")
    alt = "return document.querySelector('#card-stage .top img').alt"
    driver.find_element("css selector", "#card-layer input[value='3']").send_keys(" ")
    wait(driver, f"{alt} === {json.dumps(f'uncertainty of {second}')}")
    link = driver.find_element("id", "card-link").get_attribute("href")
    assert link.startswith((run / "out" / "overlays").as_uri() + "/")
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait(driver, "return document.activeElement.className.startsWith('tile')")
    assert not title.is_displayed()
    focused = "return document.activeElement.querySelector('.name').textContent"
    assert driver.execute_script(focused) == second
    assert complaints(driver) == []


def test_browser_draws_more_as_one_scrolls(opened):
    driver = opened()
    assert len(names(driver)) == 60
    driver.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    wait(driver, "return document.querySelectorAll('.tile').length > 60")
    choose(driver, "show", "flagged")
    assert len(names(driver)) >= 60 and driver.find_element("id", "shown").text == "75 of 150"


def test_browser_fetches_pictures_beside_the_page(opened, tmp_path):
    pictures = ReportPictures(tmp_path, (0.0, 1.0), FEW + 1)
    pictures.prepare()
    values = np.zeros((9, 9), np.float32)
    name = picture_name("all of them")
    assert pictures.write(name, np.zeros((30, 20, 3), np.uint8), values, values) == ""
    shown = f"report/pictures/{name}"
    driver = opened([replace(entry, picture=shown) for entry in entries(FEW + 1)])
    wait(driver, "return document.querySelector('.tile img').naturalWidth == 80")
    assert complaints(driver) == []


def test_browser_survives_a_run_without_any_score(opened):
    driver = opened([Entry("a.png", error="not an image")])
    assert names(driver) == ["a.png"] and complaints(driver) == []
    assert counts(driver) == ["0", "0", "1"]


class Memory(Silence):
    """Resident memory, in MiB, at every image that is done."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def advance(self, done, figures):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.at.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_five_thousand_images(tiny_model, tmp_path):
    """Memory does not grow with their number, and the page opens in less than three seconds."""
    images, rng = tmp_path / "images", np.random.default_rng(0)
    images.mkdir()
    for index in range(5000):
        coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        coarse.resize((96, 96), Image.Resampling.BICUBIC).save(images / f"part {index:05}.jpg")
    memory = Memory()
    options = {"overlays": False, "maps": "none", "batch_size": 32, "progress": memory}
    predict_folder(tiny_model, images, tmp_path / "out", class_name="part", **options)
    growth = max(memory.at[1000:]) - max(memory.at[:1000])
    with chromium() as driver:
        started = time.perf_counter()
        driver.get((tmp_path / "out" / NAME).as_uri())
        settle(driver)
        seconds = time.perf_counter() - started
        wait(driver, "return document.querySelector('.tile img').naturalWidth > 0")
        assert len(names(driver)) == 60 and complaints(driver) == []
        started = time.perf_counter()
        choose(driver, "sort", "name")
        settle(driver)
        sorting = time.perf_counter() - started
    size = (tmp_path / "out" / NAME).stat().st_size / 2**20
    print(f"\nafter 5,000 images {growth:.0f} MiB more than after 1,000 ({memory.at[-1]:.0f} MiB)")
    print(f"page of {size:.1f} MiB opened in {seconds:.2f} s, sorted in {sorting:.2f} s")
    assert growth < 50 and seconds < 3
