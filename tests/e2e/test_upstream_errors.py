"""What the vendor does wrong, and what the caller gets, what is on record and what stays held for it."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest
from support.gateway import TENANT, Gateway, eventually, gateway_on
from support.ledger import entries
from support.valkey import free_port
from support.vendor import KLING

from gateway.core.job import JobState
from gateway.sandbox import Fault

SUBMIT: Final = f"/v2/{KLING}"
SYNC: Final = "/v1/faceswap-v2"
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
async def test_definite_refusals(gateway: Gateway, path: str) -> None:
    """What the vendor definitely did not take is REJECTED and released, told in our codes, and reads FAILED after."""
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
async def test_unknown_outcomes(gateway: Gateway, path: str) -> None:
    """Whatever leaves open whether the vendor has the job: UNKNOWN, hold kept, one POST only, read as QUEUED."""
    cases = {case: row for case, row in UNKNOWN.items() if path == SUBMIT or case not in ONLY_SUBMIT}
    seen = await outcomes(gateway, path, cases)
    assert seen == {case: (status, code, JobState.UNKNOWN, True) for case, (_, status, code) in cases.items()}
    assert gateway.upstream_posts() == len(cases)
    assert (await gateway.money())[0] == 0
    job_id = (await entries(gateway.store.client, TENANT))[0]["job"]
    later = await gateway.http.get(f"/v2/requests/{job_id}")
    assert (later.status_code, later.json()["status"]) == (200, "QUEUED")


async def test_real_refusals(gateway: Gateway) -> None:
    """The vendor's own 403, 404, 410, 406 and 429, as it really sends them, come out as they should."""
    sandbox = gateway.vendor.sandbox
    models = ("sandbox-forbidden", "no-such-model", "sandbox-retired")
    seen = [(await gateway.post(f"/v2/{model}")).json()["code"] for model in models]
    sandbox.knobs.team_limit_reached = True
    seen.append((await gateway.post()).json()["code"])
    sandbox.knobs.rate_limit_rpm = 1
    await gateway.post()
    seen.append((await gateway.post()).json()["code"])
    assert seen == [
        "upstream_forbidden",
        "model_not_found",
        "model_retired",
        "upstream_credits_exhausted",
        "upstream_rate_limited",
    ]
    assert await gateway.money() == (0, 0)


async def test_unreachable(redis_url: str) -> None:
    """A vendor that can't be reached has got nothing: 503, REJECTED, released, and the key may be used again."""
    async with gateway_on(redis_url, upstream_url=f"http://127.0.0.1:{free_port()}") as gateway:
        answers = [await gateway.post(path, idempotency_key=path) for path in (SUBMIT, SYNC, SUBMIT)]
        jobs = [await gateway.job(answer.json()["request_id"]) for answer in answers]
        assert {(a.status_code, a.json()["code"]) for a in answers} == {(503, "upstream_unavailable")}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert {job.state for job in jobs} == {JobState.REJECTED}
        assert len({job.id for job in jobs}) == 3
        assert await gateway.money() == (0, 0)


async def test_a_sync_answer_that_breaks_off(gateway: Gateway) -> None:
    """A sync answer that breaks off breaks off for the caller too; it was billed, so it is charged."""
    gateway.vendor.sandbox.faults.add(Fault(action="truncate", on=("sync",)))
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.post(SYNC)
    [job_id] = {entry["job"] for entry in await entries(gateway.store.client, TENANT)}
    assert (await gateway.ended(job_id)).state is JobState.COMPLETED
    assert await gateway.money() == (gateway.billed_nano(), 0)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(action="respond", on=("upload",), status=502, body=HTML), 502, "upstream_error"),
        (Fault(action="respond", on=("upload",), status=504, body=HTML), 504, "upstream_timeout"),
        (Fault(action="respond", on=("upload",), status=401, body={"error": "x"}), 503, "upstream_auth"),
    ],
)
async def test_uploads(gateway: Gateway, fault: Fault, status: int, code: str) -> None:
    """An upload that the vendor fails is told as such; it holds nothing either way."""
    gateway.vendor.sandbox.faults.add(fault)
    answer = await gateway.post("/upload-asset", {"data_urls": ["data:image/png;base64,AAAA"]})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await gateway.money() == (0, 0)


async def none_armed(gateway: Gateway) -> bool:
    """Tell whether every fault has happened."""
    return not gateway.vendor.sandbox.faults.remaining()


async def test_polls_out_of_order(gateway: Gateway) -> None:
    """An older word of the vendor after a newer one takes nothing back: the job completes and is charged once."""
    faults = gateway.vendor.sandbox.faults
    faults.add(Fault(action="outcome", outcome="PROCESSING"))
    submitted = (await gateway.post()).json()

    async def is_processing() -> bool:
        return bool((await gateway.http.get(submitted["status_url"])).json()["status"] == "PROCESSING")

    await eventually(is_processing)
    faults.replace([Fault(action="regress", on=("status",), times=1)])
    await eventually(lambda: none_armed(gateway))
    gateway.end_all()
    seen = ["PROCESSING"]
    while seen[-1] != "COMPLETED":
        seen.append((await gateway.http.get(submitted["status_url"])).json()["status"])
    assert set(seen[:-1]) == {"PROCESSING"}
    assert await gateway.money() == (gateway.billed_nano(), 0)
