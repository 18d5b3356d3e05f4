"""The gateway's own absolute URLs: from the configured public URL, else from the request's own Host.

``X-Forwarded-*`` is ignored: anyone can send it, and a poisoned status_url would receive the tenant's key.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.errors import InvalidRequest

_HOST = re.compile(rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
PUBLIC_URL = re.compile(r"https?://[A-Za-z0-9.\-_\[\]:]+(?:/[A-Za-z0-9._~/-]*)?")
"""What ``GATEWAY_PUBLIC_URL`` may be: nothing that would need escaping in a JSON string."""


def own_base(public_url: str, scheme: str, host: bytes | None) -> str:
    """Return what our URLs begin with, without a slash at the end.

    Args:
        public_url: ``GATEWAY_PUBLIC_URL``; empty where it is not set.
        scheme: Of the connection as the server saw it.
        host: The request's Host header.

    Raises:
        InvalidRequest: The Host header is missing or is not ``host[:port]`` (RFC 9112 section 3.2: 400).
    """
    return public_url.rstrip("/") if public_url else _base(scheme, host)


@lru_cache(maxsize=256)
def _base(scheme: str, host: bytes | None) -> str:
    if host is None or _HOST.fullmatch(host) is None:
        raise InvalidRequest("the Host header is missing or malformed")
    return f"{scheme}://{host.decode('ascii')}"


def status_url(base: str, job_id: str) -> str:
    """Return where a job's status is read."""
    return f"{base}/v2/requests/{job_id}/status"
