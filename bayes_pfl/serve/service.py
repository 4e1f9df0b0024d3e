"""From the bytes of a picture to its answer: decoded, scored in a batch, encoded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from bayes_pfl.data.images import SEVERAL, read_received_image
from bayes_pfl.errors import BayesPFLError, ImageReadError
from bayes_pfl.serve.answers import answer_of
from bayes_pfl.serve.batching import Batcher
from bayes_pfl.serve.detectors import ServedDetector
from bayes_pfl.serve.guard import discard
from bayes_pfl.serve.metrics import Metrics
from bayes_pfl.serve.received import announced, picture_of
from bayes_pfl.serve.settings import ServeSettings
from bayes_pfl.support.asgi import Refused

Found = TypeVar("Found")

log = logging.getLogger("bayes_pfl.serve")

_RETRY_SECONDS = 1
_BODY_SHARE = 0.75  # of the longest time of a request


@dataclass
class Service:
    """A detector and the requests that wait for it.

    Attributes:
        load: makes the detector.
        on_ready: called when the detector is loaded, with None; or with the error.
        state: loading, ready, stopping or failed.
        open: requests that are worked on or wait.
        failure: why the detector could not be loaded.
    """

    settings: ServeSettings
    load: Callable[[], ServedDetector]
    on_ready: Callable[[Exception | None], None] = lambda error: None
    state: str = "loading"
    open: int = 0
    failure: Exception | None = None
    metrics: Metrics = field(default_factory=Metrics)
    _held: int = 0  # bytes of the uploads of the open requests

    def __post_init__(self) -> None:
        settings, observe = self.settings, self.metrics.batches.observe
        self.batcher = Batcher(
            self.load, settings.batch_size, settings.batch_wait, self._loaded, observe
        )
        self.pool = ThreadPoolExecutor(settings.decoders, thread_name_prefix="decoding")

    def start(self) -> None:
        """Begin to load."""
        self.batcher.start()

    def _loaded(self, error: Exception | None) -> None:
        if self.state != "loading":  # it was stopped meanwhile
            return
        # Decoded pictures: those of two batches, and what is on its way in or out.
        most = self.batcher.at_once
        self._room = asyncio.Semaphore(2 * most + self.settings.decoders)
        self.state, self.failure = "failed" if error else "ready", error
        self.metrics.ready.set(error is None)
        self.on_ready(error)

    def refuse_new(self) -> None:
        """Answer what is open, and nothing else."""
        self.state = "stopping"
        self.metrics.ready.set(0)

    def stop(self) -> None:
        """End the threads."""
        self.batcher.stop()
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request, with_map: bool) -> bytes:
        """The JSON for the picture of a request.

        Raises:
            Refused: with the status that says why there is none.
        """
        began = time.monotonic()
        try:
            with self._open(await self._admitted(request)):
                work = self._answer(request, with_map)
                answer = await asyncio.wait_for(work, self.settings.max_seconds)
        except asyncio.TimeoutError as error:
            reason = f"no answer within {self.settings.max_seconds:g} seconds"
            raise self._counted(Refused(504, reason)) from error
        except ImageReadError as error:
            raise self._counted(Refused(422, _reason(error))) from error
        except Refused as refused:
            raise self._counted(refused) from None
        except BayesPFLError as error:
            log.error("%s", error)
            raise self._counted(Refused(500, str(error))) from error
        except Exception as error:
            log.exception("a request failed")
            raise self._counted(Refused(500, "a fault of the service; see its log")) from error
        self.metrics.requests.labels("200").inc()
        self.metrics.seconds.observe(time.monotonic() - began)
        return answer

    def _counted(self, refused: Refused) -> Refused:
        self.metrics.requests.labels(str(refused.status)).inc()
        return refused

    async def _admitted(self, request: Request) -> int:
        """The bytes of a request for which there is room.

        Raises:
            Refused: there is none, or the service is not ready; what is sent has been thrown away.
        """
        try:
            size = announced(request, self.settings.max_bytes)
            again = {"retry-after": str(_RETRY_SECONDS)}
            if self.state != "ready":
                raise Refused(503, f"the service is {self.state}", again)
            if self.open >= self.settings.max_queue or self._held + size > self.settings.max_held:
                raise Refused(503, f"{self.open} requests are waiting; try again later", again)
        except Refused:
            await discard(request.scope, request.receive, self.settings.max_bytes)
            raise
        return size

    @contextmanager
    def _open(self, size: int) -> Iterator[None]:
        """Within, a request of this many bytes counts as open."""
        self.open, self._held = self.open + 1, self._held + size
        self.metrics.open.set(self.open)
        try:
            yield
        finally:
            self.open, self._held = self.open - 1, self._held - size
            self.metrics.open.set(self.open)

    async def _answer(self, request: Request, with_map: bool) -> bytes:
        detector = self.batcher.detector
        assert detector is not None
        patience = _BODY_SHARE * self.settings.max_seconds
        data = await picture_of(request, self.settings.max_bytes, patience)
        async with self._room:
            loaded, first_of = await self._apart(self._decode, detector, data)
            scored = await self.batcher.score(loaded)
            return await self._apart(_encode, detector, loaded, scored, first_of, with_map)

    def _decode(self, detector: ServedDetector, data: bytes) -> tuple[Any, str | None]:
        picture = read_received_image(
            data, window=detector.window, max_pixels=self.settings.max_pixels
        )
        return detector.load(picture), picture.info.get(SEVERAL)

    async def _apart(self, work: Callable[..., Found], *arguments: Any) -> Found:
        """The result of work that takes time, done in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *arguments)


def _encode(
    detector: ServedDetector, loaded: Any, scored: Any, first_of: str | None, with_map: bool
) -> bytes:
    result = detector.result(loaded, scored)
    answer = answer_of(result, detector.rule.threshold, first_of, with_map)
    return answer.model_dump_json().encode()


def _reason(error: ImageReadError) -> str:
    return str(error).removeprefix("the picture: ")
