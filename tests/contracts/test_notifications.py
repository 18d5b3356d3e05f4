"""The port `Notifications`: word of changed jobs, in memory and on each kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.clients import opened
from support.notifications import DEADLINE_S, FakeNotifications, listening
from support.valkey import valkey_sentinel

from gateway.core.ports import Notifications
from gateway.store.keys import JOB_CHANGES

TEAM = "team"
Announce = Callable[[str, str], Awaitable[None]]


@asynccontextmanager
async def real(url: str) -> AsyncIterator[tuple[Notifications, Announce]]:
    """Listen on a store and speak there, as two processes would."""
    async with opened(url) as here, opened(url) as there, listening(here) as notifications:

        async def announce(tenant: str, job_id: str) -> None:
            await there.publish(JOB_CHANGES, f"{tenant}/{job_id}")

        yield notifications, announce


@asynccontextmanager
async def fake() -> AsyncIterator[tuple[Notifications, Announce]]:
    """Make the fake, and speak to it."""
    notifications = FakeNotifications()

    async def announce(tenant: str, job_id: str) -> None:
        notifications.announce(tenant, job_id)

    yield notifications, announce


@pytest.fixture(params=["fake", "single", "cluster", "sentinel"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Notifications, Announce]]:
    """Make the fake, or the real notifications on each kind of store."""
    if request.param == "fake":
        async with fake() as made:
            yield made
        return
    url = request.getfixturevalue("cluster_url" if request.param == "cluster" else "valkey_url")
    if request.param != "sentinel":
        async with real(url) as made:
            yield made
        return
    with valkey_sentinel(tmp_path, urlsplit(url).port or 0, "main") as sentinel_url:
        async with real(sentinel_url) as made:
            yield made


async def test_a_watch_hears_of_its_own_job(either: tuple[Notifications, Announce]) -> None:
    """Each watch on a job hears of it and nobody else does; closing it leaves nothing."""
    notifications, announce = either
    async with (
        notifications.watch(TEAM, "a") as first,
        notifications.watch(TEAM, "a") as second,
        notifications.watch(TEAM, "b") as other,
        notifications.watch("another", "a") as foreign,
    ):
        assert len(notifications) == 4
        await announce(TEAM, "a")
        assert await first.changed(DEADLINE_S)
        assert await second.changed(DEADLINE_S)
        await announce(TEAM, "b")
        assert await other.changed(DEADLINE_S)
        assert not await first.changed(0)
        assert not await foreign.changed(0)
    assert len(notifications) == 0


async def test_words_before_the_question_count(either: tuple[Notifications, Announce]) -> None:
    """What is said while a watch's owner is busy is told when it next asks, once however often it was said."""
    notifications, announce = either
    async with notifications.watch(TEAM, "a") as watch, notifications.watch(TEAM, "end") as end:
        for job in ("a", "a", "end"):
            await announce(TEAM, job)
        assert await end.changed(DEADLINE_S)
        assert await watch.changed(DEADLINE_S)
        assert not await watch.changed(0)


async def test_all_are_woken(either: tuple[Notifications, Announce]) -> None:
    """Everyone can be sent off at once."""
    notifications, _ = either
    async with notifications.watch(TEAM, "a") as first, notifications.watch(TEAM, "b") as second:
        notifications.wake_all()
        assert await first.changed(DEADLINE_S)
        assert await second.changed(DEADLINE_S)
