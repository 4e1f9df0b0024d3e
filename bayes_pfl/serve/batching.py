"""One thread that scores, and the batches that it forms of the pictures that wait."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bayes_pfl.serve.detectors import ServedDetector, warm_up

_JOIN = 2.0  # seconds in which the thread may finish what it computes


class _Waiting(NamedTuple):
    loaded: Any
    scored: Future[Any]


@dataclass
class Batcher:
    """Loads a detector, then scores with it, in a thread of its own.

    A batch begins with the first picture that waits. Others join it until it is full, or for
    ``wait`` seconds; while a batch is computed, those of the next one gather.

    Args:
        load: makes the detector, in the thread.
        most: pictures of a batch.
        wait: seconds.
        on_ready: called in the thread when the detector is loaded, with None; or with the error.
        on_batch: called in the thread with the number of pictures of each batch.
    """

    load: Callable[[], ServedDetector]
    most: int
    wait: float
    on_ready: Callable[[Exception | None], None]
    on_batch: Callable[[int], None]
    detector: ServedDetector | None = None
    _queue: queue.Queue[_Waiting | None] = field(default_factory=queue.Queue)
    _thread: threading.Thread | None = None

    @property
    def at_once(self) -> int:
        """Pictures of a batch: fewer where the detector says so."""
        return min(self.most, (self.detector and self.detector.at_once) or self.most)

    def start(self) -> None:
        """Begin to load."""
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the batch that it computes; give it two seconds."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(_JOIN)

    async def score(self, loaded: Any) -> Any:
        """The scores of one picture, as `ServedDetector.score` gives them.

        A caller that stops waiting is left out of the batches that have not begun.

        Raises:
            Exception: what the detector raised for this picture alone.
        """
        scored: Future[Any] = Future()
        self._queue.put(_Waiting(loaded, scored))
        return await asyncio.wrap_future(scored)

    def _run(self) -> None:
        try:
            detector = self.load()
            warm_up(detector)
        except Exception as error:
            self.on_ready(error)
            return
        self.detector = detector
        self.on_ready(None)
        while batch := self._gathered(self.at_once):
            wanted = [one for one in batch if one.scored.set_running_or_notify_cancel()]
            if wanted:
                self._score(detector, wanted)

    def _gathered(self, most: int) -> list[_Waiting]:
        """The next batch; empty at the end."""
        if (first := self._queue.get()) is None:
            return []
        found, end = [first], time.monotonic() + self.wait
        while len(found) < most:
            try:
                following = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)  # the next batch is the end
                break
            found.append(following)
        return found

    def _score(self, detector: ServedDetector, batch: list[_Waiting]) -> None:
        try:
            scores = detector.score([one.loaded for one in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].scored.set_exception(error)
                return
            for one in batch:  # a picture must not cost the answers of others
                self._score(detector, [one])
            return
        self.on_batch(len(batch))
        for one, scored in zip(batch, scores, strict=True):
            one.scored.set_result(scored)
