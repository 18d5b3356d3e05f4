from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings
from redis import Redis
from support.ledger import Store, admission, prelude_script, window_ids

from gateway.core.job import JobState
from gateway.core.listing import JobQuery
from gateway.core.movements import Release, Settlement, StoredResult
from gateway.core.queue import DueEntry
from gateway.core.quota import window_end
from gateway.core.tenant import WINDOWS, TenantPolicy
from gateway.store.records import FIELDS, VIEW

LUA: Final = files("gateway.store") / "lua"
SOURCES: Final = {entry.name: entry.read_text("utf-8") for entry in LUA.iterdir()}
KEY: Final = re.compile(r"[A-Za-z_.]+|KEYS\[\w+\]|RECORDS \.\. id")
KEYLESS: Final = {"TIME", "PUBLISH"}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS: Final = st.datetimes(datetime(1970, 1, 1), datetime(2100, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis wants naive bounds
PATTERNS: Final = st.lists(st.from_regex(r"(workflows/)?[ab1._*-]{1,8}", fullmatch=True), max_size=3)
MODELS: Final = st.from_regex(r"(workflows/)?[ab1][ab1_.-]{0,8}", fullmatch=True)


@pytest.fixture(scope="session")
def server(valkey_url: str) -> Iterator[Redis]:
    """Connect to the server without a loop, for property tests."""
    with Redis.from_url(valkey_url) as client:
        yield client


def lua_windows(server: Redis, *moments: datetime) -> list[list[str]]:
    """Ask the scripts which windows moments fall into."""
    script = prelude_script(
        "local out = {} for i, us in ipairs(ARGV) do out[i] = windows_at(tonumber(us)) end return out"
    )
    times = [str((moment - EPOCH) // timedelta(microseconds=1)) for moment in moments]
    reply: Any = server.eval(script.source, 0, *times)
    return [[name.decode() for name in names] for names in reply]


@settings(max_examples=300)
@given(moment=MOMENTS)
@example(moment=datetime(2000, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC))
@example(moment=datetime(2100, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC))
@example(moment=datetime(2024, 12, 30, tzinfo=UTC))
def test_the_calendar_of_the_scripts_is_pythons(server: Redis, moment: datetime) -> None:
    """Day, week and month of any moment are those of `datetime`."""
    assert lua_windows(server, moment) == [window_ids(moment)]


@settings(max_examples=150)
@given(moment=MOMENTS)
def test_a_window_ends_where_the_next_one_begins(server: Redis, moment: datetime) -> None:
    """The end that tenants are told is the first moment of the scripts' next window."""
    for at, name in enumerate(WINDOWS[:3]):
        end = window_end(name, moment)
        assert end is not None
        now, last, after = lua_windows(server, moment, end - timedelta(microseconds=1), end)
        assert now[at] == last[at] != after[at]


@settings(max_examples=300)
@given(patterns=PATTERNS, model=MODELS)
@example(patterns=["kling-2.6-*"], model="kling-2x6-a")
@example(patterns=["a.b"], model="aab")
@example(patterns=["a*"], model="workflows/a")
@example(patterns=["*"], model="workflows/a")
@example(patterns=["a-b", "a-*-b"], model="a-b")
@example(patterns=["a*a"], model="a")
@example(patterns=["a*b*b"], model="ab")
@example(patterns=["*b*"], model="ab")
@example(patterns=["**a"], model="ba")
def test_the_scripts_allow_the_models_that_the_policy_allows(server: Redis, patterns: list[str], model: str) -> None:
    """The allow-list means the same in the scripts and in `TenantPolicy.allows`."""
    script = prelude_script("return allows(ARGV[1], ARGV[2]) and 1 or 0")
    allowed = server.eval(script.source, 0, " ".join(patterns), model) == 1
    assert allowed is TenantPolicy("team", models=tuple(patterns)).allows(model)


@pytest.mark.timeout(30)
def test_no_pattern_takes_long(server: Redis) -> None:
    """A pattern full of stars is decided at once, also for a model that all but fits: the server is not held up."""
    script = prelude_script("return allows(ARGV[1], ARGV[2]) and 1 or 0")
    assert [server.eval(script.source, 0, "*a" * 31 + end, "a" * 64) for end in ("b", "a")] == [0, 1]


@pytest.mark.parametrize(("file", "name", "fields"), [("_prelude.lua", "FIELDS", FIELDS), ("read.lua", "VIEW", VIEW)])
def test_records_are_decoded_in_the_order_in_which_scripts_reply(file: str, name: str, fields: tuple[str, ...]) -> None:
    """The list of a record's fields is the same on both sides."""
    listed = re.search(rf"^local {name} = \{{(.*?)\}}", SOURCES[file], re.DOTALL | re.MULTILINE)
    assert listed is not None
    assert tuple(re.findall(r"'(\w+)'", listed[1])) == fields


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_no_script_makes_up_a_key(name: str) -> None:
    """A key is never written out inside a script, and put together in one place alone: it comes in through KEYS."""
    calls = re.findall(r"redis\.call\('(\w+)'(?:,\s*([^,()]+))?", SOURCES[name])
    assert len(calls) == SOURCES[name].count("redis.call('")
    made_up = [key for command, key in calls if command != "TIME" and not KEY.fullmatch(key.strip())]
    assert not made_up


@dataclass(frozen=True, slots=True)
class Trip:
    """A command that a client sent, with the keys that it named and those that its script touched."""

    command: str
    named: frozenset[str]
    touched: frozenset[str]


async def trips(store: Store, act: Callable[[], Awaitable[object]]) -> list[Trip]:
    """Run something and watch what it sends to the server."""
    seen: list[list[Any]] = []
    async with store.client.monitor() as monitor:  # type: ignore[union-attr]  # one server
        await act()
        await store.client.echo("end")
        async for heard in monitor.listen():
            words = heard["command"].split(" ")
            if words[:2] == ["ECHO", "end"]:
                break
            if heard["client_type"] == "lua":
                seen[-1].append(words)
            elif words[0] != "CLIENT":  # a new connection introduces itself
                seen.append([words])
    return [_trip(words, inner) for words, *inner in seen]


def _trip(words: Sequence[str], inner: Sequence[Sequence[str]]) -> Trip:
    named = words[3 : 3 + int(words[2])] if words[0] == "EVALSHA" else words[1:2]
    return Trip(words[0], frozenset(named), frozenset(call[1] for call in inner if call[0].upper() not in KEYLESS))


async def test_each_operation_is_one_trip_that_names_its_keys(store: Store) -> None:
    """Whatever the ledger and the reads do is one EVALSHA, and no script touches a key that was not named."""
    for run in (await every_operation(store, "other")).values():
        await run()  # so that the server knows the scripts
    for name, run in (await every_operation(store, "team")).items():
        got = await trips(store, run)
        assert len(got) == 1, (name, got)
        (trip,) = got
        assert trip.command == "EVALSHA", name
        assert trip.touched, name
        assert all(is_named(key, trip.named) for key in trip.touched), name


def is_named(key: str, named: Collection[str]) -> bool:
    """Tell whether a key was named; jobs and periods may be named by what all of their names begin with."""
    return key in named or any(name.endswith((":job:", ":usage:")) and key.startswith(name) for name in named)


async def every_operation(store: Store, tenant: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Make one call of each kind, to be run in this order."""
    credential = await store.caller(tenant)
    first, second = (admission(credential, idempotency_key=key, labels={"a": "b"}) for key in ("one", None))
    job_id, ledger, jobs = first.job_id, store.ledger, store.jobs
    result = StoredResult(body=b"{}", content_type="application/json")
    charge = Settlement(tenant=tenant, job_id=job_id, state=JobState.COMPLETED, cost=2 * 10**9, result=result)
    end = Release(tenant=tenant, job_id=second.job_id, state=JobState.FAILED, reason="", result=result, forget="one")
    entry = DueEntry(tenant, job_id)
    return {
        "quote": lambda: ledger.quote(first),
        "admit": lambda: ledger.admit(first),
        "void": lambda: ledger.void(admission(credential, idempotency_key="two")),
        "doubt": lambda: ledger.doubt(tenant, job_id, "reset"),
        "adopt": lambda: ledger.adopt(tenant, job_id, "vendor-1"),
        "progress": lambda: ledger.progress(tenant, job_id, "PROCESSING"),
        "overdue": lambda: ledger.note_overdue(tenant, job_id, 1),
        "missing": lambda: ledger.progress(tenant, job_id, None),
        "settle": lambda: ledger.settle(charge),
        "admit again": lambda: ledger.admit(second),
        "accept": lambda: ledger.accept(tenant, second.job_id, "vendor-2"),
        "release": lambda: ledger.release(end),
        "read": lambda: jobs.read(credential, job_id, with_result=True),
        "page": lambda: jobs.page(credential, JobQuery()),
        "account": lambda: jobs.account(credential),
        "find": lambda: jobs.find(tenant, job_id),
        "kept": lambda: jobs.kept(tenant, job_id),
        "windows": lambda: jobs.windows(tenant),
        "schedule": lambda: store.due.schedule([entry]),
        "schedule new": lambda: store.due.schedule([entry], only_new=True),
        "remove": lambda: store.due.remove([entry]),
    }
