from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from support.ledger import Store, open_store
from support.webhooks import end_job
from typer.testing import Result

from gateway.core.webhook import Attempt, Decision, Noted

Gateway = Callable[..., Result]
T = TypeVar("T")
URL = "https://hooks.example.com/team"
GONE = Attempt(1_770_000_000_000, "gone", 410, 20)


def on_store(redis_url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do something on the store that the command line uses."""

    async def run() -> T:
        async with open_store(redis_url) as store:
            return await work(store)

    return asyncio.run(run())


@pytest.fixture
def jobs(redis_url: str) -> list[str]:
    """Put three jobs of a tenant on record: their webhooks are pending, failed with 410, and delivered."""

    async def make(store: Store) -> list[str]:
        credential = await store.caller("team", webhook_url=URL)
        ids = [await end_job(store, credential) for _ in range(3)]
        ends = ((ids[1], "failed", URL), (ids[2], "delivered", None))
        for job_id, state, disable in ends:
            noted = Noted(before=0, attempts=1, decision=Decision(state), log=(GONE,), disable=disable)  # type: ignore[arg-type]  # one of its words
            await store.deliveries.note("team", job_id, noted)
        return ids

    return on_store(redis_url, make)


def test_what_was_not_delivered_is_listed(gateway: Gateway, jobs: list[str]) -> None:
    """Pending and failed deliveries with their last attempt; that the endpoint is disabled is said beside them."""
    listed = gateway("webhooks", "list", "team")
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert [row[:4] for row in rows[1:]] == [
        [jobs[0], "job.completed", "pending", "0"],
        [jobs[1], "job.completed", "failed", "1"],
    ]
    assert rows[2][4:] == ["2026-02-02T02:40:00Z", "410", "-", URL]
    assert f"{URL} answered 410 and is disabled" in listed.stderr


def test_the_list_for_scripts_has_every_attempt(gateway: Gateway, jobs: list[str]) -> None:
    """JSON tells state, time and outcome of each; one job's delivery is shown also when it was delivered."""
    told = json.loads(gateway("webhooks", "list", "team", "--json").stdout)
    assert told["disabled"] == URL
    assert [(one["job_id"], one["state"]) for one in told["deliveries"]] == [(jobs[0], "pending"), (jobs[1], "failed")]
    (delivered,) = json.loads(gateway("webhooks", "list", "team", "--job", jobs[2], "--json").stdout)["deliveries"]
    assert delivered["state"] == "delivered"
    assert delivered["log"] == [
        {"at_ms": 1_770_000_000_000, "outcome": "gone", "status": 410, "latency_ms": 20, "detail": ""}
    ]


def test_retry_makes_what_was_not_delivered_due(gateway: Gateway, redis_url: str, jobs: list[str]) -> None:
    """All that was not delivered, or one job's webhook even so; the queue is told of the tenant."""
    assert gateway("webhooks", "retry", "team").stderr == "deliveries of team that are due now: 2\n"
    assert gateway("webhooks", "retry", "team", jobs[2]).stderr == "deliveries of team that are due now: 1\n"
    told = json.loads(gateway("webhooks", "list", "team", "--json").stdout)["deliveries"]
    assert [(one["job_id"], one["state"], one["attempts"]) for one in told] == [(job, "pending", 0) for job in jobs]
    claimed = on_store(redis_url, lambda store: store.hooks.claim(limit=10, lease_s=20))
    assert [entry.tenant for entry in claimed.entries] == ["team"]


def test_the_secret_is_printed_alone_and_rotated(gateway: Gateway, jobs: list[str]) -> None:
    """A script takes the secret as it comes; rotation prints another one, which stays."""
    first, again = (gateway("webhooks", "secret", "team").stdout for _ in range(2))
    assert first == again
    assert first.startswith("whsec_")
    rotated = gateway("webhooks", "secret", "team", "--rotate", "--overlap", "1h")
    assert rotated.stdout != first
    assert "3600 s" in rotated.stderr
    assert gateway("webhooks", "secret", "team").stdout == rotated.stdout


def test_a_disabled_endpoint_is_enabled(gateway: Gateway, jobs: list[str]) -> None:
    """After `enable` the list no longer says that it is disabled; doing it twice is no error."""
    assert "are sent again" in gateway("webhooks", "enable", "team").stderr
    assert "was not disabled" in gateway("webhooks", "enable", "team").stderr
    assert gateway("webhooks", "list", "team").stderr == ""


@pytest.mark.parametrize(
    "words",
    [
        ("list", "nobody"),
        ("list", "team", "--job", "0"),
        ("retry", "nobody"),
        ("retry", "team", "01900000-0000-7000-8000-00000000abcd"),
        ("secret", "Bad{id}"),
        ("enable", "nobody"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(gateway: Gateway, jobs: list[str], words: tuple[str, ...]) -> None:
    """An unknown tenant or job is exit code 1 and a sentence on standard error."""
    failed = gateway("webhooks", *words)
    assert (failed.exit_code, failed.stdout, len(failed.stderr.splitlines())) == (1, "", 1)
