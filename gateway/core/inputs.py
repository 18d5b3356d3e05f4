"""A model's parameters: strict reading of the body, and the fingerprint that stands for it.

The body goes upstream byte for byte; what is parsed here only decides. RFC 8259 leaves duplicate keys and
huge numbers open, and two parsers that disagree about them are two different jobs: such bodies are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, NoReturn

from gateway.errors import InvalidRequest

MAX_DEPTH = 64
_MAX_INTEGER_DIGITS = 40
_MAX_EXACT = 2**53
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # set.add returns None
        raise InvalidRequest("the body has a key twice", field=twice[:64].encode("utf-8", "replace").decode())
    return built


def _constant(name: str) -> NoReturn:
    raise InvalidRequest(f"the body has {name}, which is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise InvalidRequest("the body has a number that is too large")
    # 1.0 and 1 are one number (RFC 8259, section 6), and whoever stores the body may write either.
    return int(value) if abs(value) <= _MAX_EXACT and value.is_integer() else value


def _int(text: str) -> int:
    if len(text) > _MAX_INTEGER_DIGITS:
        raise InvalidRequest("the body has a number that is too large")
    return int(text)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
)
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
"""Made once: to make one takes as long as to read or write a job's few parameters."""


def _depth(raw: bytes) -> int:
    """Return an upper bound of the nesting; exact for bodies without brackets in strings."""
    return raw.count(b"{") + raw.count(b"[")


def _check_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise InvalidRequest(f"the body is nested more than {MAX_DEPTH} deep")


def _check_text(value: object) -> None:
    """Refuse half a surrogate pair: no text, not to be written as UTF-8, and read differently by each parser."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequest("the body has half of a surrogate pair") from None


def parse_object(raw: bytes) -> dict[str, Any]:
    """Read a request body as a JSON object.

    Raises:
        InvalidRequest: Not UTF-8, not JSON, not an object, a key twice, NaN or an infinity, a number out of
            range, half of a surrogate pair, or nested too deep.
    """
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
    except RecursionError:
        raise InvalidRequest(f"the body is nested more than {MAX_DEPTH} deep") from None
    except ValueError:
        raise InvalidRequest("the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    if _depth(raw) > MAX_DEPTH:
        _check_depth(value)
    if _SURROGATE.search(raw):
        _check_text(value)
    return value


def fingerprint(model: str, params: Mapping[str, Any]) -> str:
    """Return the digest of a model and its canonical inputs: equal for bodies that mean the same job."""
    canonical = _CANONICAL.encode(params)
    return hashlib.sha256(f"{model}\n{canonical}".encode("ascii")).hexdigest()
