"""The app: what it makes of files, what it refuses, and a person's way through it in a browser."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import socket
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.app import server as app_module
from bayes_pfl.app.inspection import InspectionRequest
from bayes_pfl.app.server import AppSettings, Inspector, check_installed, free_port
from bayes_pfl.app.uploads import Uploads
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.fit import fit_profile
from bayes_pfl.fit.profile_files import load_profile, save_profile
from tests.app.client import serving
from tests.fit.test_references import spotted, texture
from tests.helpers.browser import chromium, complaints, requested
from tests.helpers.commands import command
from tests.helpers.stacks import stack

HOSTILE = "<img src=x onerror=alert(1)>.png"
needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two pictures, the second with a hostile name, and a broken one between them."""
    folder = tmp_path_factory.mktemp("app images")
    rng = np.random.default_rng(0)
    for name in ("a part.png", HOSTILE):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"nothing")
    return [str(folder / name) for name in ("a part.png", "broken.png", HOSTILE)]


@pytest.fixture(scope="module")
def inspector(checkpoint_dir):
    return Inspector(AppSettings((str(checkpoint_dir),), device="cpu"))


def wish(inspector, **changes):
    values = {"checkpoint": inspector.settings.checkpoints[0], "class_name": "part"}
    return InspectionRequest(**(values | changes))


def test_results_are_those_of_predict_in_order(inspector, files):
    done = list(inspector.inspect(files, wish(inspector, samples=2, threshold=0.0)))
    assert [item.name for item in done] == ["a part.png", "broken.png", HOSTILE]
    assert "not an image" in done[1].error and done[1].result is None
    model = BayesPFL.from_pretrained(wish(inspector).checkpoint, device="cpu")
    for item, path in ((done[0], files[0]), (done[2], files[2])):
        expected = model.predict(path, "part", samples=2)
        assert item.result.score == pytest.approx(expected.score, abs=1e-5)
        low, high = item.result.interval
        assert low <= item.result.score <= high and item.result.label == 1
        assert item.overlay.width > 3 * 60


@pytest.fixture(scope="module")
def part(tiny_model, checkpoint_dir, tmp_path_factory):
    """A folder with a profile of 24 textures, a further one and one with a spot; an inspector."""
    folder = tmp_path_factory.mktemp("part")
    known = [Image.fromarray(texture(seed)) for seed in range(24)]
    save_profile(fit_profile(tiny_model, known, "part"), folder / "profile")
    for name, pixels in (("sound.png", texture(90)), ("spot.png", spotted(91))):
        Image.fromarray(pixels).save(folder / name)
    settings = AppSettings((str(checkpoint_dir),), device="cpu", profile=folder / "profile")
    return folder, Inspector(settings)


def test_an_anomalous_image_is_shown_next_to_what_is_normal(part):
    folder, own = part
    paths = [str(folder / name) for name in ("sound.png", "spot.png")]
    sound, spot = own.inspect(
        paths, wish(own, class_name="", samples=3, profile=folder / "profile")
    )
    assert (sound.result.label, sound.near) == (0, None)
    found = spot.result.nearest_normal
    assert spot.result.label == 1 and found.distance > 0
    seen = np.asarray(spot.near, np.float32)  # two squares with a gap of 8 between them
    regions = seen[:200, :200], seen[:200, 208:]
    sources = (spot.result.image, found.box), (found.picture, found.reference_box)
    for region, (image, box) in zip(regions, sources, strict=True):
        wanted = np.asarray(image.crop(box).resize((200, 200)), np.float32)
        assert np.abs(region - wanted).mean() < 12
    assert np.abs(regions[0] - regions[1]).mean() > 20


@needs_gradio
def test_the_gallery_says_how_far_what_is_normal_lies(part, tmp_path):
    from bayes_pfl.app.page import _answer

    folder, own = part
    kept = Uploads(tmp_path, max_bytes=10**6)
    path = str(shutil.copy(folder / "spot.png", tmp_path))
    kept.add(path, "me")
    asked = (path,), "", "", own.settings.checkpoints[0], 3, "profile"
    *_, (said, _, pictures, _) = _answer(own, kept, "me", *asked)
    assert said.startswith("Done: 1 scored")
    (_, first), (file, second) = pictures
    assert "NOK" in first and second.startswith("most anomalous place")
    assert second.endswith("apart") and kept.check(file, "me").is_file()


def test_only_broken_files(inspector, files):
    (item,) = inspector.inspect(files[1:2], wish(inspector))
    assert item.error and item.result is None


@pytest.mark.parametrize(
    "limits, reason",
    [({"max_bytes": 500}, "MiB, at most"), ({"max_pixels": 2000}, "pixels")],
)
def test_large_files_are_refused_and_the_others_done(inspector, files, limits, reason, tmp_path):
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    limited = Inspector(AppSettings(inspector.settings.checkpoints, device="cpu", **limits))
    refused, done = limited.inspect([files[0], str(small)], wish(inspector))
    assert reason in refused.error and done.result is not None


def test_refusals(inspector, files):
    few = Inspector(AppSettings(inspector.settings.checkpoints, max_files=2))
    with pytest.raises(ConfigError, match="3 images: 2 at once"):
        list(few.inspect(files, wish(inspector)))
    with pytest.raises(DataError, match="no class name"):
        list(inspector.inspect(files, wish(inspector, class_name=" ")))
    with pytest.raises(ConfigError, match="'elsewhere': choose one of"):
        list(inspector.inspect(files, wish(inspector, checkpoint="elsewhere")))
    assert not inspector._lock.locked()


def test_one_clear_line_without_gradio(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'gradio>=6'"):
        check_installed()
    assert command("app", "--no-browser") == 2
    assert capsys.readouterr().err.count("error: gradio is not installed") == 1


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind((app_module.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is taken"):
            free_port(port)
        assert free_port(None) != port


@pytest.fixture(scope="module")
def served(inspector):
    """The page, served; gives its address."""
    with serving(inspector) as running:
        yield running.address


@needs_gradio
def test_answers_to_its_own_name_only(served):
    import urllib.error
    import urllib.request

    answer = urllib.request.urlopen(served)
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    foreign = urllib.request.Request(served, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(foreign)


@needs_gradio
def test_other_computers_reach_the_page_with_its_token_alone(checkpoint_dir):
    token, host = "0123456789abcdef", {"Host": "box.local:7860"}
    settings = AppSettings((str(checkpoint_dir),), device="cpu", token=token)
    basic = {"Authorization": "Basic " + base64.b64encode(f"me:{token}".encode()).decode()}
    foreign = {"Origin": "https://evil.example"}
    with serving(Inspector(settings), host="0.0.0.0") as running:
        address = running.address
        assert status(address, host) == 401 and status(f"{address}/config", host) == 401
        assert status(address, host | {"Authorization": "Bearer fedcba9876543210"}) == 401
        assert status(address, host | basic) == status(f"{address}/config", basic) == 200
        assert status(address, host | basic | foreign) == 403
    assert token not in repr(settings)
    with pytest.raises(ConfigError, match="open to other computers"):
        app_module.run_app(replace(settings, token=None), host="0.0.0.0", browser=False)


@needs_gradio
def test_requests_of_other_origins_are_refused(served):
    assert status(served, {"Origin": served}) == 200
    assert status(served, {"Origin": "https://evil.example"}) == 403
    assert status(served, {"Origin": "http://127.0.0.1:1"}) == 403


@needs_gradio
def test_an_overlay_that_is_shown_is_not_written_again(inspector, files, tmp_path):
    """A browser may be fetching it while the next image is answered."""
    from gradio.components import Gallery

    from bayes_pfl.app.page import _answer

    kept = Uploads(tmp_path, max_bytes=10**6)
    pictures = [str(shutil.copy(f, tmp_path / f"{i}.png")) for i, f in enumerate(files[::2])]
    for path in pictures:
        kept.add(path, "me")
    asked, gallery, seen = (inspector.settings.checkpoints[0], 1, "no profile"), Gallery(), []
    for _, _, overlays, _ in _answer(inspector, kept, "me", pictures, "part", "", *asked):
        shown = [item.image.path for item in gallery.postprocess(overlays).root]
        seen.append({path: os.stat(path).st_mtime_ns for path in shown})
    assert [len(one) for one in seen] == [1, 2, 2]
    assert seen[0].items() <= seen[1].items() and seen[1] == seen[2]


def test_a_stack_shows_its_first_page_and_says_so(inspector, tmp_path):
    path = stack(tmp_path / "a.tif", 3)
    (item,) = inspector.inspect([str(path)], wish(inspector, samples=2))
    assert item.name == "a.tif (first of its pages)" and item.result is not None


def test_time_has_a_limit(inspector, files):
    hasty = Inspector(AppSettings(inspector.settings.checkpoints, device="cpu", max_seconds=0.0))
    done = hasty.inspect([files[0], files[2]], wish(inspector))
    assert next(done).result is not None
    with pytest.raises(ConfigError, match="more than 0 seconds: give fewer images"):
        next(done)
    assert not hasty._lock.locked()


def status(address, headers=None, data=None) -> int:
    """The HTTP status of a request."""
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(address, data, headers or {})
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


@needs_gradio
def test_upload_in_a_browser(served, files):
    with chromium() as browser:
        browser.get(served)
        wait(browser, "document.querySelector('#files input[type=file]')")
        inspect(browser, "No images")
        browser.find_element("css selector", "#files input[type=file]").send_keys("\n".join(files))
        wait(browser, "document.getElementById('files').textContent.includes('broken')")
        inspect(browser, "Stopped after 0 of 3: no class name")
        box(browser, "name").send_keys("part")
        box(browser, "threshold").send_keys("high")
        inspect(browser, "Stopped after 0 of 3: threshold 'high'")
        box(browser, "threshold").clear()
        box(browser, "threshold").send_keys("0.0")
        inspect(browser, "Done: 2 scored, 1 could not be read.")
        loaded = (
            "[...document.querySelectorAll('#overlays img')].filter((e) => e.naturalWidth > 180)"
        )
        wait(browser, f"{loaded}.length === 2")
        table = "document.getElementById('table').innerText"
        for text in ("NOK", "not an image", " to 0."):
            wait(browser, f"{table}.includes('{text}')")
        assert not browser.find_elements("css selector", "img[src='x']")
        assert [text for text in complaints(browser) if "not implemented" not in text] == []
        foreign = [u for u in requested(browser) if not u.startswith((served, "data:", "blob:"))]
        assert foreign == []


@needs_gradio
def test_a_profile_is_fitted_without_a_folder_for_profiles(served, files):
    with chromium() as browser:
        browser.get(served)
        wait(browser, "document.querySelector('#files input[type=file]')")
        browser.execute_script("document.querySelectorAll('button[role=tab]')[1].click()")
        wait(browser, "document.querySelector('#sound input[type=file]')")
        press(browser, "fit", "fit-status", "No pictures")
        browser.find_element("css selector", "#sound input").send_keys(files[0])
        wait(browser, "document.getElementById('sound').textContent.includes('a part')")
        press(browser, "fit", "fit-status", "Done: a profile of one picture,")
        chosen = "document.querySelector('#profile input').value"
        wait(browser, f"{chosen} === 'the one fitted here'")


@needs_gradio
def test_a_profile_is_fitted_kept_and_used_on_a_phone(checkpoint_dir, tmp_path):
    for seed in range(4):
        Image.fromarray(texture(seed)).save(tmp_path / f"{seed}.png")
    pictures = [str(tmp_path / f"{seed}.png") for seed in range(4)]
    settings = AppSettings((str(checkpoint_dir),), device="cpu", profiles=tmp_path / "shelf")
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    fields = "document.querySelector('#{} textarea, #{} input').value"
    with serving(Inspector(settings)) as running, chromium() as browser:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(running.address)
        wait(browser, "document.querySelector('#files input[type=file]')")
        browser.execute_script("document.querySelectorAll('button[role=tab]')[1].click()")
        wait(browser, "document.querySelector('#sound input[type=file]')")
        press(browser, "fit", "fit-status", "No pictures")
        browser.find_element("css selector", "#sound input").send_keys("\n".join(pictures[:3]))
        wait(browser, "/2\\s*[.]png/.test(document.getElementById('sound').textContent)")
        box(browser, "part").send_keys("cloth")
        box(browser, "save-as").send_keys("../up")
        press(browser, "fit", "fit-status", "Not fitted: name '../up': give letters")
        box(browser, "save-as").clear()
        box(browser, "save-as").send_keys("cloth 1")
        press(browser, "fit", "fit-status", "Done: a profile of 3 pictures")
        wait(browser, "document.querySelector('#fit-kept a[download]')")
        assert load_profile(tmp_path / "shelf" / "cloth 1").class_name == "cloth"
        assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["shelf"]
        wait(browser, fields.format("name", "name") + " === 'cloth'")
        wait(browser, fields.format("profile", "profile") + " === 'cloth 1'")
        browser.find_element("css selector", "#files input").send_keys(pictures[3])
        wait(browser, "document.getElementById('files').textContent.includes('3')")
        inspect(browser, "Done: 1 scored")
        wait(browser, "document.querySelectorAll('#kept a[download]').length === 2")
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
        browser.refresh()  # the choice is that of the folder, not of the start
        wait(browser, "document.querySelector('#profile input')")
        browser.find_element("css selector", "#profile input").click()
        wait(browser, "document.body.innerText.includes('cloth 1')")
        assert [text for text in complaints(browser) if "not implemented" not in text] == []


def press(browser, button: str, status: str, expected: str) -> None:
    browser.execute_script(f"document.getElementById('{button}').click()")
    shown = f"document.querySelector('#{status} textarea, #{status} input').value"
    wait(browser, f"{shown}.startsWith({json.dumps(expected)})")


def box(browser, name: str):
    return browser.find_element("css selector", f"#{name} textarea, #{name} input")


def wait(browser, expression: str) -> None:
    """Until a JavaScript expression holds: elements come and go while the page is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda b: b.execute_script(f"return {expression}"))


def inspect(browser, status: str) -> None:
    """Press the button and wait for a status that begins so."""
    press(browser, "go", "status", status)
