"""The app, served on a free port, and a client that sends what it likes."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bayes_pfl.app import server as app_module
from bayes_pfl.app.inspection import Inspector
from tests.helpers.answers import Answer

JSON = {"Content-Type": "application/json"}
META = {"_type": "gradio.FileData"}


@dataclass(frozen=True)
class Served:
    """A running page: its port, and the folder of its uploads."""

    port: int
    folder: Path
    checkpoint: str

    @property
    def address(self) -> str:
        return f"http://{app_module.HOST}:{self.port}"

    def kept(self) -> set[str]:
        """The files and folders that the app keeps."""
        return {os.path.join(where, name) for where, a, b in os.walk(self.folder) for name in a + b}


@contextmanager
def serving(inspector: Inspector, host: str = app_module.HOST) -> Iterator[Served]:
    """A page, served as if it listened on ``host``."""
    uvicorn = pytest.importorskip("uvicorn")
    port = app_module.free_port(None)
    page = app_module.asgi_app(inspector, host)
    server = uvicorn.Server(uvicorn.Config(page, app_module.HOST, port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield Served(port, page.state.uploads.folder, inspector.settings.checkpoints[0])
    server.should_exit = True
    thread.join(10)


class Client:
    """A visitor; with a cookie of its own unless another is given."""

    def __init__(self, served: Served, cookie: str | None = None) -> None:
        self.served = served
        self.cookie = f"bayes-pfl-visitor={uuid.uuid4().hex}" if cookie is None else cookie

    def send(
        self,
        method: str,
        path: str,
        body: bytes | str | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 20,
    ) -> Answer:
        """Any request."""
        connection = http.client.HTTPConnection(app_module.HOST, self.served.port, timeout=timeout)
        own = {"Cookie": self.cookie} if self.cookie else {}
        try:
            connection.request(method, path, body, own | (headers or {}))
            response = connection.getresponse()
            kept = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read(), kept)
        finally:
            connection.close()

    def upload(self, content: bytes, name: str = "a.png") -> Answer:
        """Send a file."""
        edge = "----edge"
        head = (
            f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        )
        body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        return self.send("POST", "/gradio_api/upload", body, kind)

    def uploaded(self, content: bytes, name: str = "a.png") -> str:
        """Send a file; returns the path that the app gave it."""
        (path,) = json.loads(self.upload(content, name).body)
        return str(path)

    def question(self, *files: Any, samples: Any = 1, session: str | None = None) -> dict[str, Any]:
        """The body with which the page asks for an inspection."""
        return {
            "data": [list(files), "part", "0.5", self.served.checkpoint, samples, "no profile"],
            "fn_index": 0,
            "session_hash": session or uuid.uuid4().hex,
        }

    def ask(self, *files: Any, **changes: Any) -> Answer:
        """Ask for an inspection of files: paths, or whole entries."""
        entries = [{"path": f, "meta": META} if isinstance(f, str) else f for f in files]
        body = json.dumps(self.question(*entries, **changes))
        return self.send("POST", "/gradio_api/queue/join", body, JSON)

    def results(self, *files: Any, **changes: Any) -> str:
        """Ask, and wait for the end; returns the last events."""
        session = uuid.uuid4().hex
        answer = self.ask(*files, session=session, **changes)
        assert answer.status == 200, answer.body
        return self.send("GET", f"/gradio_api/queue/data?session_hash={session}").body.decode()
