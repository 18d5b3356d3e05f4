"""Sends signed messages (Standard Webhooks): once each, to checked addresses, following nothing, reading no body."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from standardwebhooks import Webhook

from gateway import __version__
from gateway.core.addresses import Address
from gateway.core.tenant import Secret
from gateway.core.webhook import Answer, answered
from gateway.webhooks.resolver import CheckedResolver, ForbiddenAddress

TIMEOUT_S: Final = 15.0
CONNECTIONS: Final = 512
_MAX_DETAIL: Final = 200
_FORBIDDEN: Final = (ForbiddenAddress, httpx.InvalidURL, httpx.UnsupportedProtocol)


class HttpSender:
    """`service.deliveries.WebhookSender`.

    Speaks to the transport itself: there is no client that could follow a redirect, keep a cookie or use a proxy.

    Args:
        resolver: Looks hosts up and checks their addresses.
        verify: TLS context; the usual authorities where None.
        timeout_s: Seconds for a whole attempt, the name look-up included.
        clock: Unix seconds, for the signed timestamp.
    """

    def __init__(
        self,
        resolver: CheckedResolver,
        *,
        verify: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._resolver = resolver
        self._timeout_s = timeout_s
        self._clock = clock
        self._transport = _open_transport(resolver, verify or httpx.create_ssl_context(trust_env=False))

    async def send(self, url: str, message_id: str, body: bytes, secrets: tuple[Secret, ...]) -> Answer:
        """See `WebhookSender.send`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(url, body, self._headers(message_id, body, secrets))
        except TimeoutError:
            return Answer("timeout", detail=f"no answer within {self._timeout_s:g} s")
        except _FORBIDDEN as exc:
            return Answer("refused", detail=_words(exc))
        except (httpx.HTTPError, aiohttp.ClientError) as exc:
            return Answer("unreachable", detail=_words(exc.__cause__ or exc))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()
        await self._resolver.close()

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        request = httpx.Request("POST", url, content=body, headers=headers)
        address = _literal(request.url.host)
        if address is not None:  # aiohttp resolves names only
            self._resolver.check(address)
        response = await self._transport.handle_async_request(request)
        await response.aclose()
        return answered(response.status_code)

    def _headers(self, message_id: str, body: bytes, secrets: tuple[Secret, ...]) -> dict[str, str]:
        """Sign a message with each secret, the newest first (Standard Webhooks, "Signature scheme")."""
        now, text = datetime.fromtimestamp(self._clock(), UTC), body.decode()
        return {
            "content-type": "application/json",
            "user-agent": f"segmind-gateway/{__version__}",
            "accept-encoding": "identity",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(Webhook(secret.reveal()).sign(message_id, now, text) for secret in secrets),
        }


def _open_transport(resolver: CheckedResolver, context: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """Make the transport; its session opens at the first request, in the running loop."""

    def session() -> aiohttp.ClientSession:
        # Each message has a connection of its own, made to an address that was checked for it.
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, force_close=True, use_dns_cache=False, resolver=resolver, ssl=context
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    return AiohttpTransport(verify=context, trust_env=False, client=session)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _words(exc: BaseException) -> str:
    """Say what happened; the path of a URL, in which a receiver may keep a token, stays out of it."""
    name = type(exc).__name__
    return f"{name}: {exc}"[:_MAX_DETAIL] if isinstance(exc, ForbiddenAddress | aiohttp.ClientConnectorError) else name
