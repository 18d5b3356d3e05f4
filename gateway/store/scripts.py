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
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from gateway.store.connect import RedisClient, store_errors
from gateway.store.line import Line, Word
from gateway.store.pool import Turns

SUFFIX = ".lua"
PRELUDE = "_prelude.lua"
DEADLINE_S = 0.45  # the gateway answers 503 within 500 ms when Redis does not
BULK_FROM_BYTES = 64 * 1024
"""Results from this size on go by `Scripts.run_bulk`: on the line that all share, a few of 8 MiB take longer than its
deadline, and with them every admission under way would fail."""
BULK_DEADLINE_S = 5.0
BULK_AT_ONCE = 4


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


class Scripts:
    """Run scripts on a client.

    Args:
        client: From `gateway.store.connect.open_redis`.
        deadline_s: Seconds a call may take in all: waiting for a connection, making one, sending, the reply.
            One that carries a large result may take `BULK_DEADLINE_S`, or this where it is longer.
    """

    def __init__(self, client: RedisClient, *, deadline_s: float = DEADLINE_S) -> None:
        self._client = client
        self._deadline_s = deadline_s
        self._bulk_deadline_s = max(deadline_s, BULK_DEADLINE_S)
        # A cluster has a connection for each node, and redirects: that stays with redis-py.
        self._line = self._bulk_line = None
        if isinstance(client, Redis):
            self._line = Line(client, deadline_s=deadline_s)
            self._bulk_line = Line(client, deadline_s=self._bulk_deadline_s)
        self._bulk_turns = Turns(BULK_AT_ONCE, self._bulk_deadline_s)

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
        return await self._run(self._line, self._deadline_s, script, (len(keys), *keys, *args))

    async def run_bulk(self, script: Script, keys: Sequence[str | bytes], args: Sequence[bytes | str | int]) -> Any:  # noqa: ANN401  # as `run`
        """Run a script that carries a large result, either way, on a connection of its own: nobody waits behind it.

        Takes and raises as `run`, but waits longer, and for its turn too: few results are under way at once.
        """
        with store_errors():
            await self._bulk_turns.take()
        try:
            return await self._run(self._bulk_line, self._bulk_deadline_s, script, (len(keys), *keys, *args))
        finally:
            self._bulk_turns.give()

    async def _run(self, line: Line | None, deadline_s: float, script: Script, words: tuple[Word, ...]) -> Any:  # noqa: ANN401  # as `run`
        if line is not None:
            try:
                return await line.call("EVALSHA", script.sha, *words)
            except NoScriptError:
                return await line.call("EVAL", script.source, *words)
        with store_errors():
            async with asyncio.timeout(deadline_s):
                try:
                    return await self._client.execute_command("EVALSHA", script.sha, *words)
                except NoScriptError:
                    # The server was restarted or flushed its scripts: it ran nothing, and EVAL makes it know this one.
                    return await self._client.execute_command("EVAL", script.source, *words)
