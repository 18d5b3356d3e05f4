"""Whether a Redis may be trusted with money: durable, never evicting, a primary, and the dataset that it was.

All of it is read from INFO, which managed services allow where they forbid CONFIG GET.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.exceptions import NoPermissionError
from redis.utils import str_if_bytes

from gateway.errors import StoreNotReady
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors

REWOUND_S: Final = 7 * 86_400
NO_INFO: Final = "this user may not run INFO, so nothing is known of eviction and AOF: give it +info"


async def check_store(client: RedisClient, *, allow_volatile: bool) -> list[str]:
    """List what is wrong with the server, or with any primary of a cluster; empty when all is well.

    Args:
        client: From `gateway.store.connect.open_redis`.
        allow_volatile: Accept a server that may lose or evict data; for trials.

    Raises:
        StoreUnavailable: A server did not answer.
    """
    with store_errors():
        try:
            return await _check(client, allow_volatile=allow_volatile)
        except NoPermissionError:
            return [] if allow_volatile else [NO_INFO]


async def _check(client: RedisClient, *, allow_volatile: bool) -> list[str]:
    if not isinstance(client, RedisCluster):
        return _problems(await client.info(), allow_volatile=allow_volatile, clustered=False)
    await client.initialize()
    found = []
    for node in client.get_primaries():
        info = await client.info(target_nodes=node)
        problems = _problems(info, allow_volatile=allow_volatile, clustered=True)
        found += [f"{node.name}: {problem}" for problem in problems]
    return found


async def read_epoch(client: RedisClient) -> str | None:
    """Read the mark of the ledger's dataset; None on a flushed, fresh or wrong Redis.

    Raises:
        StoreUnavailable: No answer.
    """
    with store_errors():
        epoch = await client.get(keys.EPOCH)
    return None if epoch is None else str_if_bytes(epoch)


async def ensure_epoch(client: RedisClient) -> str:
    """Mark the dataset as the ledger's, unless it is marked already, and return the mark.

    Raises:
        StoreUnavailable: No answer; the mark may have been set.
        StoreNotReady: The mark is gone as soon as it is set: somebody flushes or evicts.
    """
    with store_errors():
        await client.set(keys.EPOCH, uuid.uuid4().hex, nx=True)
    epoch = await read_epoch(client)
    if epoch is None:
        raise StoreNotReady(f"{keys.EPOCH} does not stay in the store")
    return epoch


async def note_rewound(client: RedisClient, detail: str) -> None:
    """Keep in the store, for a week, that it went back in time.

    Raises:
        StoreUnavailable: No answer.
    """
    with store_errors():
        seconds, _ = await client.time()
        at = datetime.fromtimestamp(seconds, UTC)
        await client.set(keys.REWOUND, f"{at:%Y-%m-%d %H:%M} UTC: {detail}", ex=REWOUND_S)


async def read_rewound(client: RedisClient) -> str | None:
    """Read when and how the store went back in time; None where no process saw that in the last week.

    Raises:
        StoreUnavailable: No answer.
    """
    with store_errors():
        noted = await client.get(keys.REWOUND)
    return None if noted is None else str_if_bytes(noted)


def _problems(info: Mapping[str, Any], *, allow_volatile: bool, clustered: bool) -> list[str]:
    """Compare one server's INFO with what the ledger needs; a field that is missing is a problem too."""
    found = []
    if info.get("role") != "master":
        found.append(f"its role is {info.get('role')}, not primary: point GATEWAY_REDIS_URL at the primary")
    if info.get("cluster_enabled") and not clustered:
        found.append("it is a node of a cluster: use a redis+cluster:// URL")
    if allow_volatile:
        return found
    if info.get("maxmemory_policy") != "noeviction":
        found.append(f"maxmemory-policy is {info.get('maxmemory_policy')}: set it to noeviction, or holds may be lost")
    if info.get("aof_enabled") != 1:
        found.append("appendonly is not yes: turn AOF on, or a restart loses the ledger")
    return found
