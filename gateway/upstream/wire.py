"""What goes over the wire and what it means: paths, headers, and answers as values. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import Any, Final

from gateway.core.credits import vendor_credits
from gateway.core.job import VendorStatus
from gateway.core.tenant import MODEL, Secret
from gateway.core.vendor import VendorState
from gateway.errors import InvalidRequest, UpstreamAmbiguous, UpstreamError, UpstreamInvalidResponse, UpstreamRefused
from gateway.upstream.redaction import redact
from gateway.upstream.reset import retry_after

UPLOAD_PATH: Final = "/upload-asset"
CREDITS_PATH: Final = "/v1/get-user-credits"
_WORKFLOW: Final = "workflows/"
_UPSTREAM_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,2048}", re.ASCII)
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.ASCII)

REQUEST_HEADERS: Final = ("content-type", "accept", "user-agent", "x-initiator", "traceparent")
RESPONSE_HEADERS: Final = ("content-type", "content-length", "x-generation-time", "x-seed-value", "x-cost")
DEFINITE: Final = frozenset({400, 401, 403, 404, 405, 406, 410, 413, 415, 422, 429})
"""Statuses that refuse by themselves, whatever body comes with them (the vendor documents none of them as billed)."""
_IN_BETWEEN: Final = frozenset({408, 499})
"""Statuses of proxies that gave up on a request, which may have gone on: whatever body comes with them."""
_STATUSES: Final[Mapping[object, VendorStatus]] = {
    "QUEUED": "QUEUED",
    "PROCESSING": "PROCESSING",
    "COMPLETED": "COMPLETED",
    "FAILED": "FAILED",
}
_MAX_DETAIL: Final = 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the vendor, read to its end; header names in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def success(self) -> bool:
        """Tell whether the status is 2xx."""
        return success(self.status)


@dataclass(frozen=True, slots=True)
class Balance:
    """What the company's account holds, in nanocredits; None where the vendor gave no figure that makes sense."""

    credits: int | None
    free_credits: int | None


def success(status: int) -> bool:
    """Tell whether a status is 2xx."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def submit_path(model: str) -> str:
    """Return where a job of that model is submitted. Raises `InvalidRequest` for a slug unfit for a URL."""
    slug = _checked(model)
    return f"/workflows/v2/{slug.removeprefix(_WORKFLOW)}" if slug.startswith(_WORKFLOW) else f"/v2/{slug}"


def sync_path(model: str) -> str:
    """Return where a sync call of that model goes. Raises `InvalidRequest`; workflows have no sync form."""
    slug = _checked(model)
    if slug.startswith(_WORKFLOW):
        raise InvalidRequest("a workflow can't be called in the sync way")
    return f"/v1/{slug}"


def job_path(upstream_id: str) -> str:
    """Return where a job's result is read; its status is at ``/status`` below.

    Raises:
        UpstreamInvalidResponse: The id, which is the vendor's, is unfit for a URL.
    """
    if not _UPSTREAM_ID.fullmatch(upstream_id):
        raise UpstreamInvalidResponse("the vendor's id is unfit for a URL")
    return f"/v2/requests/{upstream_id}"


def request_headers(headers: Mapping[str, str], traceparent: str | None) -> dict[str, str]:
    """Return what of a tenant's headers (lower-case names) goes upstream: the allow-list, fit for a header."""
    wanted = {"traceparent": traceparent, "content-type": "application/json", **headers}
    found = ((name, wanted.get(name)) for name in REQUEST_HEADERS)
    return {name: value for name, value in found if value and _HEADER_VALUE.fullmatch(value)}


def response_headers(headers: Mapping[str, str], secrets: Sequence[Secret]) -> dict[str, str]:
    """Return what of the vendor's headers may come back: the allow-list, which has no balance."""
    return {name: redact(headers[name], secrets) for name in RESPONSE_HEADERS if name in headers}


def trace_id(headers: Mapping[str, str], traceparent: str | None) -> str:
    """Return the trace id of what goes upstream (W3C Trace Context, section 3.2); empty without."""
    match = _TRACEPARENT.fullmatch(headers.get("traceparent") or traceparent or "")
    return match[1] if match else ""


def submitted(answer: Answer) -> str:
    """Read the vendor's id from the answer to a submit. Raises `UpstreamInvalidResponse` where it has none."""
    named = upstream_id(_object(answer.body).get("request_id"))
    if named is None:
        raise UpstreamInvalidResponse("the answer has no request_id")
    return named


def upstream_id(value: object) -> str | None:
    """Return a value that could be the vendor's id of a job, and is fit for a URL; else None."""
    return value if isinstance(value, str) and _UPSTREAM_ID.fullmatch(value) else None


def json_object(answer: Answer) -> None:
    """Check that the answer is a JSON object. Raises `UpstreamInvalidResponse`."""
    _object(answer.body)


def balance(answer: Answer) -> Balance:
    """Read the account's credits. Raises `UpstreamInvalidResponse`."""
    account = _object(answer.body)
    return Balance(vendor_credits(account.get("credits")), vendor_credits(account.get("free-credits")))


def state(answer: Answer, secrets: Sequence[Secret], *, full: bool) -> VendorState:
    """Read the vendor's word on a job. FAILED comes as a 422 with that word; a 404 in the envelope: no such job.

    Args:
        answer: To either GET: 2xx, 404 or 422.
        secrets: Masked in the error text.
        full: The answer is the full result. A FAILED job's body is kept either way: both GETs give the same.

    Raises:
        UpstreamInvalidResponse: It says nothing of the kind.
        UpstreamRefused: A 422 that is not about a FAILED job.
    """
    said = _object(answer.body)
    if answer.status == HTTPStatus.NOT_FOUND and isinstance(said.get("error"), str):
        return VendorState(None)
    status = _STATUSES.get(said["status"]) if isinstance(said.get("status"), str) else None
    if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY and status != "FAILED":
        raise UpstreamRefused(answer.status, message(answer, secrets))
    if status is None or answer.status == HTTPStatus.NOT_FOUND:
        raise UpstreamInvalidResponse("the answer has no status of a job")
    metrics = said.get("metrics")
    cost = metrics.get("cost") if status == "COMPLETED" and isinstance(metrics, dict) else None
    return VendorState(
        status,
        cost=vendor_credits(cost),
        remaining=vendor_credits(metrics.get("remaining_credits")) if isinstance(metrics, dict) else None,
        error=_words(answer.body, secrets) if status == "FAILED" else None,
        body=answer.body if full or status == "FAILED" else b"",
        content_type=answer.headers.get("content-type", "application/json"),
    )


def refusal(answer: Answer, secrets: Sequence[Secret], *, now_s: float) -> UpstreamError:
    """Tell what an answer that is no success means.

    Returns:
        `UpstreamRefused` where the vendor definitely did not accept: the statuses of `DEFINITE`, and any other 4xx but
        those of `_IN_BETWEEN`, and 500, in the JSON envelope. `UpstreamAmbiguous` for any other 5xx.
        `UpstreamInvalidResponse` for the rest.
    """
    status = answer.status
    client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _IN_BETWEEN
    enveloped = (client_error or status == HTTPStatus.INTERNAL_SERVER_ERROR) and _envelope(answer.body) is not None
    if status in DEFINITE or enveloped:
        limited = status == HTTPStatus.TOO_MANY_REQUESTS
        wait_s = retry_after(answer.headers, now_s=now_s) if limited else None
        return UpstreamRefused(status, message(answer, secrets), retry_after_s=wait_s)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UpstreamAmbiguous(f"status {status}", status=status, timed_out=status == HTTPStatus.GATEWAY_TIMEOUT)
    return UpstreamInvalidResponse(f"status {status}", unfit=status < HTTPStatus.BAD_REQUEST)


def message(answer: Answer, secrets: Sequence[Secret]) -> str:
    """Return the vendor's own words from its envelope, redacted; never HTML. Without: the status's name."""
    return _words(answer.body, secrets) or _phrase(answer.status)


def _checked(model: str) -> str:
    if not MODEL.fullmatch(model):
        raise InvalidRequest("not a model's name", field="model")
    return model


def _words(body: bytes, secrets: Sequence[Secret]) -> str | None:
    envelope = _envelope(body) or {}
    words = [envelope.get("error"), envelope.get("error_description")]
    text = ": ".join(word.strip() for word in words if isinstance(word, str) and word.strip())
    # A vendor that cuts a text in the middle of an emoji sends half of a surrogate pair, which nobody could store.
    text = text.encode("utf-8", "replace").decode()
    return redact(text, secrets)[:_MAX_DETAIL] if text and not text.startswith("<") else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"


def _envelope(body: bytes) -> dict[str, Any] | None:
    """Return the vendor's error envelope: a JSON object with a text ``error``."""
    said = _parsed(body)
    return said if said is not None and isinstance(said.get("error"), str) else None


def _object(body: bytes) -> dict[str, Any]:
    said = _parsed(body)
    if said is None:
        raise UpstreamInvalidResponse("the answer is not a JSON object")
    return said


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        said = _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def figure(text: str) -> Decimal | None:
    """Read a number of JSON; None where its exponent is beyond anything, which `Decimal` raises on."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _no_number(_: str) -> None:
    """Read NaN and the infinities, which are not JSON, as no figure: the rest of the answer still counts."""


_DECODER: Final = json.JSONDecoder(parse_float=figure, parse_int=figure, parse_constant=_no_number)
