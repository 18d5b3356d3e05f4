from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from support.raw_upstream import RawUpstream, answers, hangs
from support.upstream_client import CONTEXT, MODEL, Bench

from gateway.core.breaker import BreakerName
from gateway.core.events import BreakerChanged
from gateway.errors import (
    UpstreamAmbiguous,
    UpstreamError,
    UpstreamHeldBack,
    UpstreamInvalidResponse,
    UpstreamRefused,
    UpstreamUnsent,
)
from gateway.upstream.hosts import POLICY, shows_up
from gateway.upstream.transport import Limits, Timeouts


@pytest.mark.parametrize(
    ("operation", "failure", "up"),
    [
        ("submit", None, True),
        *(("submit", UpstreamRefused(status, "x"), True) for status in (400, 401, 403, 404, 406, 410, 422, 429, 500)),
        ("submit", UpstreamUnsent("refused"), False),
        ("submit", UpstreamHeldBack("overloaded", "too late", retry_after_s=1), None),
        *(("submit", UpstreamAmbiguous("x", status=status), False) for status in (502, 503, 504)),
        ("submit", UpstreamAmbiguous("x", status=500), None),
        ("submit", UpstreamAmbiguous("no id", status=200), None),
        ("status", UpstreamInvalidResponse("not JSON"), None),
        ("status", UpstreamAmbiguous("reset"), None),
        ("submit", UpstreamAmbiguous("silence", timed_out=True), False),
        ("sync", UpstreamAmbiguous("silence", timed_out=True), None),
        ("submit", asyncio.CancelledError(), None),
    ],
)
def test_what_shows_a_host_to_be_up_or_down(operation: str, failure: BaseException | None, up: bool | None) -> None:
    """No connection, silence and 502 to 504 show it down; refusals show it up; the rest shows nothing."""
    assert shows_up(operation, failure) is up


def test_a_full_pool_of_ours_is_no_outage() -> None:
    """Who waited in vain for a connection because all are in use says nothing of the vendor."""
    assert shows_up("submit", UpstreamUnsent("pool"), pool_full=True) is None


async def fails(made: Bench, times: int) -> list[UpstreamError]:
    """Let reads fail, one after the other."""
    found = []
    for _ in range(times):
        with pytest.raises(UpstreamError) as caught:
            await made.client.status("v-1", CONTEXT)
        found.append(caught.value)
    return found


async def test_an_open_breaker_lets_nothing_out(made: Bench, vendor: RawUpstream) -> None:
    """After so many failures no byte leaves; the caller hears for how long, and the other hosts go on."""
    vendor.reply = answers(503, {"error": "down"})
    await fails(made, POLICY.failures)
    seen = len(vendor.requests)
    assert made.client.wait_s("inference") > 0
    for call in (made.client.status("v-1", CONTEXT), made.client.submit(MODEL, b"{}", {}, CONTEXT)):
        with pytest.raises(UpstreamHeldBack) as caught:
            await call
        assert (caught.value.code, 0 < caught.value.retry_after_s <= POLICY.open_s) == ("upstream_unavailable", True)
    assert len(vendor.requests) == seen
    others: list[BreakerName] = ["storage", "history"]
    assert [made.client.wait_s(name) for name in others] == [0, 0]
    changes = [event for event in made.events if isinstance(event, BreakerChanged)]
    assert [(change.host, change.state, change.reason) for change in changes] == [("inference", "open", "status 503")]


async def test_refusals_never_open_it(made: Bench, vendor: RawUpstream) -> None:
    """However many requests the vendor refuses, that is no outage."""
    for status in (400, 404, 406, 429, 500):
        vendor.reply = answers(status, {"error": "no"})
        for _ in range(POLICY.failures):
            with pytest.raises(UpstreamRefused):
                await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    assert made.client.wait_s("inference") == 0


async def test_silence_opens_it(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """A host that takes requests and says nothing is as good as down."""
    vendor.reply = hangs
    made = opened(vendor.url, timeouts=Timeouts(read_s=0.02))
    await fails(made, POLICY.failures)
    assert made.client.wait_s("inference") > 0


async def test_a_pool_that_others_fill_does_not_open_it(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """One tenant's slow calls take every connection: the others fail, and no breaker opens for that."""
    vendor.reply = hangs
    made = opened(
        vendor.url, limits=Limits(connections=1), timeouts=Timeouts(connect_s=0.02, pool_s=0.02, sync_read_s=60)
    )
    slow = asyncio.create_task(made.client.sync(MODEL, b"{}", {}, CONTEXT))
    await vendor.arrived.wait()
    assert {type(failure) for failure in await fails(made, POLICY.failures)} == {UpstreamUnsent}
    assert made.client.wait_s("inference") == 0
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
