"""Assets: passed on to the vendor's storage with the company's key; counted against the submit limit, not charged."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.movements import Denied
from gateway.core.ports import Jobs
from gateway.core.tenant import Credential
from gateway.core.vendor import CallContext
from gateway.errors import UpstreamRefused, UpstreamUnsent
from gateway.service.outcomes import Rejected, Uploaded
from gateway.service.refusals import judge
from gateway.service.sending import Sending, rejected


class AssetService:
    """Uploads files that models read."""

    def __init__(self, jobs: Jobs, sending: Sending) -> None:
        self._jobs = jobs
        self._sending = sending

    async def upload(
        self, credential: Credential, body: bytes, headers: Mapping[str, str], request_id: str
    ) -> Uploaded | Denied | Rejected:
        """Pass an upload on; while the vendor takes nothing it is refused, and counts against no limit.

        Raises:
            Refused: The gateway is draining or overloaded.
            StoreUnavailable: The store did not answer; nothing was sent.
            UpstreamAmbiguous: The vendor gave no usable answer; an upload may be repeated, it costs nothing.
        """
        sending, tenant = self._sending, credential.tenant
        held_back = sending.gate.held_back(tenant, "storage")
        if held_back is not None:
            return await self._jobs.refusal(credential) or rejected(judge(held_back))
        view = await self._jobs.upload_account(credential)
        if isinstance(view, Denied):
            return view
        context = CallContext(tenant=tenant, key_id=credential.key_id, request_id=request_id)
        try:
            answer = await sending.in_flight.run(
                lambda: sending.gate.upload(tenant, lambda: sending.upstream.upload(body, headers, context))
            )
        except (UpstreamUnsent, UpstreamRefused) as exc:
            return rejected(judge(exc), view.quota)
        return Uploaded(answer, view.quota)
