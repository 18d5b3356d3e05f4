from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from web.fakes import JOB, QUOTA, READ

from gateway import errors
from gateway.core.credits import NANO
from gateway.core.movements import Denied
from gateway.core.quota import Window
from gateway.service.outcomes import Rejected, Uncertain
from gateway.web import problems
from gateway.web.exchange import Answer

CONTRACT = {
    400: ["invalid_request", "idempotency_key_required"],
    401: ["unauthenticated"],
    403: ["model_not_allowed", "webhook_not_allowed", "tenant_suspended", "upstream_forbidden"],
    404: ["not_found", "model_not_found"],
    405: ["method_not_allowed"],
    406: ["budget_exhausted"],
    408: ["request_timeout"],
    409: ["idempotency_in_progress"],
    410: ["model_retired", "result_expired"],
    413: ["body_too_large"],
    415: ["unsupported_media_type"],
    422: ["idempotency_mismatch"],
    429: ["rate_limited", "concurrency_limited", "upstream_rate_limited"],
    500: ["internal_error"],
    502: ["upstream_error", "upstream_invalid_response"],
    503: ["store_unavailable", "upstream_unavailable", "upstream_credits_exhausted", "upstream_auth", "overloaded",
          "draining"],
    504: ["outcome_unknown", "upstream_timeout"],
}  # fmt: skip
CODES = [(status, code) for status, codes in CONTRACT.items() for code in codes]


def tree(root: type[Exception]) -> Iterator[type[Exception]]:
    """Walk an exception and its subclasses."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def body(answer: Answer) -> dict[str, object]:
    """Read a problem."""
    assert isinstance(answer.body, bytes)
    loaded: dict[str, object] = orjson.loads(answer.body)
    return loaded


def test_the_table_is_the_contract() -> None:
    """The table has the codes of the contract and no other."""
    assert {(kind.status, code) for code, kind in problems.KINDS.items()} == set(CODES)


@pytest.mark.parametrize("cls", list(tree(errors.GatewayError)))
def test_every_exception_is_mapped(cls: type[Exception]) -> None:
    """Each class of the exception tree has a row of its own, with a code of the table."""
    assert problems.EXCEPTIONS[cls] in problems.KINDS


@pytest.mark.parametrize(("status", "code"), CODES)
def test_every_code_is_a_whole_problem(status: int, code: str) -> None:
    """Each code gives RFC 9457's members, the SDK's ``error``, and Retry-After on every 429, 503 and 409."""
    answer = problems.problem(code)
    told = body(answer)
    assert answer.status == told["status"] == status
    assert told["code"] == code
    assert told["type"] == f"urn:segmind-gateway:problem:{code}"
    assert told["error"] == told["detail"]
    assert told["title"]
    headers = dict(answer.headers)
    assert headers[b"content-type"] == b"application/problem+json"
    assert (b"retry-after" in headers) == (status in {409, 429, 503})


@pytest.mark.parametrize(
    ("exc", "status", "code"),
    [
        (errors.StoreUnavailable("redis://:secret@10.0.0.1"), 503, "store_unavailable"),
        (errors.StoreNotReady("secret"), 503, "store_unavailable"),
        (errors.Refused("draining", "on its way out"), 503, "draining"),
        (errors.Refused("no such code", "?"), 500, "internal_error"),
        (errors.BodyTooLarge("more than 1"), 413, "body_too_large"),
        (errors.UpstreamUnsent("secret"), 503, "upstream_unavailable"),
        (errors.UpstreamAmbiguous("secret"), 502, "upstream_error"),
        (errors.UpstreamAmbiguous("secret", timed_out=True), 504, "upstream_timeout"),
        (errors.UpstreamRefused(429, "slow down", retry_after_s=17), 429, "upstream_rate_limited"),
        (errors.UpstreamRefused(418, "no"), 502, "upstream_error"),
        (ValueError("secret"), 500, "internal_error"),
    ],
    ids=str,
)
def test_exceptions_answer(exc: Exception, status: int, code: str) -> None:
    """An exception answers by the table; what it says of our inside stays inside."""
    answer = problems.from_exception(exc)
    assert (answer.status, answer.code) == (status, code)
    assert isinstance(answer.body, bytes)
    assert b"secret" not in answer.body


def test_a_field_is_named_whatever_its_characters() -> None:
    """A 400 names the field, even one that can't be written as UTF-8."""
    told = body(problems.from_exception(errors.InvalidRequest("key \ud800 twice", field="\ud800")))
    assert (told["field"], told["code"]) == ("?", "invalid_request")


@pytest.mark.parametrize(("seconds", "said"), [(0.0, 1), (0.2, 1), (1.01, 2), (30.0, 30)])
def test_retry_after_is_whole_and_never_early(seconds: float, said: int) -> None:
    """Retry-After is rounded up to whole seconds and at least 1."""
    answer = problems.denied(Denied("rate_limited", QUOTA, retry_after_s=seconds), "http://gw")
    assert dict(answer.headers)[b"retry-after"] == b"%d" % said
    assert body(answer)["retry_after"] == said


def test_a_refused_budget_says_which_and_until_when() -> None:
    """A 406 tells balance, hold and need in credits, exactly, and when the window ends."""
    window = Window("day", limit=50 * NANO, spent=49 * NANO, held=941_500_000)
    denial = Denied("budget_exhausted", QUOTA, window=window, required=941_500_001, resets_at_ms=1_766_966_400_000)
    answer = problems.denied(denial, "http://gw")
    assert isinstance(answer.body, bytes)
    for member in (b'"balance":0.0585', b'"held":0.9415', b'"required":0.941500001', b'"limited_by":"tenant"'):
        assert member in answer.body
    assert body(answer)["resets_at"] == "2025-12-29T00:00:00Z"
    assert answer.status == 406


def test_a_job_in_progress_is_named() -> None:
    """A 409 tells the id under which the first request's job is found."""
    told = body(problems.denied(Denied("idempotency_in_progress", QUOTA, job_id=JOB.id), "http://gw"))
    assert told["request_id"] == JOB.id
    assert told["status_url"] == f"http://gw/v2/requests/{JOB.id}/status"


def test_unauthenticated_tells_nothing() -> None:
    """An unknown caller gets the same bytes from every source, and no limits."""
    plain = problems.unauthenticated()
    for other in (
        problems.denied(Denied("unauthenticated", QUOTA, retry_after_s=3, rate=READ), "http://gw"),
        problems.from_exception(errors.Refused("unauthenticated", "no key at all")),
    ):
        assert (other.body, other.headers) == (plain.body, plain.headers)


def test_a_job_of_unknown_outcome_is_named() -> None:
    """A 504 tells the id, the vendor's if known, and that the hold stands."""
    answer = problems.uncertain(Uncertain(JOB, QUOTA), "http://gw")
    assert (answer.status, body(answer)["request_id"]) == (504, JOB.id)
    assert dict(answer.headers)[b"x-credits-held"] == b"0.9415"


@pytest.mark.parametrize(("code", "status"), [("model_retired", 410), ("upstream_auth", 503), ("never heard of", 502)])
def test_a_rejection_answers_by_its_code(code: str, status: int) -> None:
    """A vendor's refusal answers by the table in the vendor's words; an unknown code is a 502."""
    answer = problems.rejected(Rejected(code, "gone", job=JOB, quota=QUOTA, replayed=True), "http://gw")
    assert (answer.status, body(answer)["error"]) == (status, "gone")
    headers = dict(answer.headers)
    assert headers[b"idempotent-replayed"] == b"true"
    assert b"x-credits-held" not in headers
