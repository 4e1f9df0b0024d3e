"""Attacks on the app, through HTTP as a client would send them; docs/robustness.md lists them."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.app import gate, server
from bayes_pfl.app.inspection import AppSettings, Inspector
from tests.app.client import JSON, META, Client, serving
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed"
)
ALIVE = "/gradio_api/app_id"  # an answer that takes no time
NOT_OURS = "not a file that was dropped here"


def png(seed: int = 0) -> bytes:
    """A picture."""
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def inspector(checkpoint_dir):
    return Inspector(AppSettings((str(checkpoint_dir),), device="cpu"))


@pytest.fixture(scope="module")
def served(inspector):
    with serving(inspector) as running:
        yield running


@pytest.fixture
def client(served):
    return Client(served)


@pytest.fixture
def secret(tmp_path):
    """An image of the disk that was never uploaded."""
    path = tmp_path / "secret.png"
    path.write_bytes(png(7))
    return path


def link(place: Path, target: Path) -> str:
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    return str(place)


def pipe(place: Path) -> str:
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    return str(place)


# What a request names: its kind, and the path, made from an own upload and the secret image.
NAMED = {
    "an image of the disk": lambda own, secret: str(secret),
    "an image by a relative path": lambda own, secret: os.path.relpath(secret),
    "another file of the disk": lambda own, secret: str(ROOT / "pyproject.toml"),
    "a system file": lambda own, secret: "/etc/passwd",
    ".. from an upload": lambda own, secret: f"{own.parent}/../../../..{secret}",
    "an upload by a detour": lambda own, secret: f"{own.parent}/../{own.parent.name}/{own.name}",
    "a device": lambda own, secret: "/dev/zero",
    "a named pipe": lambda own, secret: pipe(secret.with_name("pipe.png")),
    "a folder": lambda own, secret: str(own.parent),
    "a link among the uploads": lambda own, secret: link(own.with_name("link.png"), secret),
    "a pipe among the uploads": lambda own, secret: pipe(own.with_name("pipe.png")),
    "an upload replaced by a link": lambda own, secret: link(own, secret),
    "an upload replaced by a pipe": lambda own, secret: pipe(own),
    "file:// of an image": lambda own, secret: f"file://{secret}",
    "file:// of an upload": lambda own, secret: f"file://{own}",
    "an address of this computer": lambda own, secret: "http://127.0.0.1:1/a.png",
    "an address of the network": lambda own, secret: "https://example.com/a.png",
    "base64 in place of a path": lambda own, secret: "data:image/png;base64,iVBORw0KGgo=",
    "a path with a zero byte": lambda own, secret: f"{secret}\0.png",
    "a path of 100,000 characters": lambda own, secret: "/" + "a" * 100_000 + ".png",
    "an empty path": lambda own, secret: "",
}


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("way", ["queue", "file"])
def test_a_file_that_was_not_uploaded(served, client, secret, kind, way):
    """Refused at once, nothing is copied, and the app goes on answering."""
    path = NAMED[kind](Path(client.uploaded(png(), f"own {len(kind)}.png")), secret)
    before = served.kept()
    if way == "queue":
        answer = client.ask(path)
        assert (answer.status, answer.detail[-len(NOT_OURS) :]) == (403, NOT_OURS)
    else:
        quoted = "".join(c if c.isalnum() or c in "/:." else f"%{ord(c):02x}" for c in path)
        assert client.send("GET", f"/gradio_api/file={quoted[:8000]}").status == 403
    assert served.kept() == before
    assert client.send("GET", ALIVE, timeout=5).status == 200


def test_the_page_of_robustness_lists_these_kinds():
    page = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    part = page.split("\n## Requests to the app\n")[1].split("\n## ")[0]
    assert [kind for kind in (*NAMED, *ENTRIES, *BODIES) if kind not in part] == []


def test_the_path_through_another_spelling_of_the_address(client, secret):
    body = json.dumps(client.question({"path": str(secret), "meta": META}))
    for path in ("/gradio_api/queue%2Fjoin", "/gradio%5Fapi/queue/join"):
        assert client.send("POST", path, body, JSON).status == 403


ENTRIES = {
    "no path but base64": lambda own: {"data": "data:image/png;base64,iVBORw0KGgo=", "meta": META},
    "a number for a path": lambda own: {"path": 3, "meta": META},
    "a list for a path": lambda own: {"path": [own], "meta": META},
    "a text for a file": lambda own: own,
    "a file within a list": lambda own: [{"path": own, "meta": META}],
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_entry_that_is_no_file(client, kind):
    own = client.uploaded(png())
    answer = client.send(
        "POST", "/gradio_api/queue/join", json.dumps(client.question(ENTRIES[kind](own))), JSON
    )
    assert answer.status == 400 and "path of an upload" in answer.detail


def test_of_an_entry_only_the_path_counts(served, client, secret):
    """An address in it is not fetched, a name in it not opened."""
    own = client.uploaded(png())
    with socket.create_server((server.HOST, 0)) as listener:
        listener.settimeout(0.1)
        address = "http://{}:{}/a.png".format(*listener.getsockname())
        for more in (
            {"url": address},
            {"url": f"file://{secret}"},
            {"url": address, "is_stream": True},
            {"orig_name": str(secret), "mime_type": "text/html", "size": -1},
        ):
            assert "Done: 1 scored" in client.results({"path": own, "meta": META, **more})
        with pytest.raises(TimeoutError):
            listener.accept()
    assert not any(name.endswith("secret.png") for name in served.kept())


def test_another_visitors_files(served, client, secret):
    own = client.uploaded(png())
    told = client.results(own)
    paths = {part.split('"')[0] for part in told.split('{"path":"')[1:]}
    (overlay,) = (path for path in paths if path.endswith(".webp"))
    table, page = sorted(paths - {overlay})
    assert (Path(table).name, Path(page).name) == ("predictions.csv", "report.html")
    served_page = client.send("GET", f"/gradio_api/file={quote(page)}")
    assert served_page.body.startswith(b"<!DOCTYPE html>")
    assert served_page.headers["content-disposition"].startswith("attachment")
    for other in (Client(served), Client(served, cookie=""), Client(served, "bayes-pfl-visitor=x")):
        assert other.ask(own).status == 403
        assert other.send("GET", f"/gradio_api/file={own}").status == 403
        for path in (overlay, table, page):
            assert other.send("GET", f"/gradio_api/file={quote(path)}").status == 403
    assert client.send("GET", f"/gradio_api/file={own}").body == png()
    assert client.send("GET", f"/gradio_api/file={overlay}").body[8:12] == b"WEBP"
    # Whoever has the same picture uploads it, and may use it then.
    third = Client(served)
    assert third.uploaded(png()) == own and third.ask(own).status == 200


NAMES = ["../../up.png", "/etc/up.png", "..", ".", "", "a\\..\\up.png", "a\0up.png", "u" * 5000]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:12]))
def test_the_name_of_an_upload(served, client, name):
    outside = set(os.listdir(served.folder.parent)) | set(os.listdir("/etc"))
    answer = client.upload(png(), name)
    assert answer.status in (200, 400, 413)
    if answer.status == 200:
        (path,) = json.loads(answer.body)
        assert Path(path).resolve() == Path(path)
        assert Path(path).parent.parent == served.folder
    now = set(os.listdir(served.folder.parent)) | set(os.listdir("/etc"))
    assert not any("up" in name and "upload" not in name for name in now - outside)


@pytest.mark.parametrize("name", ["a.html", "report.html"])
def test_an_upload_that_is_no_image_is_not_served(client, name):
    own = client.uploaded(b"<script>alert(1)</script>", name)
    assert client.send("GET", f"/gradio_api/file={own}").status == 403
    assert "Invalid file type" in client.results(own)


OTHER = [
    *(("POST", f"/gradio_api/{way}") for way in ("run/answer", "api/answer", "call/answer")),
    *(("POST", f"/gradio_api/{way}") for way in ("run/predict", "call/v2/answer", "stream/1")),
    *(("POST", f"/gradio_api/{way}") for way in ("component_server", "process_recording")),
    *(("POST", f"/gradio_api/{way}") for way in ("vibe-edit", "vibe-code/", "queue/join/")),
    *(("POST", way) for way in ("/login", "//gradio_api/queue/join", "/gradio_api/Queue/join")),
    *(("POST", f"/gradio_api/../gradio_api/{way}") for way in ("queue/join", "run/answer")),
    *(("GET", f"/gradio_api/{way}") for way in ("runs", "info", "openapi.json", "queue/status")),
    *(("GET", f"/gradio_api/{way}") for way in ("proxy=http://127.0.0.1:1/", "dev/reload")),
    *(("GET", f"/gradio_api/{way}") for way in ("vibe-code/", "deep_link?session_hash=a")),
    *(("GET", f"/gradio_api/{way}") for way in ("custom_component/1/a/b/c", "call/answer/1")),
    *(("GET", way) for way in ("/monitoring", "/monitoring/summary", "/docs", "/svelte/../x")),
    *(("GET", f"/{way}/../../../etc/passwd") for way in ("static", "assets")),
    *(("GET", f"/{way}/..%2f..%2f..%2fetc/passwd") for way in ("static", "assets")),
    *(("GET", f"/{way}//etc/passwd") for way in ("static", "assets")),
    *((way, "/gradio_api/queue/join") for way in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH")),
]


@pytest.mark.parametrize(("method", "path"), OTHER)
def test_an_address_that_the_page_does_not_need(client, secret, method, path):
    body = json.dumps(client.question({"path": str(secret), "meta": META}))
    answer = client.send(method, path, body, JSON)
    assert answer.status == 404 and answer.detail.endswith("not part of this page")


@pytest.mark.parametrize("form", ["file/{}", "file=../..{}", "file=file://{}", "file=http://a{}"])
def test_no_file_of_the_computer_is_served(client, checkpoint_dir, form):
    for path in ("/etc/passwd", str(ROOT / "setup.py"), str(checkpoint_dir / "config.json")):
        assert os.path.isfile(path)
        assert client.send("GET", f"/gradio_api/{form.format(path)}").status in (403, 404)


def test_a_websocket(client):
    key = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    answer = client.send("GET", "/gradio_api/queue/join", None, key | {"Sec-WebSocket-Key": "YQ=="})
    assert answer.status in (400, 403, 404)


BODIES = {
    "no JSON": (b"{", 400, "request body"),
    "not UTF-8": (b'{"a": "\xff"}', 400, "not JSON in UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), 400, "not JSON in UTF-8"),
    "half a pair of surrogates": (b'{"data": "\\ud800"}', 400, "session_hash"),
    "a list": (b"[]", 400, "not an object"),
    "nested 100,000 deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "too deep"),
    "a key twice": (b'{"data": [], "data": [1]}', 400, "given twice"),
    "a number of 5,000 digits": (b'{"a": ' + b"9" * 5000 + b"}", 400, "5000 digits"),
    "2 MiB": (b" " * 2**21, 413, "at most 1 MiB"),
    "no session": (b'{"data": []}', 400, "session_hash"),
    "a path for a session": (b'{"session_hash": "../a", "data": []}', 400, "session_hash"),
    "other values": (
        b'{"session_hash": "a", "data": [{}]}',
        400,
        "three texts, a number and a text",
    ),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_the_page_does_not_send(client, kind):
    body, status, reason = BODIES[kind]
    answer = client.send("POST", "/gradio_api/queue/join", body, JSON)
    assert answer.status == status and reason in answer.detail


@pytest.mark.parametrize("change", [{"samples": "1"}, {"samples": None}, {"session": "a b"}])
def test_values_of_other_types(client, change):
    assert client.ask(client.uploaded(png()), **change).status == 400


def test_numbers_out_of_range(client):
    assert "greater than maximum value 50" in client.results(client.uploaded(png()), samples=10**9)
    body = client.question() | {"fn_index": 99}
    answer = client.send("POST", "/gradio_api/queue/join", json.dumps(body), JSON)
    assert answer.status in (400, 404, 500)
    assert client.send("GET", ALIVE).status == 200


def test_too_many_files(client):
    own = client.uploaded(png())
    answer = client.ask(*[own] * 65)
    assert answer.status == 413 and answer.detail.startswith("65 images: 64 at once")


def test_an_upload_without_its_page_or_its_length(served, client):
    assert "set-cookie" not in client.send("GET", "/").headers
    cookie = Client(served, cookie="").send("GET", "/").headers["set-cookie"]
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert Client(served, cookie.split(";")[0]).upload(png()).status == 200
    assert "open the page first" in Client(served, cookie="").upload(png()).detail
    pieces = client.send("POST", "/gradio_api/upload", iter([b"a", b"b"]))
    assert pieces.status == 411 and "must say its length" in pieces.detail


def test_uploads_have_limits(inspector):
    settings = AppSettings(
        inspector.settings.checkpoints, device="cpu", max_bytes=10_000, max_files=2
    )
    with serving(Inspector(settings)) as small:
        client = Client(small)
        assert client.upload(bytes(5_000)).status == 200
        assert client.upload(bytes(20_000)).status == 413  # one file
        said = {"Content-Length": str(2**40), "Content-Type": "multipart/form-data; boundary=a"}
        answer = client.send("POST", "/gradio_api/upload", b"a", said)
        assert answer.status == 413 and "at most" in answer.detail  # all together
        statuses = [client.upload(bytes([n]) * 9_000).status for n in range(5)]
        assert statuses == [200, 200, 200, 507, 507]  # what is kept: twice 2 files


def test_a_body_that_does_not_come(client, monkeypatch):
    monkeypatch.setattr(gate, "_BODY_SECONDS", 0.3)
    said = JSON | {"Content-Length": "100"}
    answer = client.send("POST", "/gradio_api/queue/join", b"{", said)
    assert answer.status == 408 and "not complete in time" in answer.detail


def test_every_app_has_a_folder_of_its_own(inspector, served):
    with serving(inspector) as other:
        folder = other.folder
        path = Client(other).uploaded(png())
        assert path.startswith(f"{folder}{os.sep}") and folder != served.folder
        assert folder.stat().st_mode & 0o077 == 0
        assert Client(served).ask(path).status == 403


SLOW = """
import sys, threading, time
from bayes_pfl.app import gate, server
from bayes_pfl.app.inspection import Inspector
def wait(*args):
    print("busy", flush=True)
    while True:
        time.sleep(0.1)
if sys.argv[2] == "computing":
    Inspector.check_size = wait
elif sys.argv[2] == "blocked":
    gate.check_address = wait
from bayes_pfl.cli.main import main
sys.argv[1:] = ["app", "--no-browser", "--device", "cpu", "--checkpoint", sys.argv[1]]
main()
"""


@pytest.mark.parametrize("state", ["idle", "computing", "blocked"])
def test_a_signal_ends_the_app(checkpoint_dir, tmp_path, state):
    """Within a few seconds, whatever it does; its folder of uploads is gone."""
    surroundings = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(checkpoint_dir), state],
        stdout=subprocess.PIPE,
        env=surroundings,
        cwd=ROOT,
        text=True,
    )
    try:
        port = int(running.stdout.readline().split("127.0.0.1:")[1].split()[0])
        await_port(port)
        (folder,) = tmp_path.glob("bayes-pfl-app-*")
        threading.Thread(target=occupy, args=(port, folder, checkpoint_dir), daemon=True).start()
        if state != "idle":
            assert running.stdout.readline() == "busy\n"
        started = time.monotonic()
        running.terminate()
        code = running.wait(60)
        assert time.monotonic() - started < 20  # five seconds, and a busy machine
        assert code == 128 + signal.SIGTERM and not folder.exists()
    finally:
        running.kill()
        running.wait()


def await_port(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection((server.HOST, port), 1).close()
            return
        except OSError:
            time.sleep(0.05)


def occupy(port: int, folder: Path, checkpoint: Path) -> None:
    """Ask for an inspection, and leave the connections open."""
    from tests.app.client import Served

    client = Client(Served(port, folder, str(checkpoint)))
    with contextlib.suppress(OSError, http.client.HTTPException):  # the app is ended
        client.results(client.uploaded(png()))
