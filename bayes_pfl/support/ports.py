"""Ports of this machine that a server listens on."""

from __future__ import annotations

import errno
import socket

from bayes_pfl.errors import ConfigError


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at an address of this machine; nobody can connect until it listens.

    Args:
        port: 0 for any that is free.

    Raises:
        ConfigError: the port is taken, or the address is none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"host {host!r}: no address of this machine; give its IP") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            state = "is taken" if error.errno == errno.EADDRINUSE else "needs more rights"
            raise ConfigError(f"port {port} on {host} {state}; give another --port") from error
        raise ConfigError(f"host {host!r}: no address of this machine; give its IP") from error
    return bound
