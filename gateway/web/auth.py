"""Who is calling: the API key in ``x-api-key`` (as the SDK sends it) or ``Authorization: Bearer``."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.tenant import Credential
from gateway.errors import InvalidRequest, Refused

_BEARER = b"bearer "


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
    credential = None if key is None else Credential.parse(key.decode("latin-1"))
    if credential is None:
        raise Refused("unauthenticated", "no valid API key")
    return credential
