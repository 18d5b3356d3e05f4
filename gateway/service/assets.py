"""Assets: passed on to the vendor's storage with the company's key; counted against the submit limit, not charged."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.movements import Denied
from gateway.core.ports import Jobs, Upstream
from gateway.core.tenant import Credential
from gateway.core.vendor import CallContext
from gateway.errors import UpstreamRefused, UpstreamUnsent
from gateway.service.inflight import InFlight
from gateway.service.outcomes import Rejected, Uploaded
from gateway.service.refusals import judge
from gateway.service.submit import rejected


class AssetService:
    """Uploads files that models read."""

    def __init__(self, jobs: Jobs, upstream: Upstream, in_flight: InFlight) -> None:
        self._jobs = jobs
        self._upstream = upstream
        self._in_flight = in_flight

    async def upload(
        self, credential: Credential, body: bytes, headers: Mapping[str, str], request_id: str
    ) -> Uploaded | Denied | Rejected:
        """Pass an upload on.

        Raises:
            Refused: The gateway is draining or overloaded.
            StoreUnavailable: The store did not answer; nothing was sent.
            UpstreamAmbiguous: The vendor gave no usable answer; an upload may be repeated, it costs nothing.
        """
        view = await self._jobs.upload_account(credential)
        if isinstance(view, Denied):
            return view
        context = CallContext(tenant=credential.tenant, key_id=credential.key_id, request_id=request_id)
        try:
            answer = await self._in_flight.run(lambda: self._upstream.upload(body, headers, context))
        except (UpstreamUnsent, UpstreamRefused) as exc:
            return rejected(judge(exc), view.quota)
        return Uploaded(answer, view.quota)
