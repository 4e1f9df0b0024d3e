"""What the service refuses, and that it goes on answering."""

import contextlib
import http.client
import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from bayes_pfl.errors import ConfigError
from bayes_pfl.serve.settings import ServeSettings
from tests.serve.client import Greys, await_, form, serving

TOKEN = "a token of the tests".replace(" ", "-")


def grey(value, size=(6, 4), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(buffer, kind)
    return buffer.getvalue()


def declared(width, height):
    """A PNG whose header promises so many pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + body + b"\0\0\0\0IDAT"


@pytest.fixture(scope="module")
def served():
    with serving(Greys, max_bytes=20_000, max_pixels=10_000) as running:
        yield running


BAD = {
    "a JPEG cut short": (grey(9, (90, 90), "JPEG")[:400], 422, "damaged or cut short"),
    "text": (b"no picture", 422, "not an image"),
    "nothing": (b"", 422, "the file is empty"),
    "a thousand million pixels": (declared(40_000, 25_000), 422, "too many pixels"),
    "more pixels than the limit": (grey(9, (101, 100)), 422, "101x100 is more than 10000 pixels"),
    "more bytes than the limit": (b"x" * 30_000, 413, "picture: at most 0.019"),
    "more bytes than are read": (b"x" * 200_000, 413, "request body: at most"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_pictures_get_one_line(served, kind):
    body, status, reason = BAD[kind]
    answer = served.post(body)
    assert answer.status == status and reason in answer.detail and "\n" not in answer.detail
    assert served.post(grey(51)).json["score"] == pytest.approx(0.2)


def test_bad_forms(served):
    two, headers = form(grey(1), grey(2))
    for body in (two, form()[0], two[:120], b"nothing of the kind"):
        answer = served.post(body, **headers)
        assert (answer.status, answer.detail[:5]) == (400, "form:"), body
    assert served.post(two, **{"Content-Type": "multipart/form-data"}).status == 400


def test_other_requests(served):
    assert served.send("GET", "/predict").status == 405
    assert served.send("GET", "/etc/passwd").status == 404
    assert "'png'" in served.post(grey(1), "?map=npy").detail
    place = served.address.removeprefix("http://")
    connection = http.client.HTTPConnection(place, timeout=20)
    connection.putrequest("POST", "/predict")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(b"0\r\n\r\n")
    assert connection.getresponse().status == 411
    connection.close()
    with contextlib.suppress(ConnectionError):  # it is closed while more is sent
        assert served.send("GET", "/health", headers={"X-Long": "x" * 2**21}).status == 400
    assert served.send("GET", "/health").status == 200


def test_batches_form_and_none_is_swapped():
    greys = Greys()
    with serving(lambda: greys, batch_size=4, batch_wait=0.2) as running:
        greys.batches.clear()
        with ThreadPoolExecutor(16) as pool:
            values = [*range(0, 250, 10)] * 2
            answers = list(pool.map(lambda value: running.post(grey(value)), values))
        figures = running.send("GET", "/metrics").body.decode()
    for value, answer in zip(values, answers, strict=True):
        assert answer.json["score"] == pytest.approx(value / 255)
        assert answer.json["label"] == (value / 255 >= 0.5)
    assert sum(greys.batches) == 50 and max(greys.batches) == 4 and len(greys.batches) < 30
    assert 'requests_total{status="200"} 50.0' in figures
    assert "bayes_pfl_batch_pictures_sum 50.0" in figures


def test_a_full_queue_and_a_slow_detector():
    greys = Greys()
    with serving(lambda: greys, max_queue=2, max_seconds=1.0) as running:
        greys.go.clear()
        with ThreadPoolExecutor(2) as pool:
            slow = [pool.submit(running.post, grey(7)) for _ in range(2)]
            await_(lambda: running.service.open == 2)
            full = running.post(grey(8) + b" " * 300_000)
            assert full.status == 503 and int(full.headers["retry-after"]) > 0
            assert [one.result().status for one in slow] == [504, 504]
        greys.go.set()
        assert running.post(grey(255)).json["score"] == 1
        assert running.service.open == 0


def test_a_body_that_does_not_come():
    with serving(Greys, max_seconds=0.5) as running:
        place = running.address.removeprefix("http://")
        connection = http.client.HTTPConnection(place, timeout=20)
        connection.request("POST", "/predict", headers={"Content-Length": "1000"})
        assert connection.getresponse().status == 408
        connection.close()


def test_a_detector_that_fails_goes_on():
    greys = Greys()
    with serving(lambda: greys) as running:
        score, greys.score = greys.score, lambda loaded: 1 / 0
        assert running.post(grey(1)).status == 500
        greys.score = lambda loaded: (_ for _ in ()).throw(ConfigError("no memory for this"))
        assert running.post(grey(1)).detail == "no memory for this"
        greys.score = score
        assert running.post(grey(0)).json["score"] == 0


def test_a_picture_that_fails_costs_no_other_its_answer():
    greys = Greys()
    score = greys.score

    def fails(loaded):
        if any(one[0, 0, 0] == 13 for one in loaded):
            raise MemoryError
        return score(loaded)

    with serving(lambda: greys, batch_wait=0.5) as running:
        greys.score = fails
        with ThreadPoolExecutor(4) as pool:
            values = [12, 13, 14, 15]
            answers = list(pool.map(lambda value: running.post(grey(value)), values))
    assert [answer.status for answer in answers] == [200, 500, 200, 200]


def test_a_token_is_demanded():
    with serving(Greys, token=TOKEN) as running:
        body = grey(1)
        for given in ("", f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", "Bearer \xe9"):
            answer = running.post(body, **({"Authorization": given} if given else {}))
            assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.detail
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert running.post(body, **right).status == 200
        for path in ("/metrics", "/docs", "/openapi.json", "/"):
            assert running.send("GET", path).status == 401
        assert running.send("GET", "/health").json == {"state": "ready"}
        assert "Bearer" in running.send("GET", "/docs", headers=right).body.decode()


def test_other_names_and_origins(served):
    for headers, status in (
        ({"Host": "evil.example"}, 400),
        ({"Host": "["}, 400),
        ({"Origin": "http://["}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": served.address}, 200),
    ):
        assert served.post(grey(1), **headers).status == status, headers


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"host": "0.0.0.0"}, "open to other computers: give a token"),
        ({"host": "0.0.0.0", "token": "short"}, "token of 5 characters: give 16 at least"),
        ({"token": "with a blank in the token"}, "ASCII without blanks"),
        ({"max_seconds": 0}, "max_seconds = 0"),
        ({"batch_wait": 9}, "batch_wait = 9"),
        ({"max_pixels": 10**9}, "max_pixels = 1000000000"),
    ],
)
def test_settings_that_cannot_be_used(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        ServeSettings(**changes)
    assert ServeSettings(host="::1").local and ServeSettings(host="0.0.0.0", token=TOKEN)


def test_what_is_open_is_answered_at_a_stop_and_the_rest_refused():
    from bayes_pfl.serve.server import _drain

    greys, began = Greys(), threading.Event()
    with serving(lambda: greys) as running:
        greys.go.clear()
        began.set()
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(running.post, grey(value)) for value in (0, 255)]
            await_(lambda: running.service.open == 2)
            _drain(running.server, running.service)(15, None)
            assert running.send("GET", "/health").json == {"state": "stopping"}
            late = running.post(grey(3))
            assert late.status == 503 and late.detail == "the service is stopping"
            time.sleep(0.1)
            assert not running.server.should_exit
            greys.go.set()
            assert [one.result().json["score"] for one in waiting] == [0, 1]
        await_(lambda: running.server.should_exit)


def test_while_it_loads_and_when_that_fails():
    go = threading.Event()

    def load():
        go.wait(30)
        raise ConfigError("no such detector")

    with serving(load, wait=False) as running:
        loading = running.send("GET", "/health")
        assert (loading.status, loading.json) == (503, {"state": "loading"})
        assert running.post(grey(1)).status == 503
        go.set()
        await_(lambda: running.server.should_exit)
        assert str(running.service.failure) == "no such detector"


def test_the_page_of_the_addresses_needs_nobody_else(served):
    page = served.send("GET", "/docs")
    text = page.body.decode()
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in text and "//cdn" not in text and "src=" not in text
    schema = served.send("GET", "/openapi.json").json
    assert set(schema["paths"]) == {"/predict", "/health", "/metrics"}
    for path in schema["paths"]:
        assert path in text
    for field in schema["components"]["schemas"]["Answer"]["properties"]:
        assert f"<td>{field}</td>" in text
