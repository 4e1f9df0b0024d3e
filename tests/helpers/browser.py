"""A headless Chromium for the tests of pages; without one they are skipped, and say so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # for root in a container; the pages are the tests' own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1400,1000",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """A Selenium driver that records the console and the network; skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for switch in _SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def complaints(browser: Any) -> list[str]:
    """What the page wrote to the console: errors, refusals of the content security policy."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def requested(browser: Any) -> list[str]:
    """Every address that the page has asked for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
