"""The service on a free port, a detector without a model, and requests."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.fit.decision import Decision
from bayes_pfl.serve.server import address_of, build_server
from bayes_pfl.serve.settings import ServeSettings
from bayes_pfl.support.ports import bound_socket
from tests.helpers.answers import Answer


class Greys:
    """A detector whose score is the first pixel of a picture.

    Attributes:
        go: scores are given when it is set.
        batches: sizes of those that were scored.
    """

    def __init__(self) -> None:
        self.class_name, self.rule, self.window, self.at_once = "grey", Decision(0.5), None, None
        self.go = threading.Event()
        self.go.set()
        self.batches: list[int] = []

    def load(self, picture: Image.Image) -> np.ndarray:
        return np.asarray(picture)

    def score(self, loaded: Sequence[np.ndarray]) -> list[float]:
        self.go.wait(30)
        self.batches.append(len(loaded))
        return [float(one[0, 0, 0]) / 255 for one in loaded]

    def result(self, loaded: np.ndarray, scored: float) -> AnomalyResult:
        height, width = loaded.shape[:2]
        shape, interval = (height, width), (scored, scored)
        verdict = self.rule.verdict(scored)
        return AnomalyResult(
            *(scored, scored, scored, 0.0, interval, np.full(shape, scored, np.float32), None),
            *(self.class_name, (width, height)),
            label=verdict.label,
        )


@dataclass(frozen=True)
class Served:
    """A running service, and requests to it."""

    address: str
    server: Any
    service: Any

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        place = self.address.removeprefix("http://")
        connection = http.client.HTTPConnection(place, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            kept = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read(), kept)
        finally:
            connection.close()

    def post(self, body: bytes, query: str = "", **headers: str) -> Answer:
        return self.send("POST", f"/predict{query}", body, headers)


def form(*files: bytes, name: str = "picture") -> tuple[bytes, dict[str, str]]:
    """The body and headers of a form with these files."""
    edge = b"----edge"
    head = f'\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n\r\n'.encode()
    body = b"".join(b"--" + edge + head + file + b"\r\n" for file in files)
    return body + b"--" + edge + b"--\r\n", {
        "Content-Type": f"multipart/form-data; boundary={edge.decode()}"
    }


@contextmanager
def serving(load: Callable[[], Any], wait: bool = True, **settings: Any) -> Iterator[Served]:
    """A service, until the block ends; ready where the block begins, if ``wait`` says so."""
    ready = threading.Event()
    with bound_socket("127.0.0.1", 0) as listener:
        address = address_of(listener)
        server, service = build_server(
            ServeSettings(**settings), load, address, lambda _: ready.set()
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        await_(lambda: server.started or not thread.is_alive())
        if wait:
            assert ready.wait(60), service.failure
        try:
            yield Served(address, server, service)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def await_(done: Callable[[], object]) -> None:
    """Wait until this is so, a minute at most."""
    for _ in range(3000):
        if done():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen within a minute")
