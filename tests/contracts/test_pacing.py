"""The port `Pacing`: the fleet's pace, at a time that the test moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import pytest
from support.ports import Ports

from gateway.core.pacing import Pacing, Pressure, share
from gateway.store.pacing import LONGEST_S

REFRESH_S: Final = 0.5


@dataclass(slots=True)
class Vendor:
    """A pace whose clock the test moves, and who was let through when."""

    store: Ports
    limit: int
    now_s: float = 0.0
    read_s: float = -1.0
    pressure: Pressure | None = None

    @property
    def pacing(self) -> Pacing:
        """The pace."""
        return self.store.pacing

    async def at(self, now_s: float) -> None:
        """Move the clock."""
        await self.store.pass_time(now_s - self.now_s)
        self.now_s = now_s

    async def ask(self, tenant: str) -> float:
        """Ask for a place, as a process does that looks twice a second how the fleet stands."""
        if self.pressure is None or self.now_s - self.read_s >= REFRESH_S:
            self.pressure, self.read_s = await self.pacing.pressure(), self.now_s
        return await self.pacing.take(tenant, share(self.limit, self.pressure))


@pytest.fixture
async def vendor(timed_store: Ports) -> Vendor:
    """Start with a limit of 60 a minute."""
    return Vendor(timed_store, 60)


async def played(
    vendor: Vendor, per_minute: dict[str, float], lasts_s: float, from_s: float = 0.0
) -> dict[str, list[float]]:
    """Have tenants ask at even intervals; return when each was let through. Of ``name-*`` each ask is another one's."""
    moments = sorted(
        (from_s + number * 60 / rate, tenant, tenant.replace("*", str(number)))
        for tenant, rate in per_minute.items()
        for number in range(int(lasts_s * rate / 60))
    )
    granted: dict[str, list[float]] = {tenant: [] for tenant in per_minute}
    for now_s, tenant, name in moments:
        await vendor.at(now_s)
        if await vendor.ask(name) == 0:
            granted[tenant].append(now_s)
    return granted


def most_in_a_minute(moments: list[float]) -> int:
    """Count the fullest minute, wherever it begins."""
    moments = sorted(moments)
    return max((sum(begin <= at < begin + 60 for at in moments) for begin in moments), default=0)


async def test_ten_to_one(vendor: Vendor) -> None:
    """One tenant floods with ten times as much as another, whose every request is let through from the first on."""
    await played(vendor, {"flood": 240}, 60)
    granted = await played(vendor, {"flood": 240, "small": 24}, 180, from_s=60)
    assert len(granted["small"]) == 72
    assert 0.9 * 30 * 3 <= len(granted["flood"]) <= 36 * 3
    assert most_in_a_minute(granted["flood"] + granted["small"]) <= 60


async def test_among_fifty_that_are_nearly_idle(vendor: Vendor) -> None:
    """Fifty tenants that ask once a minute have what they ask for, and are not taken for fifty that will flood."""
    vendor.limit = 300
    granted = await played(vendor, {"idle-*": 50, "flood": 900, "small": 90}, 60)
    assert (len(granted["idle-*"]), len(granted["small"])) == (50, 90)
    assert len(granted["flood"]) >= 300 * 0.9 - 50 - 90


async def test_both_ask_for_more_than_half(vendor: Vendor) -> None:
    """Two tenants that both ask for more than there is share it evenly, whatever the ratio of what they ask for."""
    granted = await played(vendor, {"flood": 600, "much": 60}, 180)
    counts = {tenant: len(moments) for tenant, moments in granted.items()}
    assert sum(counts.values()) >= 0.85 * 180
    assert counts["much"] >= 0.8 * 90
    assert most_in_a_minute([at for moments in granted.values() for at in moments]) <= 60


async def test_a_lone_tenant_has_nearly_all(vendor: Vendor) -> None:
    """Nothing is kept from one that is alone but a tenth, and no minute has more than the limit."""
    granted = await played(vendor, {"flood": 600}, 180)
    assert len(granted["flood"]) >= 0.88 * 180
    assert most_in_a_minute(granted["flood"]) <= 60


async def test_a_small_limit_is_still_shared(vendor: Vendor) -> None:
    """With five a minute there is nothing to keep in reserve: the small tenant has its share soon after it came."""
    vendor.limit = 5
    granted = await played(vendor, {"flood": 60, "small": 12}, 600)
    counts = Counter({tenant: len(moments) for tenant, moments in granted.items()})
    assert counts.total() >= 0.75 * 50
    assert counts["small"] >= 0.35 * counts.total()
    assert most_in_a_minute([at for moments in granted.values() for at in moments]) <= 5


async def test_the_wait_is_true(vendor: Vendor) -> None:
    """Who is refused is told when it is worth asking again: then it is let through, if nobody else comes."""
    waits = [await vendor.ask("team") for _ in range(20)]
    assert waits[:4] == [0, 0, 0, 0]
    assert 0 < waits[-1] <= 60 / 54 + 0.01
    await vendor.at(waits[-1])
    assert await vendor.ask("team") == 0


async def test_a_block_is_the_longest_that_anyone_heard(vendor: Vendor) -> None:
    """Jobs and polls are blocked apart; a later, shorter word changes nothing; an absurd one is cut; it passes."""
    await vendor.pacing.block("jobs", 30)
    await vendor.pacing.block("jobs", 5)
    assert (await vendor.pacing.pressure()).blocked_s == {"jobs": 30, "polls": 0}
    await vendor.at(10)
    await vendor.pacing.block("polls", 86_400)
    assert (await vendor.pacing.pressure()).blocked_s == {"jobs": 20, "polls": LONGEST_S}
    await vendor.at(200)
    assert (await vendor.pacing.pressure()).blocked_s == {"jobs": 0, "polls": 0}


async def test_a_clock_that_was_set_back_does_not_block_for_hours(vendor: Vendor) -> None:
    """What was written by a clock that was ahead counts for two minutes at most, once it is heard again."""
    await vendor.at(7200)
    await vendor.pacing.block("jobs", 60)
    await vendor.ask("team")
    await vendor.at(0)
    await vendor.pacing.block("jobs", 1)
    assert (await vendor.pacing.pressure()).blocked_s["jobs"] <= LONGEST_S
    assert await vendor.ask("team") <= 60 / 54 + 0.01


async def test_who_asks_is_forgotten(vendor: Vendor) -> None:
    """Tenants that no longer ask have no share: what is kept of them does not outlive two windows."""
    for number in range(50):
        await vendor.ask(f"tenant-{number}")
    await vendor.at(10)
    await vendor.ask("team")
    assert len((await vendor.pacing.pressure()).asked) == 51
    await vendor.at(20)
    await vendor.ask("team")
    assert set((await vendor.pacing.pressure()).asked) == {"team"}


async def test_each_tenant_is_told_of(store: Ports) -> None:
    """What any process has heard and asked for, every other one reads; nobody has asked for anything at first."""
    assert (await store.pacing.pressure()).asked == {}
    await store.pacing.block("polls", 5)
    assert await store.pacing.take("team", share(60, await store.pacing.pressure())) == 0
    pressure = await store.pacing.pressure()
    assert set(pressure.asked) == {"team"}
    assert (pressure.asked["team"].now, pressure.asked["team"].before) == (1, 0)
    assert 0 < pressure.blocked_s["polls"] <= 5
