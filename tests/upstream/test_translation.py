from __future__ import annotations

import ssl

import aiohttp
import pytest

from gateway.errors import UpstreamAmbiguous, UpstreamUnsent
from gateway.upstream.failures import translate


def connection_key() -> aiohttp.client_reqrep.ConnectionKey:
    """Make what aiohttp's connector errors want."""
    return aiohttp.client_reqrep.ConnectionKey("api.segmind.com", 443, True, True, None, None, None)  # noqa: FBT003 its order


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (aiohttp.ClientConnectorError(connection_key(), OSError(111, "refused")), UpstreamUnsent),
        (aiohttp.ClientConnectorDNSError(connection_key(), OSError(-2, "unknown")), UpstreamUnsent),
        (aiohttp.ClientConnectorSSLError(connection_key(), ssl.SSLError(1, "wrong version")), UpstreamUnsent),
        (
            aiohttp.ClientConnectorCertificateError(connection_key(), ssl.SSLCertVerificationError(1, "expired")),
            UpstreamUnsent,
        ),
        (aiohttp.ConnectionTimeoutError("pool"), UpstreamUnsent),
        (aiohttp.ServerDisconnectedError(), UpstreamAmbiguous),
        (aiohttp.SocketTimeoutError("read"), UpstreamAmbiguous),
        (aiohttp.ServerTimeoutError(), UpstreamAmbiguous),
        (aiohttp.ClientOSError(104, "reset"), UpstreamAmbiguous),
        (aiohttp.ClientConnectionResetError("closing"), UpstreamAmbiguous),
        (aiohttp.ClientConnectionError("anything"), UpstreamAmbiguous),
        (aiohttp.ClientPayloadError("truncated"), UpstreamAmbiguous),
        (ConnectionRefusedError(111, "not aiohttp's word"), UpstreamAmbiguous),
        (TimeoutError(), UpstreamAmbiguous),
        (RuntimeError("closed"), UpstreamAmbiguous),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_aiohttp_raises_tells_whether_anything_was_sent(origin: Exception, expected: type[Exception]) -> None:
    """Only what the connector alone raises proves that nothing was."""
    assert type(translate(origin)) is expected
