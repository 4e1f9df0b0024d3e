"""The service as an ASGI application: its addresses, and what each answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from bayes_pfl.serve.answers import Answer, Problem
from bayes_pfl.serve.guard import Guard
from bayes_pfl.serve.page import POLICY, page_of
from bayes_pfl.serve.service import Service
from bayes_pfl.support.asgi import Application, Refused
from bayes_pfl.support.version import __version__

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"picture": {"type": "string", "format": "binary"}},
        "required": ["picture"],
    }
}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of the file, or a form with one file.",
        "content": {"application/octet-stream": _BINARY, "multipart/form-data": _FORM},
    }
}
_PROBLEMS = {
    400: "A form without a file, or with several.",
    401: "No token, or another one.",
    408: "The body was not complete in time.",
    411: "The request does not say the length of its body.",
    413: "Too many bytes.",
    422: "No picture, one that is damaged, or too many pixels; or an unknown parameter.",
    500: "The picture could not be scored.",
    503: "The service is loading, stopping, or full; Retry-After says when to try again.",
    504: "No answer in time.",
}


def asgi_app(service: Service) -> Application:
    """The addresses of a service, behind its guard; it begins to load when the server starts."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()

    app = FastAPI(
        title="bayes-pfl",
        version=__version__,
        summary="Scores pictures: POST one to /predict.",
        docs_url=None,  # loads scripts from elsewhere
        redoc_url=None,
        lifespan=running,
    )
    _add_errors(app)

    @app.post(
        "/predict",
        response_model=Answer,
        responses={
            status: {"model": Problem, "description": text} for status, text in _PROBLEMS.items()
        },
        openapi_extra=_BODY,
        summary="Score a picture",
        response_description="Scored.",
    )
    async def predict(
        request: Request,
        with_map: Annotated[
            Literal["png"] | None,
            Query(alias="map", description="png: the answer has the map, too."),
        ] = None,
    ) -> Response:
        """One picture of any format that bayes-pfl predict reads; of a file of several pages or
        frames the first."""
        answer = await service.answer(request, with_map is not None)
        return Response(answer, media_type="application/json")

    @app.head("/health", include_in_schema=False)
    @app.get(
        "/health",
        summary="Whether pictures are scored",
        response_description="They are.",
        responses={503: {"description": "Not yet, or not any more."}},
    )
    async def health() -> JSONResponse:
        """200 when they are, 503 while the service loads or stops; needs no token."""
        return JSONResponse({"state": service.state}, 200 if service.state == "ready" else 503)

    @app.get(
        "/metrics",
        summary="Figures for Prometheus",
        response_description="The figures.",
        response_class=Response,
    )
    async def metrics() -> Response:
        """Answers by status, seconds, sizes of batches, open requests; in the text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        page = page_of(app.openapi(), service.settings, request.url.netloc)
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @app.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("/docs")

    return Guard(app, service.settings)


def _add_errors(app: FastAPI) -> None:
    """Every refusal is JSON with one line, `detail`."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = first["loc"][-1]
        return JSONResponse({"detail": f"parameter {name}: {first['msg']}"}, 422)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        detail = {
            404: "no such address; see /docs",
            405: "another method is wanted here; see /docs",
        }.get(error.status_code, str(error.detail))
        return JSONResponse({"detail": detail}, error.status_code, error.headers)
