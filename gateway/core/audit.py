"""The ledger replayed: what its entries, one after the other, say that the counters and the jobs must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.core.entries import Entry
from gateway.core.job import JobState
from gateway.core.usage import Row
from gateway.core.usage_audit import ReplayedUsage

OPEN = frozenset({JobState.SENDING, JobState.UNKNOWN, JobState.ACCEPTED})
_UNSENT = frozenset({JobState.SENDING, JobState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not what the ledger says.

    Attributes:
        what: What was looked at (``month:2026-02:spent``, ``job 0197...: state``).
        ledger: What the ledger says; `found` what stands in the store.
    """

    tenant: str
    what: str
    ledger: str
    found: str


@dataclass(frozen=True, slots=True)
class Opening:
    """What the entries that are no longer kept came to.

    Attributes:
        counters: ``<window>:spent`` and ``<window>:held``, nanocredits.
        holds: Jobs that had not ended by then, and their holds.
        day: The last day on which a job was admitted of which an entry is among them: later ones are here whole.
        last: Id of the newest of these entries.
    """

    seq: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    holds: Mapping[str, int] = field(default_factory=dict)
    day: str = ""
    last: str = ""


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job whose concurrency slot is taken, as its record says."""

    id: str
    state: str
    hold: str


@dataclass(frozen=True, slots=True)
class Books:
    """What stands beside the ledger at one moment: counters, taken slots, jobs that have no vendor's id, usage."""

    seq: int
    counters: Mapping[str, int]
    active: Sequence[OpenJob]
    sending: frozenset[str]
    usage: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended, as the ledger has it: its state and what it was charged in all."""

    job_id: str
    state: JobState
    charged: int
    at_ms: int


class Replay:
    """One tenant's ledger, from its opening balance on: `feed` it all entries, `close` it, `finish` it."""

    def __init__(self, tenant: str, opening: Opening) -> None:
        self._tenant = tenant
        self._differences: list[Difference] = []
        self._seq = opening.seq
        self._totals = Counter(opening.counters)
        self._holds = dict(opening.holds)
        self._ended: dict[str, Ended] = {}
        self._adjusted: Counter[str] = Counter()
        self._suspects: dict[str, tuple[int, int]] = {}
        self._usage = ReplayedUsage(opening.day)

    def feed(self, entries: Iterable[Entry]) -> None:
        """Take the next entries."""
        for entry in entries:
            self._follow(entry)
            self._usage.feed(entry)
            if entry.kind == "hold":
                self._expect(f"job {entry.job_id}: holds", "1", "2" if entry.job_id in self._holds else "1")
                self._holds[entry.job_id] = entry.hold
            elif entry.ends:
                held = self._holds.pop(entry.job_id, None)
                self._expect(f"job {entry.job_id}: hold that ends", str(held), str(entry.hold))
                self._ended[entry.job_id] = Ended(entry.job_id, entry.state, entry.charge, entry.at_ms)
            elif entry.kind == "adjust":
                self._adjusted[entry.job_id] += entry.amount
            elif (ended := self._ended.get(entry.job_id)) is not None:
                self._ended[entry.job_id] = replace(ended, charged=ended.charged + entry.charge)

    @property
    def periods(self) -> Sequence[str]:
        """Days and months whose usage the entries so far tell in full."""
        return self._usage.periods

    def ended(self) -> Sequence[Ended]:
        """Take the jobs that have ended since this was last asked; one that an entry yet to come may change stays."""
        last = next(reversed(self._ended.values()), None)
        ready = [job for job in self._ended.values() if job is not last]
        self._ended = {} if last is None else {last.job_id: last}
        return ready

    def close(self, books: Books) -> Sequence[Ended]:
        """Compare with what stands beside the ledger; return the last jobs that have ended."""
        self._expect("entries", str(self._seq), str(books.seq))
        totals = {name: value for name, value in self._totals.items() if value}
        for name in sorted(totals.keys() | {name for name, value in books.counters.items() if value}):
            self._expect(name, str(totals.get(name, 0)), str(books.counters.get(name, 0)))
        slots = {job.id: job for job in books.active}
        for job_id in sorted(slots.keys() | self._holds.keys()):
            self._slot(job_id, slots.get(job_id), job_id in books.sending)
        for job_id in sorted(books.sending - self._holds.keys()):
            self._expect(f"job {job_id}: is being sent", "no", "yes")
        for what, ledger, found in self._usage.compare(books.usage):
            self._expect(what, str(ledger), str(found))
        return [*self._ended.values()]

    def settled(self, job: Ended, state: str | None, cost: int) -> None:
        """Compare a job that has ended with its record; None: there is none."""
        self._expect(f"job {job.job_id}: state", job.state, state or "no record")
        if state is not None:
            self._suspect(job, cost)

    def finish(self) -> Sequence[Difference]:
        """Say what differs, once every job that has ended was compared."""
        for job_id, (charged, cost) in self._suspects.items():
            self._expect(f"job {job_id}: cost", str(charged + self._adjusted[job_id]), str(cost))
        return self._differences

    def _suspect(self, job: Ended, cost: int) -> None:
        """Remember a cost that is not the ledger's so far: an adjustment may yet come that explains it."""
        if job.charged != cost:
            self._suspects[job.job_id] = (job.charged, cost)

    def _slot(self, job_id: str, found: OpenJob | None, sending: bool) -> None:
        hold = self._holds.get(job_id)
        slot = "free" if found is None else "taken"
        self._expect(f"job {job_id}: concurrency slot", "free" if hold is None else "taken", slot)
        if found is None or hold is None:
            return
        self._expect(f"job {job_id}: hold", str(hold), found.hold)
        if found.state not in OPEN:
            self._expect(f"job {job_id}: state", "not ended", found.state or "no record")
        self._expect(f"job {job_id}: is being sent", _yes(found.state in _UNSENT), _yes(sending))

    def _follow(self, entry: Entry) -> None:
        """Add an entry to the counters; its balances must follow from those before it."""
        self._seq += 1
        for window in entry.windows:
            self._totals[f"{window}:spent"] += entry.charge
            self._totals[f"{window}:held"] += entry.holding
        after = (self._seq, self._totals["total:spent"], self._totals["total:held"])
        self._expect(
            f"entry {entry.id}: seq, spent and held after", str(after), str((entry.seq, entry.spent, entry.held))
        )
        self._seq = entry.seq

    def _expect(self, what: str, ledger: str, found: str) -> None:
        if ledger != found:
            self._differences.append(Difference(self._tenant, what, ledger, found))


def _yes(value: bool) -> str:
    return "yes" if value else "no"
