"""Connections to Redis: one server, a cluster, or a primary found through sentinels; and redis-py's errors, translated.

Nothing here sends a command twice. redis-py would by default, scripts included, when a reply is lost; so every client
gets a `Retry` of zero attempts, the ones that ask sentinels too. Where a cluster answers MOVED or ASK the command did
not run, and redis-py follows the redirect whatever the retry says. What is lost is reported as `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from gateway.errors import ConfigError, StoreUnavailable
from gateway.store.cluster import FairCluster
from gateway.store.pool import FairPool, FairSentinelPool
from gateway.store.refusals import refusal_code

RedisClient: TypeAlias = Redis | RedisCluster

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
FORMS = (
    "redis://[user:password@]host:port[/db], rediss://..., unix:///path, redis+cluster://host:port,host:port or "
    "redis+sentinel://host:port,host:port/service[/db]"
)
OPTIONS = frozenset({"db", "username", "password"})
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
RESP_VERSION = 2  # no HELLO and no maintenance push messages, which are of Redis Enterprise

_UNAVAILABLE = (
    RedisConnectionError,  # also: authentication, loading, pool exhausted, no primary known to the sentinels
    RedisTimeoutError,
    InvalidResponse,
    AskError,
    ClusterError,
    TryAgainError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    OSError,  # also: our own deadline
)


def open_redis(
    url: str,
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
    max_connections: int,
    pool_wait_s: float = 0.1,
) -> RedisClient:
    """Build a client; nothing is sent before the first command. The caller closes it with ``aclose()``.

    Args:
        url: One of `FORMS`. TLS settings as ``?ssl_ca_certs=/path``; sentinels with a password of their own:
            ``?sentinel_password=...``.
        connect_timeout_s: Seconds for a connection to be made.
        read_timeout_s: Seconds to wait for a reply.
        max_connections: Connections at most; in a cluster commands in flight, and connections to each node.
        pool_wait_s: Seconds for which a call queues for a connection.

    Raises:
        ConfigError: The URL is none that we understand. The message never quotes it, as it may hold a password.
    """
    link = {
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": read_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": RESP_VERSION,
    }
    bounds = {"max_connections": max_connections, "wait_s": pool_wait_s}
    try:
        parts = urlsplit(url)
        if parts.scheme in {"redis", "rediss", "unix"}:
            return _single(url, parts, link, bounds)
        if parts.scheme in {"redis+cluster", "rediss+cluster"}:
            return _cluster(parts, link, bounds)
        if parts.scheme in {"redis+sentinel", "rediss+sentinel"}:
            return _sentinel(parts, link, bounds)
    except (ValueError, TypeError, RedisError, RedisClusterException):
        raise ConfigError(f"GATEWAY_REDIS_URL must be {FORMS}") from None  # the cause may quote the password
    raise ConfigError(f"GATEWAY_REDIS_URL must be {FORMS}")


@contextmanager
def store_errors() -> Iterator[None]:
    """Translate what redis-py and the network raise inside the block, once, by `translate`."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as exc:
        unavailable = translate(exc)
        if unavailable is None:
            raise
        raise unavailable from exc


def translate(exc: Exception) -> StoreUnavailable | None:
    """Say whether an exception means that the store can't confirm; None for a mistake of ours, such as a Lua error."""
    if isinstance(exc, _UNAVAILABLE) or _is_lost_cluster(exc) or _is_refusal(exc):
        return StoreUnavailable(f"{type(exc).__name__}: {str(exc) or 'no answer in time'}")
    return None


def _is_lost_cluster(exc: Exception) -> bool:
    # redis-py has one class for "no node answers" and for keys of different slots, which is a mistake of ours.
    return isinstance(exc, RedisClusterException) and "must map to the same" not in str(exc)


def _is_refusal(exc: Exception) -> bool:
    return isinstance(exc, ResponseError) and refusal_code(str(exc)) != ""


def _single(url: str, parts: SplitResult, link: dict[str, Any], bounds: dict[str, Any]) -> Redis:
    _check_options(parts, OPTIONS)
    if parts.scheme == "unix" and (parts.netloc.rpartition("@")[2] or not parts.path):
        raise ValueError("a unix URL has a path and no host")
    if parts.scheme != "unix":
        _database(parts.path.strip("/"))
    pool = FairPool(**{**link, **bounds, **parse_url(url)})
    _check_pool(pool)
    return Redis.from_pool(pool)


def _cluster(parts: SplitResult, link: dict[str, Any], bounds: dict[str, Any]) -> RedisCluster:
    _check_options(parts, OPTIONS - {"db"})
    if parts.path.strip("/"):
        raise ValueError("a cluster has no databases")
    return FairCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in _hosts(parts, DEFAULT_PORT)],
        # Patch the slot map on MOVED and leave the connections alone: redis-py would close all of them on each fifth.
        reinitialize_steps=0,
        **{**link, **bounds, **_credentials(parts)},
    )


def _sentinel(parts: SplitResult, link: dict[str, Any], bounds: dict[str, Any]) -> Redis:
    _check_options(parts, OPTIONS | SENTINEL_OPTIONS)
    service, _, database = unquote(parts.path).strip("/").partition("/")
    if not service:
        raise ValueError("the service is missing")
    credentials = _credentials(parts)
    to_sentinels = {
        **link,
        **{name: value for name, value in credentials.items() if name.startswith("ssl")},
        **{name.removeprefix("sentinel_"): credentials.pop(name) for name in SENTINEL_OPTIONS & credentials.keys()},
    }
    manager = Sentinel(_hosts(parts, SENTINEL_PORT), sentinel_kwargs=to_sentinels)  # type: ignore[no-untyped-call]  # redis-py
    options = {"db": _database(database), **link, **bounds, **credentials}
    pool = FairSentinelPool(service, manager, **options)  # type: ignore[no-untyped-call]  # redis-py
    _check_pool(pool)
    return Redis.from_pool(pool)


def _check_pool(pool: FairPool) -> None:
    """Raise TypeError on options that a connection does not take, now instead of at the first command."""
    pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py


def _hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    """Read ``host:port,host:port`` after the last ``@``."""
    split = [urlsplit(f"//{address}") for address in parts.netloc.rpartition("@")[2].split(",")]
    if not all(address.hostname for address in split):
        raise ValueError("an address without a host")
    return [(str(address.hostname), address.port or default_port) for address in split]


def _credentials(parts: SplitResult) -> dict[str, Any]:
    """Read user, password and options as redis-py does, for a URL with any number of hosts."""
    user, at, _ = parts.netloc.rpartition("@")
    options: dict[str, Any] = {**parse_url(f"redis://{user}{at}host/?{parts.query}")}
    del options["host"]
    return {**options, "ssl": True} if parts.scheme.startswith("rediss") else options


def _check_options(parts: SplitResult, known: frozenset[str]) -> None:
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known and not name.startswith("ssl_"):
            raise ValueError("an unknown option")


def _database(text: str) -> int:
    """Read a database number; redis-py would silently take 0 for what it can't read."""
    if text and not text.isdecimal():
        raise ValueError("not a database number")
    return int(text or 0)
