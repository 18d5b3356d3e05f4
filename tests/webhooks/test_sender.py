from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import pytest
from standardwebhooks import WebhookVerificationError
from support.raw_upstream import RawUpstream, answers, drops, floods, hangs, resets, sends
from support.receiver import receiving, takes, verified

from gateway.core.tenant import Secret
from gateway.core.webhook import Answer, new_secret
from gateway.webhooks.resolver import CheckedResolver, Found
from gateway.webhooks.sender import HttpSender

BODY: Final = b'{"type":"job.completed","data":{"request_id":"1"}}'
PATIENT_S: Final = 20.0
SHORT_S: Final = 0.3


@asynccontextmanager
async def sender(
    *, allow_private: bool = True, timeout_s: float = PATIENT_S, names: Sequence[Sequence[str]] = ()
) -> AsyncIterator[Callable[..., asyncio.Future[Answer]]]:
    """Open a sender; ``names`` are the addresses that each further look-up of a name finds."""
    found = iter(names)

    def look_up(_: str, port: int) -> Sequence[Found]:
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in next(found)
        ]

    resolver = CheckedResolver(allow_private=allow_private, **({"look_up": look_up} if names else {}))
    opened = HttpSender(resolver, timeout_s=timeout_s)

    def send(url: str, *secrets: Secret) -> asyncio.Future[Answer]:
        return asyncio.ensure_future(opened.send(url, "msg_1", BODY, secrets or (new_secret(),)))

    try:
        yield send
    finally:
        await opened.aclose()


async def test_a_receiver_verifies_what_it_gets(receiver: RawUpstream) -> None:
    """The standard's own library accepts the message, and with another secret or body it does not."""
    secret = new_secret()
    async with sender() as send:
        assert await send(f"{receiver.url}/hook?x=1", secret) == Answer("delivered", 204)
    (message,) = receiver.requests
    assert verified(message, secret.reveal())["type"] == "job.completed"
    assert (message.line, message.body) == ("POST /hook?x=1 HTTP/1.1", BODY)
    assert message.headers["webhook-id"] == "msg_1"
    assert message.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        verified(message, new_secret().reveal())


async def test_while_a_secret_is_replaced_both_sign(receiver: RawUpstream) -> None:
    """A receiver that has either secret accepts the message."""
    old, new = new_secret(), new_secret()
    async with sender() as send:
        await send(receiver.url, new, old)
    (message,) = receiver.requests
    assert verified(message, old.reveal()) == verified(message, new.reveal())


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(receiver: RawUpstream, status: int) -> None:
    """A receiver can't send the message on to a place that nobody checked."""
    async with receiving() as elsewhere, sender() as send:
        receiver.reply = answers(status, b"", f"Location: {elsewhere.url}/x")
        assert await send(receiver.url) == Answer("rejected", status)
        assert elsewhere.connections == 0


async def test_cookies_and_proxies_play_no_part(receiver: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a receiver sets is not sent back, and the environment's proxies are not asked."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    receiver.reply = sends(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")
    async with sender() as send:
        assert [(await send(receiver.url)).outcome for _ in range(2)] == ["delivered"] * 2
    assert all("cookie" not in message.headers for message in receiver.requests)


async def test_an_endless_answer_is_not_read(receiver: RawUpstream) -> None:
    """The status alone decides; a body of any length costs neither memory nor time."""
    receiver.reply = floods
    async with sender() as send:
        assert await send(receiver.url) == Answer("delivered", 200)


async def test_a_receiver_that_does_not_answer_is_left(receiver: RawUpstream) -> None:
    """After its time an attempt ends, whatever the receiver does."""
    receiver.reply = hangs
    async with sender(timeout_s=SHORT_S) as send:
        assert (await send(receiver.url)).outcome == "timeout"


@pytest.mark.parametrize("reply", [drops, resets, sends(b"garbage\r\n\r\n")])
async def test_what_is_no_answer_is_unreachable(
    receiver: RawUpstream, reply: Callable[[asyncio.StreamWriter], None]
) -> None:
    """A connection that ends early, or another protocol, is a failure to be tried again, and the message came once."""
    receiver.reply = reply  # type: ignore[assignment]  # parametrize widens it
    async with sender() as send:
        answer = await send(f"{receiver.url}/hook?token=hunter2")
    assert answer.outcome == "unreachable"
    assert "hunter2" not in answer.detail
    assert len(receiver.requests) == 1


async def test_a_closed_port_is_unreachable() -> None:
    """Nobody listens there now: to be tried again."""
    async with sender() as send:
        assert (await send("http://127.0.0.1:1/")).outcome == "unreachable"


async def test_a_name_without_addresses_is_unreachable() -> None:
    """A look-up that fails is to be tried again."""
    async with sender() as send:
        assert (await send("http://no-such-name.invalid/")).outcome == "unreachable"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "127.1", "2130706433", "0x7f000001",  # noqa: S104
     "0177.0.0.1", "localhost"],
)  # fmt: skip
async def test_addresses_that_are_not_public_are_refused(receiver: RawUpstream, host: str) -> None:
    """Loopback, private and link-local addresses are refused in every spelling, and names that lead there too."""
    async with sender(allow_private=False) as send:
        port = receiver.url.rpartition(":")[2]
        assert (await send(f"http://{host}:{port}/")).outcome == "refused"
    assert receiver.connections == 0


async def test_link_local_addresses_are_refused_even_where_private_ones_are_allowed() -> None:
    """A cloud's credentials are served there; no operator means that by private networks."""
    async with sender(names=[["169.254.169.254"], ["fe80::1"]]) as send:
        assert (await send("http://169.254.169.254/")).outcome == "refused"
        assert (await send("http://metadata.example/")).outcome == "refused"
        assert (await send("http://metadata.example/")).outcome == "refused"


async def test_one_forbidden_address_among_others_is_enough() -> None:
    """A name with a public and a loopback address is refused: which one is taken would be chance."""
    async with sender(allow_private=False, names=[["93.184.216.34", "127.0.0.1"]]) as send:
        assert (await send("http://two-faced.example/")).outcome == "refused"


async def test_a_name_that_changes_its_mind_gains_nothing(receiver: RawUpstream) -> None:
    """The connection goes to the address that was checked: there is one look-up, and no second one to rebind."""
    port = receiver.url.rpartition(":")[2]
    async with sender(names=[["127.0.0.1"], ["127.0.0.2"]]) as send:
        assert (await send(f"http://rebinding.example:{port}/")).outcome == "delivered"
        assert (await send(f"http://rebinding.example:{port}/")).outcome == "unreachable"
    (message,) = receiver.requests
    assert message.headers["host"] == f"rebinding.example:{port}"


async def test_no_connection_is_used_twice(receiver: RawUpstream) -> None:
    """Each message goes over a connection to an address that was checked for it."""
    receiver.reply = takes
    async with sender() as send:
        for _ in range(3):
            await send(receiver.url)
    assert receiver.connections == 3
