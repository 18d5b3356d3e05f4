"""The vendor's other routes: credits, uploads, output files."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import uuid

from starlette.requests import Request
from starlette.responses import Response

from gateway.sandbox import answers, media
from gateway.sandbox.access import authenticate, read_json
from gateway.sandbox.endpoint import Exchange
from gateway.sandbox.jobs import Status, state_at
from gateway.sandbox.state import Sandbox


async def get_credits(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Answer ``GET /v1/get-user-credits``."""
    authenticate(sandbox, exchange)
    balance = sandbox.account.remaining(sandbox.clock())
    return answers.answer(200, {"credits": answers.credits_json(balance), "free-credits": 0.0})


async def upload(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Keep files given as data URLs: ``POST /upload-asset``."""
    authenticate(sandbox, exchange)
    data_urls = read_json(exchange).get("data_urls")
    if not isinstance(data_urls, list) or not data_urls:
        raise answers.Refusal(400, "Missing required field: data_urls")
    assets = [_decode(data_url) for data_url in data_urls]
    names = []
    for media_type, content in assets:
        name = f"{uuid.uuid4()}{mimetypes.guess_extension(media_type) or '.bin'}"
        sandbox.keep_asset(name, media_type, content)
        names.append(name)
    file_urls = [f"{exchange.origin}/assets/{name}" for name in names]
    return answers.answer(200, {"file_urls": file_urls, "message": "Files uploaded successfully"})


def output_file(sandbox: Sandbox, request: Request) -> Response:
    """Serve an output of a COMPLETED job; like the vendor's storage, without a key."""
    name: str = request.path_params["name"]
    job = sandbox.any_job(name[:36])
    now = sandbox.clock()
    kept_s = sandbox.settings.file_ttl_s / sandbox.settings.time_scale
    if (
        job is None
        or state_at(job, now) is not Status.COMPLETED
        or now >= job.submitted_at + kept_s
        or f"/files/{name}" not in answers.file_urls(job, "")
    ):
        return answers.answer(404, {"error": "File not found"})
    media_type, content = media.FILES[job.model.kind]
    return Response(content, media_type=media_type)


def uploaded_file(sandbox: Sandbox, request: Request) -> Response:
    """Serve an uploaded file."""
    asset = sandbox.asset(request.path_params["name"])
    if asset is None:
        return answers.answer(404, {"error": "File not found"})
    return Response(asset[1], media_type=asset[0])


def _decode(data_url: object) -> tuple[str, bytes]:
    head, comma, data = data_url.partition(",") if isinstance(data_url, str) else ("", "", "")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        raise answers.Refusal(400, "data_urls: each must be a base64 data URL")
    try:
        return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(data, validate=True)
    except binascii.Error:
        raise answers.Refusal(400, "data_urls: invalid base64") from None
