"""The app: drop images on a page of this computer, see overlays, scores and intervals.

It needs the extra ``[app]`` (Gradio). The page is served to this computer only and loads nothing
from any other; a content security policy makes the browser enforce this.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
import threading
import weakref
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bayes_pfl.app.gate import Gate
from bayes_pfl.app.inspection import AppSettings, Inspector
from bayes_pfl.app.uploads import Uploads
from bayes_pfl.errors import ConfigError
from bayes_pfl.support.access import check_access, is_local
from bayes_pfl.support.ports import bound_socket
from bayes_pfl.support.stopping import ending_on_signals

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["AppSettings", "Inspector", "asgi_app", "run_app"]

HOST = "127.0.0.1"
_FIRST_PORT, _PORTS = 7860, 100
_NAMES = ("127.0.0.1", "localhost")
_ALL = ("0.0.0.0", "::")  # every address of this computer
_CONNECTIONS = 256
_GRACE = 2  # seconds in which open requests may finish
_LIMIT = 5.0  # seconds from a signal to an end by force
_REQUESTS_KEPT = 2  # requests of the largest size whose uploads fit on the disk together
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def run_app(
    settings: AppSettings,
    *,
    host: str = HOST,
    port: int | None = None,
    browser: bool = True,
    on_start: Callable[[str], None] = lambda text: None,
) -> None:
    """Load the first checkpoint, then serve the page until it is stopped (Ctrl-C).

    Args:
        host: address to listen on; one that other computers reach demands a token.
        port: of the page; None for the first free one from 7860.
        browser: whether to open the page in a browser.
        on_start: called with the address of the page.

    Raises:
        ConfigError: Gradio is not installed, no port is free, a token is missing or too short.
        BayesPFLError: the checkpoint cannot be loaded.
    """
    check_access(host, settings.token)
    check_installed()
    place = free_port(port, host)
    inspector = Inspector(settings)
    inspector.model(settings.checkpoints[0])
    import uvicorn

    page = asgi_app(inspector, host)
    config = uvicorn.Config(
        page,
        host,
        place,
        log_config=None,  # its own would close the handlers of all other packages
        log_level="warning",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(config)
    named = HOST if host in _ALL else f"[{host}]" if ":" in host else host
    address = f"http://{named}:{place}"
    whom = "this computer only" if is_local(host) else f"listens on {host}; the token is asked for"
    on_start(f"{address}  ({whom}; Ctrl-C stops it)")
    if browser:
        timer = threading.Timer(1.0, webbrowser.open, (address,))
        timer.daemon = True
        timer.start()
    try:
        with ending_on_signals(server, _LIMIT, page.state.remove_uploads):
            server.run()
    finally:
        page.state.remove_uploads()


def asgi_app(inspector: Inspector, host: str = HOST) -> FastAPI:
    """The page as an ASGI application; with a token in its settings, every request must bring it.

    Requests for another host name are refused, so that no other site can reach the page through a
    name of its own that points to this computer; so are requests that a page of another origin
    sends. Of the files on the disk, only uploads and the pictures made from them are opened or
    served, each to the browser that uploaded it (`bayes_pfl.app.gate`). They lie in a temporary
    folder of this application alone, which is deleted at its end.
    """
    check_installed()
    _turn_off_reports()
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import PlainTextResponse

    from bayes_pfl.app.page import FOOTER, STYLE, build_page, theme

    known = inspector.settings
    folder = Path(tempfile.mkdtemp(prefix="bayes-pfl-app-")).resolve()
    uploads = Uploads(folder, _REQUESTS_KEPT * known.max_files * known.max_bytes)
    app = FastAPI(openapi_url=None)
    app.state.uploads = uploads
    app.state.remove_uploads = weakref.finalize(app, shutil.rmtree, folder, ignore_errors=True)
    app.add_middleware(Gate, uploads=uploads, settings=known)  # innermost: added first
    # A page that other computers reach has names that are not known here; it has a token.
    names = [*_NAMES, host] if is_local(host) else ["*"]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)

    @app.middleware("http")
    async def guarded(request: Any, follow: Any) -> Any:
        own = _is_own(request.headers.get("origin"), request.headers.get("host"))
        response = await follow(request) if own else PlainTextResponse("another origin", 403)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        return response

    with _gradio_folder(folder):
        return gradio.mount_gradio_app(
            app,
            build_page(inspector, uploads),
            path="/",
            server_name=host,
            footer_links=FOOTER,
            show_error=True,
            max_file_size=known.max_bytes,
            ssr_mode=False,
            allowed_paths=[],
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=theme(),
            css=STYLE,
        )


def _is_own(origin: str | None, host: str | None) -> bool:
    """Whether a request comes from the page itself, or from no page at all."""
    return origin is None or urlsplit(origin).netloc == host


def check_installed() -> None:
    """Raise ConfigError where Gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("gradio is not installed; run: pip install 'gradio>=6' (the extra [app])")


def free_port(wanted: int | None, host: str = HOST) -> int:
    """The port ``wanted`` if it is free; for None the first free one of a hundred.

    Raises:
        ConfigError: ``wanted`` is taken, or all hundred are.
    """
    for port in [wanted] if wanted else range(_FIRST_PORT, _FIRST_PORT + _PORTS):
        with contextlib.suppress(ConfigError), bound_socket(host, port):
            return port
    raise ConfigError(f"port {wanted or _FIRST_PORT} on {host} is taken; give another --port")


def _turn_off_reports() -> None:
    """Turn off Gradio's reports to its makers; Gradio reads these variables when it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"  # the browser would keep what was inspected
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@contextlib.contextmanager
def _gradio_folder(folder: Path) -> Iterator[None]:
    """Within, Gradio's parts are made to keep their files in this folder."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["GRADIO_TEMP_DIR"]
        if before is not None:
            os.environ["GRADIO_TEMP_DIR"] = before
