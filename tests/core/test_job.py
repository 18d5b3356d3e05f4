from __future__ import annotations

import time
import uuid
from typing import Final, get_args

import pytest

from gateway.core.job import TRANSITIONS, Job, JobState, VendorStatus, is_job_id, new_job_id, public_status

RUNNING: Final = {JobState.SENDING, JobState.ACCEPTED, JobState.UNKNOWN}


def job(state: JobState, error: str | None = None, vendor_status: VendorStatus = "QUEUED") -> Job:
    """Make a job in a state."""
    return Job(
        id=new_job_id(),
        tenant="team",
        key_id="k",
        model="m",
        kind="async",
        state=state,
        hold=1,
        created_ms=1,
        error=error,
        vendor_status=vendor_status,
    )


def test_ids_are_uuids_of_version_7() -> None:
    """An id has the version, the variant and the time that RFC 9562 wants, and is one of ours."""
    before_ms = time.time_ns() // 1_000_000
    made = new_job_id()
    parsed = uuid.UUID(made)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert before_ms <= parsed.int >> 80 <= time.time_ns() // 1_000_000
    assert is_job_id(made)


def test_ids_do_not_collide() -> None:
    """Ids of one millisecond differ in many random bits."""
    assert len({new_job_id() for _ in range(20_000)}) == 20_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "../../etc/passwd",
        "{019a0000-0000-7000-8000-000000000000}",
        "urn:uuid:019a0000-0000-7000-8000-000000000000",
        "019A0000-0000-7000-8000-00000000000A",
        "019a000000007000800000000000000a",
        "019a0000-0000-7000-8000-00000000000a\n",
        " 019a0000-0000-7000-8000-00000000000a",
        "019a0000-0000-4000-8000-00000000000a",
        "019a0000-0000-7000-0000-00000000000a",
        "\N{ARABIC-INDIC DIGIT ZERO}19a0000-0000-7000-8000-00000000000a",
    ],
)
def test_what_is_spelt_otherwise_is_no_id(text: str) -> None:
    """An id has one spelling; the vendor's ids (version 4) are none of ours."""
    assert not is_job_id(text)


def test_a_job_ends_once() -> None:
    """A state is terminal exactly where nothing follows, every other one can end, and nothing returns to SENDING."""
    assert {state for state in JobState if not state.terminal} == RUNNING
    assert set(TRANSITIONS) == set(JobState)
    for state in RUNNING:
        assert any(after.terminal for after in TRANSITIONS[state])
    assert not any(JobState.SENDING in after for after in TRANSITIONS.values())


def test_an_accepted_job_is_never_in_doubt_again() -> None:
    """Once the vendor's id is on record the outcome is only what the vendor says."""
    assert TRANSITIONS[JobState.ACCEPTED] == {JobState.COMPLETED, JobState.FAILED, JobState.EXPIRED}


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (JobState.SENDING, "QUEUED"),
        (JobState.UNKNOWN, "QUEUED"),
        (JobState.COMPLETED, "COMPLETED"),
        (JobState.FAILED, "FAILED"),
        (JobState.REJECTED, "FAILED"),
        (JobState.EXPIRED, "FAILED"),
    ],
)
@pytest.mark.parametrize("vendor_status", get_args(VendorStatus))
def test_tenants_see_four_words(state: JobState, vendor_status: VendorStatus, word: str) -> None:
    """Our states read as Segmind's words; the vendor's own is passed on for an accepted job alone."""
    assert public_status(state, vendor_status) == job(state, vendor_status=vendor_status).status == word
    assert public_status(JobState.ACCEPTED, vendor_status) == vendor_status


@pytest.mark.parametrize("state", JobState)
def test_a_job_that_ended_badly_says_why(state: JobState) -> None:
    """FAILED always comes with words, the vendor's where there are some; no other word does."""
    assert bool(job(state).reason) is (job(state).status == "FAILED")
    assert job(state, "blocked").reason == ("blocked" if job(state).status == "FAILED" else None)
