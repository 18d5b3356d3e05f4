"""Lua scripts: loaded from ``lua/*.lua``, run by their digest in one round trip.

A script file is one command. ``lua/_prelude.lua`` (shared local functions), if there, is put before each of them; other
files whose names begin with an underscore are not commands.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from time import perf_counter
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from gateway.core.ports import CallWatch
from gateway.errors import StoreUnavailable
from gateway.store.cluster import FairCluster
from gateway.store.connect import RedisClient, store_errors
from gateway.store.durability import Confirmations
from gateway.store.line import Line, Word
from gateway.store.pool import Turns
from gateway.store.readiness import read_epoch

SUFFIX = ".lua"
PRELUDE = "_prelude.lua"
DEADLINE_S = 0.45  # the gateway answers 503 within 500 ms when Redis does not
BULK_FROM_BYTES = 64 * 1024
"""Results from this size on go by `Scripts.run_bulk`: on the line that all share, a few of 8 MiB take longer than its
deadline, and with them every admission under way would fail."""
BULK_DEADLINE_S = 5.0
BULK_AT_ONCE = 4
TIMED_EVERY = 13
"""One call in so many is timed: each would cost a read 1 us; the quantiles of a part are those of all."""


@dataclass(frozen=True, slots=True)
class Script:
    """Hold one Lua command.

    Attributes:
        name: Name of its file, without the suffix.
        source: What the server runs, prelude included.
        sha: Digest by which the server knows it.
    """

    name: str
    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


def load_scripts(folder: Traversable | None = None) -> Mapping[str, Script]:
    """Read every script of a folder, by default the gateway's own."""
    folder = folder if folder is not None else files("gateway.store") / "lua"
    sources = {entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.name.endswith(SUFFIX)}
    prelude = sources.get(PRELUDE, "")
    names = sorted(name.removesuffix(SUFFIX) for name in sources if not name.startswith("_"))
    return {name: Script(name, prelude + sources[name + SUFFIX]) for name in names}


@dataclass(frozen=True, slots=True)
class _Way:
    """How a call gets there: by a shared line; in a cluster, which has a connection for each node, by redis-py."""

    client: RedisClient
    line: Line | None
    deadline_s: float

    @classmethod
    def through(cls, client: RedisClient, deadline_s: float) -> _Way:
        return cls(client, Line(client, deadline_s=deadline_s) if isinstance(client, Redis) else None, deadline_s)


class Scripts:
    """Run scripts on a client.

    Args:
        client: From `gateway.store.connect.open_redis`.
        deadline_s: Seconds a call may take in all: waiting for a connection, making one, sending, the reply.
            One that carries a large result may take `BULK_DEADLINE_S`, or this where it is longer.
        watch: Told how long calls took, and of every one that failed.
        every: One call in so many is timed. No even number: a submit makes two calls.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        deadline_s: float = DEADLINE_S,
        watch: CallWatch | None = None,
        every: int = TIMED_EVERY,
    ) -> None:
        self.client = client
        self._watch = watch
        self._every = every
        self._calls = 0
        patience_s = max(deadline_s, BULK_DEADLINE_S)
        patient = client
        if isinstance(client, FairCluster):  # its connections have time-outs of their own, which are admission's
            patient = client.patient(read_timeout_s=patience_s, max_connections=BULK_AT_ONCE)
        self._way = _Way.through(client, deadline_s)
        self._bulk_way = _Way.through(patient, patience_s)
        self._bulk_turns = Turns(BULK_AT_ONCE, patience_s)
        self._confirmations = Confirmations(client)

    @property
    def one_server(self) -> bool:
        """Tell whether one call may name keys of any slots; in a cluster they must share one."""
        return self._way.line is not None

    async def run(self, script: Script, keys: Sequence[str | bytes], args: Sequence[bytes | str | int]) -> Any:  # noqa: ANN401  # a reply is whatever the script returns
        """Run a script once, at most.

        Args:
            script: One of `load_scripts`.
            keys: All keys it touches; in a cluster they share one slot.
            args: Its ARGV.

        Returns:
            The reply: bytes, int, None or a list of them.

        Raises:
            StoreUnavailable: No reply came in time; the script may have run, or will yet run.
            redis.exceptions.ResponseError: The script itself failed: a mistake of ours.
        """
        if self._watch is None:
            return await _run(self._way, script, (len(keys), *keys, *args))
        self._calls += 1
        began_s = 0.0 if self._calls % self._every else perf_counter()
        try:
            reply = await _run(self._way, script, (len(keys), *keys, *args))
        except StoreUnavailable:
            self._watch.count_redis_failure()
            raise
        if began_s:
            self._watch.observe_redis(script.name, perf_counter() - began_s)
        return reply

    async def look(self) -> None:
        """Make the shortest trip there is, behind all that is on its way already. Raises `StoreUnavailable`."""
        if self._way.line is not None:
            await self._way.line.call("PING")
        else:
            await read_epoch(self._way.client)

    async def run_bulk(self, script: Script, keys: Sequence[str | bytes], args: Sequence[bytes | str | int]) -> Any:  # noqa: ANN401  # as `run`
        """Run a script that carries a large result, either way, on a connection of its own: nobody waits behind it.

        Takes and raises as `run`, but waits longer, and for its turn too: few results are under way at once.
        """
        with store_errors():
            await self._bulk_turns.take()
        try:
            return await _run(self._bulk_way, script, (len(keys), *keys, *args))
        finally:
            self._bulk_turns.give()

    async def confirm(self, tenant: str, wanted: str, record: str) -> None:
        """Wait until a record that was written is kept as surely as ``wanted``; see `store.durability`."""
        await self._confirmations.confirm(tenant, wanted, record)


async def _run(way: _Way, script: Script, words: tuple[Word, ...]) -> Any:  # noqa: ANN401  # as `Scripts.run`
    if way.line is not None:
        try:
            return await way.line.call("EVALSHA", script.sha, *words)
        except NoScriptError:
            return await way.line.call("EVAL", script.source, *words)
    with store_errors():
        async with asyncio.timeout(way.deadline_s):
            try:
                return await way.client.execute_command("EVALSHA", script.sha, *words)
            except NoScriptError:
                # The server was restarted or flushed its scripts: it ran nothing, and EVAL makes it know this one.
                return await way.client.execute_command("EVAL", script.source, *words)
