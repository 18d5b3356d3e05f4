"""Replace the company's balance in a result body, and no other byte."""

from __future__ import annotations

import json
import re

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_VALUE = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)


def replace_balance(body: bytes, credits: str) -> bytes:  # noqa: A002 the vendor's and the field's word
    """Replace each value of ``remaining_credits`` that stands in an object called ``metrics``, at any depth.

    Args:
        body: A JSON document, as received.
        credits: What to put there instead: a JSON number.

    Returns:
        The body, with every byte outside of those values as received; the body itself where it has none.
    """
    text = body.decode("latin-1")  # one character a byte, so that offsets and all other bytes are kept
    if "remaining" not in text and "\\u" not in text:
        return body
    pieces: list[str] = []
    done = 0
    for start, end in _balances(text):
        pieces += (text[done:start], credits)
        done = end
    return "".join((*pieces, text[done:])).encode("latin-1") if pieces else body


def _balances(text: str) -> list[tuple[int, int]]:
    """Return where the values to replace begin and end."""
    found: list[tuple[int, int]] = []
    owners: list[str] = []  # for each open object or list, the key that it is the value of
    key = ""
    at = 0
    while (token := _TOKEN.search(text, at)) is not None:
        at = token.end()
        first = text[token.start()]
        if first in "{[":
            owners.append(key)
            key = ""
        elif first in "}]":
            del owners[-1:]
            key = ""
        elif (colon := _COLON.match(text, at)) is None:
            key = ""
        else:
            key, at = _unquoted(token[0]), colon.end()
            if key == "remaining_credits" and owners[-1:] == ["metrics"]:
                end = _end_of_value(text, at)
                found.append((at, end))
                at = end
    return found


def _unquoted(token: str) -> str:
    if "\\" not in token:
        return token[1:-1]
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return ""


def _end_of_value(text: str, start: int) -> int:
    try:
        return _VALUE.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return start
