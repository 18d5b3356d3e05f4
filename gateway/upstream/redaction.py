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
