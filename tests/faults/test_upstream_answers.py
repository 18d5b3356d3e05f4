"""What the vendor may answer to a submit: how that is told, what is on record for it, and what stays held."""

from __future__ import annotations

from typing import Any, Final

import pytest
from support.gateway import TENANT, Gateway
from support.ledger import entries
from support.vendor import KLING

from gateway.core.job import JobState
from gateway.sandbox import Fault

SYNC: Final = "/v1/faceswap-v2"
SUBMIT: Final = f"/v2/{KLING}"


HTML: Final = "<!doctype html><title>Bad Gateway</title>"


def says(status: int, error: object = "vendor's words", **headers: str) -> Fault:
    """Make the vendor answer a submit or a sync call by an error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = error if error == HTML or not isinstance(error, str) else {"error": error}
    return Fault(action="respond", on=("submit", "sync"), status=status, body=body, headers=named)


REFUSED: Final[dict[str, tuple[Fault, int, str]]] = {
    "400": (says(400), 400, "invalid_request"),
    "401, our key": (says(401, "invalid_api_key"), 503, "upstream_auth"),
    "403": (says(403), 403, "upstream_forbidden"),
    "404": (says(404), 404, "model_not_found"),
    "405, in HTML": (says(405, HTML), 502, "upstream_error"),
    "406, content type": (says(406, "Content-Type must be application/json"), 415, "unsupported_media_type"),
    "406, credits": (says(406, "Insufficient credits."), 503, "upstream_credits_exhausted"),
    "406, team": (says(406, "Team spend limit reached"), 503, "upstream_credits_exhausted"),
    "410": (says(410), 410, "model_retired"),
    "413": (says(413), 413, "body_too_large"),
    "415": (says(415), 415, "unsupported_media_type"),
    "422": (says(422), 400, "invalid_request"),
    "500 in the envelope": (says(500), 502, "upstream_error"),
    "429, after which nothing is sent for a while": (says(429), 429, "upstream_rate_limited"),
}


UNKNOWN: Final[dict[str, tuple[Fault, int, str]]] = {
    "500, in HTML": (says(500, HTML), 504, "outcome_unknown"),
    "502, in HTML": (says(502, HTML), 504, "outcome_unknown"),
    "502 in the envelope": (says(502), 504, "outcome_unknown"),
    "503": (says(503), 504, "outcome_unknown"),
    "504": (says(504), 504, "outcome_unknown"),
    "200 without an id": (Fault(action="no_id"), 504, "outcome_unknown"),
    "200, in HTML": (says(200, HTML), 504, "outcome_unknown"),
    "reset before it was taken": (Fault(action="drop"), 504, "outcome_unknown"),
    "reset after it was taken": (Fault(action="drop", after=True), 504, "outcome_unknown"),
    "closed before it was taken": (Fault(action="drop", how="close"), 504, "outcome_unknown"),
    "closed after it was taken": (Fault(action="drop", how="close", after=True), 504, "outcome_unknown"),
    "never answered": (Fault(action="hang"), 504, "outcome_unknown"),
    "broken off": (Fault(action="truncate", on=("submit",)), 504, "outcome_unknown"),
    "a redirect": (says(302, "", location="http://127.0.0.1:1/"), 502, "upstream_invalid_response"),
}


ONLY_SUBMIT: Final = frozenset({"200 without an id", "broken off"})


async def outcomes(gateway: Gateway, path: str, cases: dict[str, tuple[Fault, int, str]]) -> dict[str, tuple[Any, ...]]:
    """Let each case happen to a call; tell how it was answered and recorded, and whether that is all right."""
    seen = {}
    for case, (fault, _, _) in cases.items():
        gateway.vendor.sandbox.faults.replace([fault])
        _, held_before = await gateway.money()
        answer = await gateway.post(path)
        said, held = answer.json(), (await gateway.money())[1] - held_before
        job = await gateway.job(said["request_id"])
        assert answer.headers["content-type"] == "application/problem+json", case
        assert (said["error"], said["status"]) == (said["detail"], answer.status_code), case
        assert "<" not in said["error"], case
        assert said["status_url"].endswith(f"/v2/requests/{job.id}/status"), case
        if answer.status_code in {429, 503}:
            assert 1 <= int(answer.headers["retry-after"]) == said["retry_after"] <= 120, case
            assert said["limited_by"] == "upstream", case
        seen[case] = (answer.status_code, said["code"], job.state, held == (0 if job.state.terminal else job.hold))
    return seen


@pytest.mark.parametrize("path", [SUBMIT, SYNC])
async def test_r13_definite_refusals(gateway: Gateway, path: str) -> None:
    """A 500 in the envelope, and whatever else the vendor did not take: REJECTED, released, told in our codes."""
    seen = await outcomes(gateway, path, REFUSED)
    assert seen == {case: (status, code, JobState.REJECTED, True) for case, (_, status, code) in REFUSED.items()}
    assert await gateway.money() == (0, 0)
    assert gateway.accepted() == []
    job_id = (await entries(gateway.store.client, TENANT))[0]["job"]
    later = await gateway.http.get(f"/v2/requests/{job_id}/status")
    assert (later.status_code, later.json()["status"], later.json()["error"]) == (422, "FAILED", "vendor's words")


@pytest.mark.parametrize("path", [SUBMIT, SYNC])
@pytest.mark.parametrize(
    "gateway", [{"upstream_read_timeout_seconds": 0.5, "upstream_sync_timeout_seconds": 0.5}], indirect=True
)
async def test_r12_lost_answers(gateway: Gateway, path: str) -> None:
    """Whatever leaves open whether the vendor has the job: UNKNOWN, hold kept, one POST only, read as QUEUED."""
    cases = {case: row for case, row in UNKNOWN.items() if path == SUBMIT or case not in ONLY_SUBMIT}
    seen = await outcomes(gateway, path, cases)
    assert seen == {case: (status, code, JobState.UNKNOWN, True) for case, (_, status, code) in cases.items()}
    assert gateway.upstream_posts() == len(cases)
    assert (await gateway.money())[0] == 0
    job_id = (await entries(gateway.store.client, TENANT))[0]["job"]
    later = await gateway.http.get(f"/v2/requests/{job_id}")
    assert (later.status_code, later.json()["status"]) == (200, "QUEUED")
