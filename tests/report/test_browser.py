"""The report in a browser: hostile names, sorting, the threshold, filters, cards, scrolling."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.report.html import NAME, ReportEntry, write_report
from bayes_pfl.report.pictures import FEW, ReportPictures, picture_name
from bayes_pfl.report.runs import read_run
from bayes_pfl.report.zoom import ZoomFolder, zoom_path
from bayes_pfl.support.progress import NullProgress
from tests.helpers.browser import chromium, complaints, requested
from tests.helpers.folders import arguments
from tests.helpers.reports import FOLDER, HOSTILE, entries, hostile_run, report


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """Folder of a run over pictures with hostile names."""
    base = tmp_path_factory.mktemp("report")
    hostile_run(tiny_model, base)
    return base


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
    # 150 scores k/150: k >= 75 are NOK; of 50 anomalous ones those with k >= 75 are 25.
    assert counts(driver)[:3] == ["75", "75", "7"]
    assert counts(driver)[3:] == ["50.0% (25 of 50)", "50.0% (50 of 100)", "25"]
    slider = driver.find_element("id", "threshold")
    slider.send_keys(Keys.HOME)
    counted(driver, "150", "0", "0")  # what to review is known of the run's threshold alone
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
    counted(driver, "75", "75", "7")
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


def test_browser_card_shows_the_strongest_regions(opened, tmp_path):
    name = "report/pictures/0.crops.webp"
    (tmp_path / "report" / "pictures").mkdir(parents=True)
    Image.new("RGB", (240, 280), "red").save(tmp_path / name)
    high, low = ReportEntry("a.png", score=0.9, crops=name), ReportEntry("b.png", score=0.1)
    driver = opened([high, low])
    figure = driver.find_element("id", "card-crops")
    for index, shown in enumerate((True, False)):
        driver.execute_script("document.querySelectorAll('.tile')[arguments[0]].click()", index)
        wait(driver, "return document.getElementById('card').open")
        assert figure.is_displayed() == shown
        if shown:
            wait(driver, "return document.querySelector('#card-crops img').naturalWidth === 240")
        driver.execute_script("document.getElementById('card').close()")
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


def large(folder, copy: bool) -> ReportEntry:
    """An image of 4200 x 1100 pixels, of which the page has a small picture."""
    name, size, values = picture_name("large"), (4200, 1100), np.zeros((9, 9), np.float32)
    pictures = ReportPictures(folder, (0.0, 1.0), 1)
    pictures.prepare()
    assert pictures.write(name, np.zeros((100, 382, 3), np.uint8), values, values) is None
    assert ZoomFolder(folder).write(name, Image.new("RGB", size, "red").crop, size) is None
    path = zoom_path(name) if copy else ""
    return ReportEntry(
        "a.png", score=0.9, size="4200×1100", picture=f"report/pictures/{name}", zoom=path
    )


def zoomed(driver) -> list[str]:
    """Opens the zoom of the only image; the names of the files it shows once they are loaded."""
    driver.execute_script("document.querySelector('.tile').click()")
    driver.find_element("css selector", "#card-stage .top").click()
    wait(driver, "return document.getElementById('zoom-plane').offsetWidth > 99")
    return shown_tiles(driver)


def shown_tiles(driver) -> list[str]:
    tiles = "[...document.querySelectorAll('#zoom-tiles img')]"
    wait(driver, f"return {tiles}.every((e) => e.naturalWidth > 0)")
    return driver.execute_script(f"return {tiles}.map((e) => e.src.split('/').pop())")


def test_browser_zooms_into_the_full_picture(opened, tmp_path):
    from selenium.webdriver.common.keys import Keys

    driver = opened([large(tmp_path, copy=True)])
    assert sorted(zoomed(driver)) == ["1-0-0.jpg", "1-1-0.jpg", "1-2-0.jpg", "2-0-0.jpg",
                                      "2-1-0.jpg", "3-0-0.jpg"]  # fmt: skip
    scale = "return parseFloat(document.getElementById('zoom-scale').textContent)"
    assert 20 < driver.execute_script(scale) < 40
    driver.find_element("id", "zoom-full").click()
    assert driver.execute_script(scale) == 100
    assert {"0-1-0.jpg", "0-2-0.jpg"} <= set(shown_tiles(driver))
    left = "return document.getElementById('zoom-plane').offsetLeft"
    before = driver.execute_script(left)
    driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert driver.execute_script(left) == before - 80
    driver.switch_to.active_element.send_keys("0" + Keys.ESCAPE)
    assert not driver.find_element("id", "zoom").is_displayed()
    assert driver.find_element("id", "card").is_displayed()
    assert complaints(driver) == []


def test_browser_zoom_says_where_there_is_no_full_picture(opened, tmp_path):
    note = "return document.getElementById('zoom-note').textContent"
    assert zoomed(driver := opened([large(tmp_path, copy=False)])) == []
    assert "the run kept no full picture" in driver.execute_script(note)
    driver = opened([large(tmp_path, copy=True)])
    shutil.rmtree(tmp_path / "report" / "zoom")
    driver.refresh()
    zoomed(driver)
    wait(driver, f"{note}.includes('not beside this page')")
    assert shown_tiles(driver) == []  # no broken picture
    assert all("ERR_FILE_NOT_FOUND" in text for text in complaints(driver))


def test_browser_page_is_no_wider_than_a_phone(opened, tmp_path):
    driver = opened([large(tmp_path, copy=True), *entries(5)])
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        driver.refresh()
        driver.find_element("css selector", "#view input[value=table]").send_keys(" ")
        frame = "const e = document.getElementById('table-frame');"
        assert driver.execute_script(f"{frame} return [e.scrollWidth - e.clientWidth]") == [0]
        driver.find_element("css selector", "#view input[value=gallery]").send_keys(" ")
        wide = "return [document.documentElement.scrollWidth, window.innerWidth]"
        for chosen in (".tile", "#card-zoom"):
            assert driver.execute_script(wide) == [390, 390]
            driver.find_element("css selector", chosen).click()
        assert driver.execute_script(wide) == [390, 390]
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_browser_draws_more_as_one_scrolls(opened):
    driver = opened()
    assert len(names(driver)) == 60
    driver.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    wait(driver, "return document.querySelectorAll('.tile').length > 60")
    choose(driver, "show", "NOK")
    assert len(names(driver)) >= 60 and driver.find_element("id", "shown").text == "75 of 150"


def test_browser_fetches_pictures_beside_the_page(opened, tmp_path):
    pictures = ReportPictures(tmp_path, (0.0, 1.0), FEW + 1)
    pictures.prepare()
    values = np.zeros((9, 9), np.float32)
    name = picture_name("all of them")
    assert pictures.write(name, np.zeros((30, 20, 3), np.uint8), values, values) is None
    shown = f"report/pictures/{name}"
    driver = opened([replace(entry, picture=shown) for entry in entries(FEW + 1)])
    wait(driver, "return document.querySelector('.tile img').naturalWidth == 80")
    assert complaints(driver) == []


def test_browser_survives_a_run_without_any_score(opened):
    driver = opened([ReportEntry("a.png", error="not an image")])
    assert names(driver) == ["a.png"] and complaints(driver) == []
    assert counts(driver) == ["0", "0", "1"]


class Memory(NullProgress):
    """Resident memory, in MiB, at every image that is done."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def advance(self, done, figures):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.at.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_five_thousand_images(tiny_model, tmp_path):
    """Memory does not grow with their number, nor does what the page draws at once."""
    images, rng = tmp_path / "images", np.random.default_rng(0)
    images.mkdir()
    for index in range(5000):
        coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        coarse.resize((96, 96), Image.Resampling.BICUBIC).save(images / f"part {index:05}.jpg")
    memory = Memory()
    options = {"overlays": False, "maps": "none", "batch_size": 32, "progress": memory}
    predict_folder(tiny_model, images, tmp_path / "out", class_name="part", **arguments(**options))
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
    assert growth < 50
