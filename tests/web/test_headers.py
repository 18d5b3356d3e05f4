from __future__ import annotations

import pytest

from gateway.errors import InvalidRequest
from gateway.web import headers
from gateway.web.api import TenantApi
from gateway.web.urls import own_base

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"abc", "abc"),
        (b'"abc"', "abc"),
        (b'"a\\"b\\\\"', 'a"b\\'),
        (b"a" * 255, "a" * 255),
        (b'"' + b"a" * 255 + b'"', "a" * 255),
        (b"a" * 256, None),
        (b"", None),
        (b'""', None),
        (b'"abc', None),
        (b'"a"b"', None),
        (b"a b", None),
        (b"a\tb", None),
        ("ä".encode(), None),
    ],
)
def test_idempotency_key(value: bytes, key: str | None) -> None:
    """A key is 1 to 255 visible characters, the same quoted or bare; anything else is refused."""
    if key is None:
        with pytest.raises(InvalidRequest):
            headers.idempotency_key({b"idempotency-key": value})
    else:
        assert headers.idempotency_key({b"idempotency-key": value}) == key


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (b"", {}),
        (b"team=video, project=p-1", {"team": "video", "project": "p-1"}),
        (b"empty=", {"empty": ""}),
        (b"a=b=c {} %s", {"a": "b=c {} %s"}),
        (",".join(f"k{n}=v" for n in range(8)).encode(), {f"k{n}": "v" for n in range(8)}),
        (",".join(f"k{n}=v" for n in range(9)).encode(), None),
        (b"a=1,a=2", None),
        (b"novalue", None),
        (b"=v", None),
        (b"a=1,", None),
        (b"k" * 64 + b"=v", None),
        (b"k=" + b"v" * 129, None),
        (b"k=\x1b[31m", None),
        (b"k=a\nb", None),
    ],
)
def test_labels(value: bytes, read: dict[str, str] | None) -> None:
    """Labels are at most 8 printable pairs of bounded length, each name once."""
    if read is None:
        with pytest.raises(InvalidRequest):
            headers.labels({b"x-gateway-labels": value})
    else:
        assert headers.labels({b"x-gateway-labels": value}) == read


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (b"https://hooks.example.com/video?x=1", True),
        (b"http://hooks.example.com:8080/", True),
        (b"ftp://hooks.example.com/", False),
        (b"https://", False),
        (b"https:///path", False),
        (b"https://user:pw@hooks.example.com/", False),
        (b"https://hooks.example.com/#x", False),
        (b"https://hooks.example.com:99999/", False),
        (b"https://[::1/", False),
        (b"https://evil\\@hooks.example.com/", False),
        (b"https://h/ x", False),
        (b"https://h/" + b"a" * 2040, False),
    ],
)
def test_webhook_url(value: bytes, valid: bool) -> None:
    """A webhook target is an absolute http(s) URL without user information or fragment."""
    if valid:
        assert headers.webhook_url({b"x-webhook-url": value}) == value.decode()
    else:
        with pytest.raises(InvalidRequest):
            headers.webhook_url({b"x-webhook-url": value})


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (TRACE, True),
        (TRACE.upper(), False),
        ("ff" + TRACE[2:], False),
        ("00-" + "0" * 32 + TRACE[35:], False),
        (TRACE[:36] + "0" * 16 + "-01", False),
        (TRACE + "-x", False),
        ("garbage", False),
    ],
)
def test_traceparent(value: str, valid: bool) -> None:
    """A trace context that W3C calls invalid is ignored."""
    assert headers.traceparent({b"traceparent": value.encode()}) == (value if valid else None)


def test_only_the_allow_list_goes_upstream() -> None:
    """Cookies, keys, forwarded headers, what Connection names and unprintable values stay here."""
    sent = {
        b"accept": b"*/*",
        b"user-agent": b"sdk\x1b[31m",
        b"content-type": b"application/json",
        b"x-initiator": b"SDK-PY",
        b"connection": b"keep-alive, X-Initiator , x-api-key",
        b"cookie": b"a=b",
        b"x-api-key": b"k",
        b"authorization": b"Bearer k",
        b"x-forwarded-for": b"1.2.3.4",
        b"host": b"h",
    }
    expected = {"accept": "*/*", "content-type": "application/json", "traceparent": TRACE}
    assert headers.upstream_headers(sent, TRACE) == expected


@pytest.mark.parametrize("name", sorted(headers.SINGLE))
def test_single_headers_stand_once(name: bytes) -> None:
    """A header with one meaning is refused when it stands twice, even with the same value."""
    with pytest.raises(InvalidRequest):
        headers.collect([(name, b"1"), (b"accept", b"a"), (name, b"1")])


def test_list_headers_are_joined() -> None:
    """Other headers may repeat, and no naming of a hop header gets lost by it."""
    read = headers.collect(iter([(b"connection", b"a"), (b"x-api-key", b"k"), (b"connection", b"b")]))
    assert read == {b"connection": b"a, b", b"x-api-key": b"k"}


@pytest.mark.parametrize(
    ("host", "valid"),
    [
        (b"gw.internal:8080", True),
        (b"localhost", True),
        (b"[::1]:8080", True),
        (b"my_service", True),
        (None, False),
        (b"", False),
        (b"evil.com/path", False),
        (b"evil.com@gw", False),
        (b"gw:port", False),
        (b'gw"', False),
        (b"gw\\n", False),
        (b"a b", False),
        (b"h\xe4", False),
    ],
)
def test_own_urls(host: bytes | None, valid: bool) -> None:
    """Our URLs come from a strict Host header, unless a public URL is configured."""
    assert own_base("https://gw.example.com/", "http", host) == "https://gw.example.com"
    if valid:
        assert host is not None
        assert own_base("", "http", host) == f"http://{host.decode()}"
    else:
        with pytest.raises(InvalidRequest):
            own_base("", "http", host)


@pytest.mark.parametrize("url", ["gw.example.com", 'https://gw"', "https://gw/?a=b", "ftp://gw"])
def test_a_public_url_must_be_one(url: str) -> None:
    """A setting that would give broken URLs can't be constructed."""
    nothing: dict[str, None] = dict.fromkeys(
        ("submit", "sync", "assets", "usage", "jobs", "waiting", "catalogue", "sink", "failures")
    )
    with pytest.raises(ValueError, match="public URL"):
        TenantApi(**nothing, public_url=url)  # type: ignore[arg-type]  # services are not looked at
