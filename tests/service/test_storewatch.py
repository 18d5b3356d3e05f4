"""What the watch over the store says, on a store that is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.core.events import Alert, Event
from gateway.errors import StoreUnavailable
from gateway.service.storewatch import NO_LEDGER, WHOLE_LOOK, StoreWatch


@dataclass
class Played:
    """A store, its ledgers and what was noted in it."""

    mark: str | None = "epoch-1"
    down: bool = False
    error: str = "refused"
    unfit: list[str] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    noted: list[str] = field(default_factory=list)
    asked: int = 0

    async def epoch(self) -> str | None:
        """Read the mark."""
        if self.down:
            raise StoreUnavailable(self.error)
        return self.mark

    async def problems(self) -> Sequence[str]:
        """Say what is unfit."""
        return self.unfit

    async def positions(self) -> Mapping[str, int]:
        """Read the last entries."""
        self.asked += 1
        return dict(self.last)

    async def note_rewound(self, detail: str) -> None:
        """Note."""
        self.noted.append(detail)


@dataclass
class Rig:
    """The watch, what it told readiness, and its alerts."""

    store: Played
    told: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = StoreWatch(self.store, self.told.append, self.events.append)

    async def looks(self, count: int = WHOLE_LOOK) -> str:
        """Look some times; return what the last look said."""
        return [await self.watch.look() for _ in range(count)][-1]

    def alerts(self) -> list[str]:
        """Name the alerts so far."""
        return [event.event for event in self.events if isinstance(event, Alert)]


@pytest.fixture
def rig() -> Rig:
    """Watch a store that has two ledgers."""
    return Rig(Played(last={"one": 10, "two": 5}))


async def test_a_ledger_that_grows_is_nothing_to_tell(rig: Rig) -> None:
    """Looks cost little: the mark each time, the ledgers each few times; and say nothing while all is well."""
    assert await rig.looks() == ""
    rig.store.last = {"one": 11, "two": 5, "three": 1}
    assert await rig.looks() == ""
    assert (rig.store.asked, rig.alerts(), rig.store.noted) == (2, [], [])


@pytest.mark.parametrize(
    ("last", "named"), [({"one": 9, "two": 5}, "of one"), ({"two": 5}, "of one"), ({}, "of one, two")]
)
async def test_a_ledger_that_went_back_is_told_once(rig: Rig, last: dict[str, int], named: str) -> None:
    """A lower number, or none, is an alert with the tenant and what to do, kept in the store; requests are taken."""
    await rig.looks()
    rig.store.last = last
    assert await rig.looks(2 * WHOLE_LOOK) == ""
    assert rig.alerts() == ["store.rewound"]
    assert rig.store.noted == [f"the ledger went back, {named}"]
    assert "gateway reconcile" in str(rig.events[0])


async def test_another_ledger_in_its_place_is_told(rig: Rig) -> None:
    """A dataset with another mark is not the one that was: told even where its numbers are higher."""
    await rig.looks()
    rig.store.mark, rig.store.last = "epoch-2", {"one": 1000, "two": 1000}
    await rig.looks()
    assert rig.alerts() == ["store.rewound"]
    assert "epoch-2" in rig.store.noted[0]


async def test_after_an_outage_everything_is_looked_at_before_readiness(rig: Rig) -> None:
    """A server that comes back may have come back with less, or unfit: the first look finds it."""
    await rig.looks(2)
    rig.store.down = True
    assert "does not answer" in await rig.looks(1)
    rig.store.down, rig.store.last, rig.store.unfit = False, {}, ["appendonly is not yes"]
    assert await rig.looks(1) == "appendonly is not yes"
    assert rig.alerts() == ["store.rewound"]
    rig.store.unfit = []
    assert await rig.looks(1) == ""


async def test_no_mark_is_no_ledger(rig: Rig) -> None:
    """A flushed store is not ready, and its emptiness is compared with nothing."""
    await rig.looks()
    rig.store.mark, rig.store.last = None, {}
    assert await rig.looks(1) == NO_LEDGER
    assert rig.alerts() == []


async def test_a_reason_is_told_once(rig: Rig) -> None:
    """Readiness hears each look; people each new reason, of which another errno is none, and how long it lasted."""
    looked_s = iter((100.0, 103.0))

    async def sleep(_: float) -> None:
        rig.store.error = f"errno {len(rig.told)}"
        rig.store.down = not rig.told or len(rig.told) < 4
        if len(rig.told) == 6:
            raise InterruptedError

    rig.watch = StoreWatch(rig.store, rig.told.append, rig.events.append, sleep, looked_s.__next__)
    with pytest.raises(InterruptedError):
        await rig.watch.run()
    assert [bool(said) for said in rig.told] == [False, True, True, True, False, False]
    assert rig.alerts() == ["store.not_ready", "store.ready"]
    assert "after 3 s" in str(rig.events[-1])
