"""Pictures by HTTP: a detector behind one address, until it is stopped.

It needs the extra ``[serve]`` (FastAPI, Uvicorn). Uploads stay in memory and are forgotten with
their answers.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from bayes_pfl.serve.settings import ServeSettings, check_installed
from bayes_pfl.support.ports import bound_socket
from bayes_pfl.support.stopping import ending_on_signals

if TYPE_CHECKING:
    import uvicorn

    from bayes_pfl.serve.detectors import ServedDetector
    from bayes_pfl.serve.service import Service

_CONNECTIONS = 256  # besides those of the requests that may wait
_GRACE = 2  # seconds in which connections may end that have their answers
_BEYOND = 5.0  # seconds from the end of the longest request to an end by force
_HEADERS = 2**14  # bytes


def run_service(
    settings: ServeSettings,
    load: Callable[[], ServedDetector],
    *,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve a detector until Ctrl-C or SIGTERM: what is open is then answered, new is refused.

    Args:
        load: makes the detector, in a thread of its own; until then requests are answered by 503.
        on_ready: called with the address of the service, when the detector is loaded.

    Raises:
        ConfigError: a package is missing, the port is taken, the host is none of this machine.
        BayesPFLError: what ``load`` raises.
    """
    check_installed()
    with bound_socket(settings.host, settings.port) as listener:
        server, service = build_server(settings, load, address_of(listener), on_ready)
        limit = settings.max_seconds + _BEYOND
        with ending_on_signals(server, limit, lambda: None, _drain(server, service)):
            server.run(sockets=[listener])
    if service.failure is not None:
        raise service.failure


def build_server(
    settings: ServeSettings,
    load: Callable[[], ServedDetector],
    address: str,
    on_ready: Callable[[str], None],
) -> tuple[uvicorn.Server, Service]:
    """The server, which runs with a socket, and what it serves."""
    import uvicorn

    from bayes_pfl.serve.application import asgi_app
    from bayes_pfl.serve.service import Service

    def loaded(error: Exception | None) -> None:
        if error is None:
            on_ready(address)
        else:
            server.should_exit = True

    service = Service(settings, load, loaded)
    config = uvicorn.Config(
        asgi_app(service),
        log_config=None,  # its own would close the handlers of all other packages
        log_level="warning",
        access_log=False,
        server_header=False,
        http="h11",
        ws="none",
        lifespan="on",
        limit_concurrency=settings.max_queue + _CONNECTIONS,
        h11_max_incomplete_event_size=_HEADERS,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(config)
    return server, service


def address_of(listener: socket.socket) -> str:
    """Where a socket listens, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _drain(server: uvicorn.Server, service: Service) -> Callable[[int, FrameType | None], None]:
    """What a signal does: the first one lets the open requests end, the second one does not."""
    at_once = server.handle_exit

    def end() -> None:
        while service.open:
            time.sleep(0.02)
        server.should_exit = True

    def asked(number: int, frame: FrameType | None) -> None:
        if service.state == "stopping":
            at_once(number, frame)
            return
        service.refuse_new()
        threading.Thread(target=end, daemon=True).start()

    return asked
