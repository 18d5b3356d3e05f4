"""Request headers: read once, kept by allow-list, each checked before anything is decided."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from gateway.core.targets import spellings
from gateway.errors import InvalidRequest

SINGLE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"transfer-encoding",
        b"x-api-key",
        b"x-gateway-labels",
        b"x-webhook-url",
    }
)
"""Headers that a request may carry once; twice is two readings of it, and a 400."""

UPSTREAM = (b"content-type", b"accept", b"user-agent", b"x-initiator")
"""What is passed on of a tenant's request, besides a valid ``traceparent``."""

MAX_LABELS = 8
MAX_KEY_CHARACTERS = 255
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,1024}")
_BARE_KEY = re.compile(r"[!#-~][!-~]*")
_QUOTED_KEY = re.compile(r'"((?:[!#-\[\]-~]|\\["\\])+)"')
_LABEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,62})=([\x20-\x2b\x2d-\x7e]{0,128})")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def collect(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Read a request's headers, names already in lower case.

    Raises:
        InvalidRequest: A header that may stand once stands twice.
    """
    pairs: Sequence[tuple[bytes, bytes]] = raw if isinstance(raw, list) else list(raw)
    headers = dict(pairs)
    if len(headers) == len(pairs):
        return headers
    merged: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name not in merged:
            merged[name] = value
        elif name in SINGLE:
            raise InvalidRequest(f"the header {name.decode('ascii')} stands there twice")
        else:
            merged[name] += b", " + value  # RFC 9110 section 5.3
    return merged


def upstream_headers(headers: Mapping[bytes, bytes], trace: str | None) -> dict[str, str]:
    """Pick what goes upstream; a header that ``Connection`` names is for this hop only (RFC 9110 section 7.6.1)."""
    hop = {name.strip().lower() for name in headers.get(b"connection", b"").split(b",")}
    picked: dict[str, str] = {}
    for name in UPSTREAM:
        value = headers.get(name, b"").decode("latin-1")
        if name not in hop and _PRINTABLE.fullmatch(value):
            picked[name.decode("ascii")] = value
    if trace is not None and b"traceparent" not in hop:
        picked["traceparent"] = trace
    return picked


def traceparent(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the W3C trace context, or None: one that is invalid is ignored (Trace Context section 3.2.2)."""
    value = headers.get(b"traceparent")
    if value is None:
        return None
    text = value.decode("latin-1")
    return text if _TRACEPARENT.fullmatch(text) else None


def idempotency_key(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the idempotency key without quotes, or None where there is none.

    Raises:
        InvalidRequest: Not 1 to 255 visible ASCII characters, quoted (RFC 8941 string) or bare.
    """
    value = headers.get(b"idempotency-key")
    if value is None:
        return None
    text = value.decode("latin-1")
    quoted = _QUOTED_KEY.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if (quoted or _BARE_KEY.fullmatch(text)) and len(key) <= MAX_KEY_CHARACTERS:
        return key
    raise InvalidRequest(f"Idempotency-Key must be 1 to {MAX_KEY_CHARACTERS} visible characters")


def labels(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Read ``X-Gateway-Labels: k=v,k=v``.

    Raises:
        InvalidRequest: More than 8, a name twice, or a name or value that is too long or not printable ASCII.
    """
    value = headers.get(b"x-gateway-labels", b"").decode("latin-1").strip()
    if not value:
        return {}
    read: dict[str, str] = {}
    items = value.split(",")
    for item in items:
        match = _LABEL.fullmatch(item.strip())
        if match is None or match[1] in read:
            raise InvalidRequest("X-Gateway-Labels must be k=v,k=v: names of 1 to 63 characters, values up to 128")
        read[match[1]] = match[2]
    if len(read) > MAX_LABELS:
        raise InvalidRequest(f"X-Gateway-Labels takes at most {MAX_LABELS} labels")
    return read


def webhook_url(headers: Mapping[bytes, bytes]) -> str | None:
    """Return where to announce the end of the job; only its form is checked here, its host by admission.

    Raises:
        InvalidRequest: Not an absolute http(s) URL, or one with user information, a fragment or an IPv6 address.
    """
    value = headers.get(b"x-webhook-url")
    if value is None:
        return None
    text = value.decode("latin-1")
    if not spellings(text):
        raise InvalidRequest("X-Webhook-Url must be an absolute http or https URL of a host name or IPv4 address")
    return text
