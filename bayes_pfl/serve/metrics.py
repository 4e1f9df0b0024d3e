"""What the service counts and times, for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Figures of one service since its start; nothing about the pictures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory and processor time, on Linux
        known: dict[str, Any] = {"registry": self.registry, "namespace": "bayes_pfl"}
        self.requests = Counter("requests", "Answers to /predict, by status.", ["status"], **known)
        self.seconds = Histogram(
            "request_seconds",
            "From the arrival of a request to its answer with scores.",
            buckets=_SECONDS,
            **known,
        )
        self.batches = Histogram(
            "batch_pictures", "Pictures scored together.", buckets=_BATCHES, **known
        )
        self.open = Gauge("requests_open", "Requests that are worked on or wait.", **known)
        self.ready = Gauge("ready", "1 when pictures are scored, else 0.", **known)

    def text(self) -> bytes:
        """In the text format."""
        return generate_latest(self.registry)
