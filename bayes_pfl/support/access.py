"""Who may reach a server: this computer alone, or whoever brings the token."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets

from bayes_pfl.errors import ConfigError

SHORTEST_TOKEN = 16
"""Characters of a token, at least: shorter ones can be guessed."""


def is_local(host: str) -> bool:
    """Whether this computer alone can reach an address that a server listens on.

    >>> [is_local(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.1.5")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_access(host: str, token: str | None) -> None:
    """Refuse to open a server to other computers without a token.

    Raises:
        ConfigError: an address that others reach without a token, or a token that is too short.
    """
    if token is None:
        if not is_local(host):
            raise ConfigError(
                f"host {host!r} is open to other computers: give a token that requests must bring "
                "(--token, or the variable BAYES_PFL_TOKEN)"
            )
        return
    visible = token.isascii() and token.isprintable() and " " not in token
    if len(token) < SHORTEST_TOKEN or not visible:  # the token itself is not shown
        raise ConfigError(
            f"token of {len(token)} characters: give {SHORTEST_TOKEN} at least, ASCII without "
            "blanks"
        )


def brings_token(authorization: str, token: str) -> bool:
    """Whether a header Authorization holds the token: as Bearer, or as the password of Basic.

    >>> brings_token("Bearer 0123456789abcdef", "0123456789abcdef")
    True
    """
    kind, _, given = authorization.partition(" ")
    said = given.strip().encode("latin-1", "replace")
    if kind.lower() == "basic":
        try:
            said = base64.b64decode(said, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif kind.lower() != "bearer":
        return False
    return secrets.compare_digest(said, token.encode())
