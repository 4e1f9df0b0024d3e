"""What the service may use, and who may reach it."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

from bayes_pfl.data.opening import MAX_PIXELS
from bayes_pfl.detect.settings import check_whole
from bayes_pfl.errors import ConfigError
from bayes_pfl.support.access import check_access, is_local

_PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
_UPLOADS_AT_ONCE = 8  # of the largest size, whose bytes are held together


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Where the service listens, and its limits.

    Attributes:
        host: its address; others than this computer's own demand a token.
        port: 0 for any that is free.
        token: that requests must bring; None for none.
        batch_size: pictures, or tiles of pictures, that are scored together.
        batch_wait: seconds that the first picture of a batch waits for others.
        decoders: threads that decode pictures and encode answers.
        max_bytes: of one picture.
        max_pixels: of one picture.
        max_queue: requests that are being worked on or wait; one more is refused.
        max_seconds: from the arrival of a request to its answer.

    Raises:
        ConfigError: a value that cannot be used.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    batch_size: int = 8
    batch_wait: float = 0.005
    decoders: int = 2
    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_queue: int = 64
    max_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_whole("port", self.port, 0, 65535)
        check_whole("batch_size", self.batch_size, 1)
        check_whole("decoders", self.decoders, 1, 64)
        check_whole("max_bytes", self.max_bytes, 1)
        check_whole("max_pixels", self.max_pixels, 1, MAX_PIXELS)
        check_whole("max_queue", self.max_queue, 1)
        if not 0 <= self.batch_wait <= 1:
            raise ConfigError(f"batch_wait = {self.batch_wait}: give seconds from 0 to 1")
        if not (self.max_seconds > 0 and math.isfinite(self.max_seconds)):
            raise ConfigError(f"max_seconds = {self.max_seconds}: give seconds above 0")
        check_access(self.host, self.token)

    @property
    def local(self) -> bool:
        """Whether this computer alone can reach the service."""
        return is_local(self.host)

    @property
    def max_held(self) -> int:
        """Bytes of all uploads that are held together."""
        return _UPLOADS_AT_ONCE * self.max_bytes


def check_installed() -> None:
    """Raise ConfigError where a package of the extra is missing."""
    missing = [name for name, module in _PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{_PACKAGES[missing[0]]} is not installed; run: pip install 'bayes-pfl[serve]'"
        )
