"""What ``policy.durability`` adds to a submit: alone, and with 32 at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from support.valkey import DURABLE, HOST, client_of, valkey_server, wait_until

from bench.rounds import Subject, interleave
from bench.scene import LONG_S, Scene, Shared, scene, tell
from bench.size import Size

ALONE: Final = 1
MANY: Final = 32
DELAY_MS: Final = "30-70"
EVERYSEC: Final = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")
PLAIN: Final = {"always": DURABLE, "everysec": EVERYSEC}
CONFIRMED: Final = {
    "waitaof_always": ("waitaof", "always"),
    "waitaof_everysec": ("waitaof", "everysec"),
    "wait1_everysec": ("wait:1", "everysec"),
}


async def durability(shared: Shared, size: Size) -> dict[str, Any]:
    """Measure submits whose hold is confirmed beside submits whose hold is not, each on a Valkey of its own."""
    tell(shared.standin, job_s=LONG_S, delay_ms=DELAY_MS)
    async with AsyncExitStack() as stack:
        scenes = {
            f"none_{fsync}": await stack.enter_async_context(_scene(shared, size, "none", fsync)) for fsync in PLAIN
        }
        for name, (wanted, fsync) in CONFIRMED.items():
            scenes[name] = await stack.enter_async_context(_scene(shared, size, wanted, fsync))
        series = await interleave(
            {
                f"{name}_{connections}": Subject(one.gateway, one.submits(), connections, one.valkey)
                for name, one in scenes.items()
                for connections in (ALONE, MANY)
            },
            rounds=size.rounds,
            seconds=size.delayed_s / 2,
        )
    tell(shared.standin, delay_ms="0")
    added = {}
    for name, (_, fsync) in CONFIRMED.items():
        for connections in (ALONE, MANY):
            one, plain = series[f"{name}_{connections}"], series[f"none_{fsync}_{connections}"]
            added[f"{name}_{connections}_added_mean_ms"] = round(one.mean_ms - plain.mean_ms, 2)
            added[f"{name}_{connections}_added_p99_ms"] = round(one.p99_ms - plain.p99_ms, 2)
    return {**{name: one.figures() for name, one in series.items()}, **added}


@asynccontextmanager
async def _scene(shared: Shared, size: Size, wanted: str, fsync: str) -> AsyncIterator[Scene]:
    name = f"durability-{wanted.replace(':', '')}-{fsync}"
    options: Sequence[str] = PLAIN[fsync]
    async with AsyncExitStack() as stack:
        if wanted.startswith("wait:"):
            options = (*options, "--repl-diskless-sync-delay", "0")
        one = await stack.enter_async_context(
            scene(shared, name, tenants=size.tenants, role="api", durability=wanted, valkey=options)
        )
        if wanted.startswith("wait:"):
            replica = shared.directory / name / "replica"
            of = ("--replicaof", HOST, str(one.valkey.port))
            url = stack.enter_context(valkey_server(replica, *options, *of))
            port = int(url.rpartition(":")[2].split("/")[0])
            with client_of(port) as client:
                wait_until(lambda: client.info("replication")["master_link_status"] == "up", replica / "valkey.log")
        yield one


def durability_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Write what is added as a table of Markdown."""
    yield "| `policy.durability` | `appendfsync` | mean alone | p99 alone | mean of 32 at once | p99 of 32 at once |"
    yield "|---" * 6 + "|"
    for name, (wanted, fsync) in CONFIRMED.items():
        cells: Sequence[str] = [
            f"{found[f'{name}_{connections}_added_{figure}_ms']:+.1f} ms"
            for connections in (ALONE, MANY)
            for figure in ("mean", "p99")
        ]
        yield f"| `{wanted}` | `{fsync}` | {' | '.join(cells)} |"
