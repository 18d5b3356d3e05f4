"""Fault knobs: what can be made to go wrong, where, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

RouteKind = Literal["submit", "status", "result", "sync", "upload", "history", "credits"]
Action = Literal[
    "delay",
    "drop",
    "hang",
    "respond",
    "echo_key",
    "truncate",
    "no_id",
    "headers",
    "body",
    "cost",
    "outcome",
    "regress",
    "not_found",
]
_POLLS: frozenset[RouteKind] = frozenset({"status", "result"})
_JOBS: frozenset[RouteKind] = frozenset({"submit", "sync"})
_WHERE: dict[Action, frozenset[RouteKind]] = {
    "no_id": frozenset({"submit"}),
    "cost": _JOBS,
    "outcome": _JOBS,
    "regress": _POLLS,
    "not_found": _POLLS,
}


class Fault(BaseModel):
    """Describe one fault.

    Actions:
        delay: Wait `delay_s` plus up to `jitter_s`, then go on.
        drop: Cut the connection without an answer: a reset, or with ``how="close"`` an orderly close.
        hang: Never answer; ends when the client goes away or the sandbox stops.
        respond: Answer `status`, `headers` and `body` (text as it is, anything else as JSON).
        echo_key: Answer `status` with an error that contains the caller's key.
        truncate: Announce the whole body, send half of it, close.
        no_id: Take the ids and URLs out of a submit's 200.
        headers: Add `headers` to the normal answer.
        body: Answer `size_bytes` of filler: ``plain`` with its length, ``gzip`` packed, ``endless`` without end.
        cost: Multiply the true cost (``1.5x``), hide it (``missing``), or report this text instead of it (``-1``,
            ``NaN``, ``1e400``).
        outcome: End the job as `outcome`: FAILED with `message`, COMPLETED, or PROCESSING for ever.
        regress: Answer a poll with the state before the real one.
        not_found: Answer 404 for a job that exists.

    Attributes:
        on: Kinds of route that it touches; empty: all where the action makes sense. ``submit`` includes workflows.
        model: Pattern of model names (``kling-*``, ``workflows/*``); None: all, and routes without a model.
        times: Fires for the next so many calls; None: until taken away.
        after: True: once the request has been handled (a job accepted), instead of before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    on: tuple[RouteKind, ...] = ()
    model: str | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    after: bool = False
    delay_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    jitter_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    how: Literal["reset", "close"] = "reset"
    status: Annotated[int, Field(ge=200, le=599)] = 500
    headers: dict[str, str] = {}
    body: JsonValue = None
    form: Literal["plain", "endless", "gzip"] = "plain"
    size_bytes: Annotated[int, Field(ge=1)] = 200 * 2**20
    cost: Annotated[str, Field(pattern=r"^([0-9]+([.][0-9]+)?x|missing|[-+0-9A-Za-wyz.]{1,400})$")] = "1.5x"
    outcome: Literal["FAILED", "PROCESSING", "COMPLETED"] = "FAILED"
    message: str = "The model could not process the request"

    def touches(self, kind: RouteKind, model: str | None) -> bool:
        """Tell whether it applies to a call of `kind` for `model`."""
        if self.on and kind not in self.on:
            return False
        if self.action in _WHERE and kind not in _WHERE[self.action]:
            return False
        return self.model is None or (model is not None and fnmatchcase(model, self.model))


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None


class FaultBoard:
    """Keep the faults that are armed, in the order in which they were added."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def add(self, *faults: Fault) -> None:
        """Arm more faults."""
        self._armed.extend(_Armed(fault, fault.times) for fault in faults)

    def replace(self, faults: Iterable[Fault]) -> None:
        """Disarm all, then arm `faults`."""
        self._armed = []
        self.add(*faults)

    def take(self, kind: RouteKind, model: str | None) -> Sequence[Fault]:
        """Return all that apply to this call, counting it against their `times`."""
        if not self._armed:
            return ()
        taken = [armed for armed in self._armed if armed.fault.touches(kind, model)]
        for armed in taken:
            if armed.left is not None:
                armed.left -= 1
        self._armed = [armed for armed in self._armed if armed.left != 0]
        return [armed.fault for armed in taken]

    def remaining(self) -> list[Fault]:
        """Return the armed faults, `times` being what is left of it."""
        return [armed.fault.model_copy(update={"times": armed.left}) for armed in self._armed]
