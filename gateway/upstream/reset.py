"""When the vendor's rate limit resets: ``x-rate-limit-reset-at-utc``, whose format and clock nobody promises."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil, isfinite

HEADER = "x-rate-limit-reset-at-utc"
DEFAULT_S = 5
LEAST_S = 1
MOST_S = 120
_MILLISECONDS_FROM = 1e11  # as seconds: the year 5138; as milliseconds: 1973
_MAX_TEXT = 64


def retry_after(headers: Mapping[str, str], *, now_s: float) -> int:
    """Return how long to wait, in whole seconds from 1 to 120.

    The reset is taken against the answer's own ``Date``, where there is one, since a vendor's clock that is off is off
    in both. A reset that is missing, unreadable or past says nothing: 5 s.

    Args:
        headers: Of the answer; found by their lower-case names.
        now_s: Our own clock, Unix seconds.
    """
    reset_s = _moment(headers.get(HEADER, ""))
    if reset_s is None:
        return DEFAULT_S
    vendor_now_s = _http_date(headers.get("date", ""))
    wait_s = reset_s - (now_s if vendor_now_s is None else vendor_now_s)
    return DEFAULT_S if wait_s < 0 else ceil(min(max(wait_s, LEAST_S), MOST_S))


def _moment(text: str) -> float | None:
    """Read Unix seconds or milliseconds, ISO 8601 (UTC where it names no zone) or an HTTP date."""
    text = text.strip()[:_MAX_TEXT]
    try:
        number = float(text)
    except ValueError:
        return _iso(text) or _http_date(text)
    if not isfinite(number):
        return None
    return number / 1000 if number > _MILLISECONDS_FROM else number


def _iso(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.removesuffix("UTC").strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
