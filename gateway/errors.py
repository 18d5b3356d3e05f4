"""Exceptions of the gateway: one tree, imported by every layer, importing nothing.

::

    GatewayError
    ├── ConfigError                  settings or gateway.yaml are wrong; the process refuses to start or apply
    ├── InvalidRequest               the caller's input is wrong (400), names the field where it can
    │   ├── BodyTooLarge             413
    │   └── UnsupportedMediaType     415
    ├── Refused                      a decision of ours or of the vendor: nothing was spent
    ├── StoreError
    │   ├── StoreUnavailable         Redis did not answer in time; nothing was decided, or it is unknown whether it was
    │   └── StoreNotReady            Redis answers but may not be trusted with money (epoch missing, eviction, no AOF)
    └── UpstreamError
        ├── UpstreamUnsent           provably nothing left this process (DNS, connect, TLS, pool)
        │   └── UpstreamHeldBack     it was not even tried: it would fail, or take another tenant's share
        ├── UpstreamAmbiguous        bytes may have left and no usable answer came back
        ├── UpstreamRefused          the vendor answered and did not accept
        └── UpstreamInvalidResponse  the vendor's answer to a read can't be used

``web.problems`` maps each class, and each code of `Refused`, to a status; a test fails on an unmapped one.
"""

from __future__ import annotations

from collections.abc import Mapping


class GatewayError(Exception):
    """Root of everything raised on purpose."""


class ConfigError(GatewayError):
    """Report every mistake found in settings or in ``gateway.yaml`` at once.

    Attributes:
        problems: One line a mistake, each naming the setting or the line and field.
    """

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        super().__init__("; ".join(self.problems))


class InvalidRequest(GatewayError):
    """Refuse a request as malformed.

    Attributes:
        field: Path of the offending parameter (``prompt``, ``images[0]``), if one is to blame.
    """

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        self.detail = detail
        self.field = field
        super().__init__(detail)


class BodyTooLarge(InvalidRequest):
    """Refuse a body above the route's limit."""


class UnsupportedMediaType(InvalidRequest):
    """Refuse a body that is not what the route takes."""


class Refused(GatewayError):
    """Deny a well-formed request; nothing was spent and nothing is held.

    Attributes:
        code: Stable error code of the API, e.g. ``budget_exhausted``.
        detail: One sentence for a human.
        limited_by: ``tenant``, ``gateway`` or ``upstream``, where a limit is the reason.
        retry_after_s: Seconds after which a retry may succeed, where that is known.
        extra: Further members of the problem body (``balance``, ``held``, ``required``, ``resets_at`` ...).
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        limited_by: str | None = None,
        retry_after_s: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        self.code = code
        self.detail = detail
        self.limited_by = limited_by
        self.retry_after_s = retry_after_s
        self.extra = dict(extra or {})
        super().__init__(f"{code}: {detail}")


class StoreError(GatewayError):
    """Group the failures of the store."""


class StoreUnavailable(StoreError):
    """Report that Redis did not answer in time: the outcome of a write is unknown."""


class StoreNotReady(StoreError):
    """Report that the store answers but may not be trusted with money."""


class UpstreamError(GatewayError):
    """Group the failures of a call to the vendor."""


class UpstreamUnsent(UpstreamError):
    """Report that provably no byte of the request left this process."""


class UpstreamHeldBack(UpstreamUnsent):
    """Report that a call was not made, since it would fail now, or take more than its share.

    Attributes:
        code: Stable error code of the API, e.g. ``upstream_unavailable``.
        limited_by: ``upstream`` or ``gateway``.
        retry_after_s: Seconds after which it may be made.
    """

    def __init__(self, code: str, detail: str, *, retry_after_s: float, limited_by: str = "upstream") -> None:
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.limited_by = limited_by
        super().__init__(f"{code}: {detail}")


class UpstreamAmbiguous(UpstreamError):
    """Report that the request may have reached the vendor and no usable answer came back.

    Attributes:
        status: HTTP status of the unusable answer, None when there was none.
        timed_out: True where the vendor did not answer in time.
        unfit: True where it answered what no server of its API answers: a redirect, a compressed or endless body.
    """

    def __init__(self, detail: str, *, status: int | None = None, timed_out: bool = False, unfit: bool = False) -> None:
        self.status = status
        self.timed_out = timed_out
        self.unfit = unfit
        super().__init__(detail)


class UpstreamRefused(UpstreamError):
    """Report that the vendor answered and definitely did not accept.

    Attributes:
        status: HTTP status of the vendor.
        detail: The vendor's own message, redacted.
        retry_after_s: Seconds until the vendor's limit resets, clamped to 1-120, for a 429.
    """

    def __init__(self, status: int, detail: str, *, retry_after_s: int | None = None) -> None:
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s
        super().__init__(f"upstream answered {status}: {detail}")


class UpstreamInvalidResponse(UpstreamError):
    """Report that an answer to a read can't be used (not JSON, too large, a redirect).

    Attributes:
        unfit: As of `UpstreamAmbiguous`.
    """

    def __init__(self, detail: str, *, unfit: bool = False) -> None:
        self.unfit = unfit
        super().__init__(detail)
