"""What it means for the caller that the vendor did not take a job: status and words -> our code."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import Final

from gateway.core.alerts import AlertName
from gateway.errors import Refused, UpstreamHeldBack, UpstreamRefused, UpstreamUnsent

WRONG_KEY = "upstream_auth"
NO_CREDITS = "upstream_credits_exhausted"
UNSENT_RETRY_S = 5
MOST_S = 120
RETRY_AFTER_S = 30
"""When to ask again after an outage that a person has to end (a wrong key, an empty account)."""

_NEW_KEY: Final = "put a key that the vendor takes into SEGMIND_API_KEY_FILE, or SEGMIND_API_KEY and restart"
_MORE: Final = "raise it at the vendor: jobs go on by themselves"
_WORDS_OF_TYPE = ("content type", "content-type", "media type", "not acceptable")
_WORDS_OF_TEAM = ("team", "spend limit", "spending limit", "monthly limit")

_CODES: Final = MappingProxyType(
    {
        400: "invalid_request",
        403: "upstream_forbidden",
        404: "model_not_found",
        410: "model_retired",
        413: "body_too_large",
        415: "unsupported_media_type",
        422: "invalid_request",
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to tell the caller.

    Attributes:
        retry_after_s: Set where the same request may succeed later: its idempotency key is then forgotten.
        alert: Name of the alert that operators get, if this is theirs to mend.
        to_do: What they are told of it, and tenants are not.
    """

    code: str
    detail: str
    limited_by: str | None = None
    retry_after_s: int | None = None
    alert: AlertName | None = None
    to_do: str = ""


def judge(refusal: Refused | UpstreamRefused | UpstreamUnsent) -> Verdict:
    """Classify a refusal, be it our own or the vendor's."""
    if isinstance(refusal, Refused):
        return Verdict(refusal.code, refusal.detail, refusal.limited_by, refusal.retry_after_s)
    if isinstance(refusal, UpstreamHeldBack):
        wait_s = min(max(ceil(refusal.retry_after_s), 1), MOST_S)
        return Verdict(refusal.code, refusal.detail, refusal.limited_by, wait_s)
    if isinstance(refusal, UpstreamUnsent):
        return Verdict("upstream_unavailable", "the vendor could not be reached", "upstream", UNSENT_RETRY_S)
    return _answered(refusal)


def _answered(refusal: UpstreamRefused) -> Verdict:
    """Classify an answer of the vendor. 406 has three meanings, told apart only by the message."""
    if refusal.status == 429:  # noqa: PLR2004 HTTP
        return Verdict("upstream_rate_limited", refusal.detail, "upstream", refusal.retry_after_s or 5)
    if refusal.status == 401:  # noqa: PLR2004 HTTP
        detail = "the gateway's own key was refused by the vendor; its operators have been alerted"
        return Verdict(WRONG_KEY, detail, "upstream", RETRY_AFTER_S, "upstream.auth_failed", _NEW_KEY)
    if refusal.status == 406:  # noqa: PLR2004 HTTP
        return _not_acceptable(refusal.detail)
    code = _CODES.get(refusal.status, "upstream_error")
    return Verdict(code, refusal.detail, "upstream" if code == "upstream_forbidden" else None)


def _not_acceptable(detail: str) -> Verdict:
    said = detail.lower()
    if any(word in said for word in _WORDS_OF_TEAM):
        what = "the spend limit of the company's team at the vendor is reached"
        return Verdict(NO_CREDITS, what, "upstream", RETRY_AFTER_S, "upstream.team_limit", _MORE)
    if any(word in said for word in _WORDS_OF_TYPE):
        return Verdict("unsupported_media_type", detail)
    # We send JSON only, so words that we don't know are about money, and operators should see them.
    what = "the company's account at the vendor has no credits left"
    return Verdict(NO_CREDITS, what, "upstream", RETRY_AFTER_S, "upstream.credits_exhausted", _MORE)
