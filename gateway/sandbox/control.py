"""The sandbox's own routes under ``/_sandbox/``: knobs, and what was accepted and called."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from gateway.sandbox.answers import answer, credits_json
from gateway.sandbox.faults import Fault
from gateway.sandbox.state import Call, Knobs, Sandbox


class KnobPatch(Knobs):
    """Change the given knobs and leave the others.

    Attributes:
        faults: Replaces all armed faults.
        add_faults: Arms these besides.
        balance: Sets the credits left.
    """

    faults: tuple[Fault, ...] = ()
    add_faults: tuple[Fault, ...] = ()
    balance: Decimal = Field(default=Decimal(0), allow_inf_nan=False)


def get_knobs(sandbox: Sandbox, _request: Request) -> Response:
    """Answer ``GET /_sandbox/knobs``."""
    return answer(
        200,
        {
            **sandbox.knobs.model_dump(),
            "balance": credits_json(sandbox.account.remaining(sandbox.clock())),
            "faults": [fault.model_dump(mode="json", exclude_defaults=True) for fault in sandbox.faults.remaining()],
        },
    )


async def patch_knobs(sandbox: Sandbox, request: Request) -> Response:
    """Answer ``PATCH /_sandbox/knobs``: all of it is applied, or nothing and a 400."""
    try:
        patch = KnobPatch.model_validate_json(await request.body())
    except ValidationError as error:
        return answer(400, {"error": error.errors(include_url=False, include_context=False, include_input=False)})
    given = patch.model_fields_set
    for name in given & Knobs.model_fields.keys():
        setattr(sandbox.knobs, name, getattr(patch, name))
    if "balance" in given:
        sandbox.account.set_balance(patch.balance, sandbox.clock())
    if "faults" in given:
        sandbox.faults.replace(patch.faults)
    sandbox.faults.add(*patch.add_faults)
    return get_knobs(sandbox, request)


def reset(sandbox: Sandbox, request: Request) -> Response:
    """Answer ``POST /_sandbox/reset``: as freshly started."""
    sandbox.reset()
    return get_knobs(sandbox, request)


def get_accepted(sandbox: Sandbox, _request: Request) -> Response:
    """Answer ``GET /_sandbox/accepted``: the accepted jobs, oldest first."""
    return answer(200, sandbox.accepted)


def get_calls(sandbox: Sandbox, _request: Request) -> Response:
    """Answer ``GET /_sandbox/calls``: the calls received, oldest first."""
    return answer(200, [_call(call) for call in sandbox.calls])


def _call(call: Call) -> dict[str, object]:
    return {
        "at": call.at,
        "method": call.method,
        "path": call.path,
        "query": call.query,
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in call.headers],
    }
