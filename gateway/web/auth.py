"""Who is calling: the API key in ``x-api-key`` (as the SDK sends it) or ``Authorization: Bearer``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from gateway.core.tenant import Credential
from gateway.errors import InvalidRequest, Refused

MAX_KEY_BYTES: Final = 128
_BEARER: Final = b"bearer "


def authenticate(headers: Mapping[bytes, bytes]) -> Credential:
    """Read the caller's key; whether it is valid is for the store to say.

    Raises:
        InvalidRequest: A key and a bearer token that differ.
        Refused: ``unauthenticated``: no key, or something that can't be one.
    """
    key = headers.get(b"x-api-key")
    authorization = headers.get(b"authorization")
    if authorization is not None and authorization[: len(_BEARER)].lower() == _BEARER:
        token = authorization[len(_BEARER) :].strip()
        if key is not None and key != token:
            raise InvalidRequest("the request carries two different API keys")
        key = token
    credential = None if key is None or len(key) > MAX_KEY_BYTES else _parsed(key)
    if credential is None:
        raise Refused("unauthenticated", "no valid API key")
    return credential


@lru_cache(maxsize=2048)
def _parsed(key: bytes) -> Credential | None:
    """Parse a key; what a key says of itself never changes, and whether it is valid is asked of the store each time."""
    return Credential.parse(key.decode("latin-1"))
