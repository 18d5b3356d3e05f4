"""Take the company's keys out of what the vendor sends."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.core.tenant import Secret

_MASK = "*"
_KEY = re.compile(r"SG_[0-9A-Za-z]{8,}", re.ASCII)


def redact(text: str, secrets: Sequence[Secret]) -> str:
    """Mask our keys, and whatever else has the form of a Segmind key, in a text meant for people."""
    for secret in secrets:
        text = text.replace(secret.reveal(), _MASK * 3)
    return _KEY.sub(_MASK * 3, text)


def redact_bytes(body: bytes, secrets: Sequence[Secret]) -> bytes:
    """Mask our keys in a body that is passed on; its length and every other byte stay."""
    for secret in secrets:
        key = secret.reveal().encode("ascii")
        if key in body:
            body = body.replace(key, _MASK.encode() * len(key))
    return body


class StreamRedaction:
    """Mask our keys in a body that comes in chunks, wherever those are cut; its length and every other byte stay.

    Held back is only an end of a chunk that could be a key's beginning, so that a stream goes on as it comes.
    """

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._secrets = secrets
        self._keys = [secret.reveal().encode("ascii") for secret in secrets]
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take a chunk; return what can be passed on, which may be nothing."""
        data = redact_bytes(self._held + chunk, self._secrets)
        held = max((_overlap(data, key) for key in self._keys), default=0)
        self._held = data[len(data) - held :]
        return data[: len(data) - held]

    def rest(self) -> bytes:
        """Return what is held back at the end of the body: no key follows any more."""
        held, self._held = self._held, b""
        return held


def _overlap(data: bytes, key: bytes) -> int:
    """Return how many bytes at the end of ``data`` are the beginning of ``key``, but not all of it."""
    return next((size for size in range(min(len(key) - 1, len(data)), 0, -1) if data.endswith(key[:size])), 0)
