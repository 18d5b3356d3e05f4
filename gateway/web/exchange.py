"""One request on its way through the web layer, and the answer to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import Receive, Scope

from gateway.core.job import JobView
from gateway.core.tenant import Credential
from gateway.service.room import Lease

HeaderList = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
NO_STORE = (b"cache-control", b"no-store")


@dataclass(slots=True)
class Answer:
    """What to send: headers without ``X-Request-Id``, and a body that is whole or streams.

    Attributes:
        code: Error code, empty for a success; `limited_by` with it. Both go into the event, not on the wire.
    """

    status: int
    headers: HeaderList
    body: bytes | AsyncIterator[bytes]
    code: str = ""
    limited_by: str = ""


class Exchange:
    """One request: what was read of it, and what the event about it will say.

    The one object that lives for a request and is filled in as more is known, so that no layer hands a
    growing list of arguments to the next.

    Attributes:
        headers: Lower-case name to value; repeated list headers joined, repeated single ones refused.
        argument: The path's parameter, raw (percent-escapes not decoded).
        body_read: The body was received to its end.
        params: The body of a request to start a job, where it is to be logged.
        source: Address of a caller without a valid key: nothing else tells who that is.
        untold: No event tells of this request.
        begun: Id of the job that it is to start, once it may have been sent.
        lease: What its body takes up, from the first byte until the answer is out.
        caller: Whose key the store has confirmed; None before, so that made-up keys name no tenant in metrics.
    """

    route = ""
    argument = ""
    model = ""
    trace_id = ""
    params: bytes | None = None
    body_read = False
    replayed = False
    caller: Credential | None = None
    job: JobView | None = None
    lease: Lease | None = None
    begun = ""
    source = ""
    untold = False

    def __init__(self, scope: Scope, receive: Receive, request_id: str) -> None:
        self.scope = scope
        self.receive = receive
        self.request_id = request_id
        self.headers: dict[bytes, bytes] = {}

    def let_go(self) -> None:
        """Give up what the body took: nobody holds it any more."""
        if self.lease is not None:
            self.lease.release()

    @property
    def body_pending(self) -> bool:
        """Tell whether the caller may still be sending a body that nobody will read."""
        if self.body_read:
            return False
        return self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers


def json_answer(body: bytes, headers: HeaderList, status: int = 200) -> Answer:
    """Answer with a JSON body that no cache may keep."""
    headers += (JSON, NO_STORE, (b"content-length", b"%d" % len(body)))
    return Answer(status, headers, body)
