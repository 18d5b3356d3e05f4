"""Where a webhook may go: the hosts that its URL names, and whether an allow-list has one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

MAX_URL_CHARACTERS: Final = 2048
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::(?P<port>[0-9]{1,5}))?(?:[/?][!\"$-\[\]-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS: Final = MappingProxyType({"http": 80, "https": 443})
_MAX_PORT: Final = 65_535


def spellings(url: str) -> tuple[str, ...]:
    """Return the host of a webhook's URL in the spellings that an allow-list may use; none for an unfit URL.

    ``host:port`` always, and before it ``host`` alone where the port is the scheme's own. The form is so narrow (no
    user, fragment, backslash, brackets or trailing dot) that no two parsers can find different hosts in it.
    """
    match = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARACTERS else None
    if match is None:
        return ()
    host, default = match["host"].lower(), _DEFAULT_PORTS[match["scheme"].lower()]
    port = int(match["port"] or default)
    if not 0 < port <= _MAX_PORT:
        return ()
    return (host, f"{host}:{port}") if port == default else (f"{host}:{port}",)


def listed(patterns: Iterable[str], url: str) -> bool:
    """Tell whether a pattern fits a URL's host: ``host``, ``host:port``, or ``*.host`` for all names below it.

    The same rule as the admission script's.
    """
    return any(_fits(pattern, host) for pattern in patterns for host in spellings(url))


def _fits(pattern: str, host: str) -> bool:
    if not pattern.startswith("*."):
        return host == pattern
    return host.endswith(pattern[1:]) and len(host) >= len(pattern)
