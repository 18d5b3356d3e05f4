from __future__ import annotations

import json

from gateway.core.credits import parse_credits
from gateway.core.failure import describe

SECRET = "sgw_video-team_k1_s3cr3t"


def test_it_says_where_and_not_what() -> None:
    """The class, the place and the line of ours that led there are told; the text, which quotes a key, is not."""
    try:
        json.loads(f'{{"{SECRET}"')
    except ValueError as exc:
        told = describe(exc)
    assert told.startswith("JSONDecodeError at ")
    assert "json/decoder.py:" in told
    assert SECRET not in told


def test_our_own_line_is_told_too() -> None:
    """Of an exception that a library raised for us, the last place in the gateway is named as well."""
    try:
        parse_credits(SECRET)
    except ValueError as exc:
        told = describe(exc)
    assert "gateway/core/credits.py" in told
    assert SECRET not in told


def test_an_exception_that_was_never_raised_has_its_name() -> None:
    """Without a traceback the class is all there is."""
    assert describe(KeyError(SECRET)) == "KeyError"
