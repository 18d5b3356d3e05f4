"""What `gateway demo` shows: coloured in a terminal, plain and unshortened in a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.local import MODEL, TENANT

_PIPE_WIDTH: Final = 240
_WIDE: Final = 190  # a line with model and both ids
_CLOCK: Final = slice(11, 23)
_OF_JOB: Final = MappingProxyType({"model": "model", "job_id": "job id", "upstream_id": "vendor id"})
_FIGURES: Final = frozenset({"latency", "held", "cost"})
_STYLES: Final = {"QUEUED": "yellow", "PROCESSING": "cyan", "COMPLETED": "bold green", "FAILED": "bold red"}


class DemoView:
    """Tell the story of one job, a line at a time."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(
            file=out, highlight=False, markup=False, emoji=False, width=None if out.isatty() else _PIPE_WIDTH
        )

    def begin(self, url: str, sandbox_url: str, time_scale: float, sdk_version: str) -> None:
        """Say what runs where."""
        self._say(Text("Kling 2.6 Standard Motion Control, through the gateway", style="bold"))
        self._say("")
        self._row("client", f'segmind SDK {sdk_version}, unmodified: SegmindClient(api_key=..., base_url="{url}/v1")')
        self._row("gateway", f"{url}, tenant {TENANT.id!r}, its ledger in an embedded Valkey")
        self._row("upstream", f"{sandbox_url}, a fake Segmind at {time_scale:g} x real time: nothing is billed")

    def submitted(self, job_id: str) -> None:
        """Say which job it is."""
        self._row("job", f"{job_id}, {MODEL}")
        self._say("")

    def state(self, state: str, after_s: float) -> None:
        """Say that the job's state changed."""
        self._say(Text.assemble(f"  {after_s:6.1f} s  ", (state, _STYLES.get(state, ""))))

    def ended(self, *, output: str, cost: Decimal, before: Decimal, after: Decimal) -> None:
        """Say what came of it, and what it cost; in credits."""
        self._say("")
        self._row("output", output)
        self._row("cost", f"{cost} credits")
        self._row("budget", f"{before} before, {after} after")

    def calls(self, calls: Sequence[Mapping[str, Any]]) -> None:
        """Show the log lines of the upstream calls; a narrow terminal gets what they have in common said once."""
        self._say("")
        self._say(Text("Upstream calls, as logged", style="bold"))
        wide = self._console.width >= _WIDE
        if not wide:
            shared = {name: value for call in calls for name, value in call.items() if name in _OF_JOB}
            for field, name in _OF_JOB.items():
                self._row(name, shared.get(field, "-"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("", "time", "operation", "status", "latency", "held", "cost", *(_OF_JOB.values() if wide else ())):
            table.add_column(name, justify="right" if name in _FIGURES else "left", no_wrap=True)
        for call in calls:
            table.add_row("", *_cells(call), *(call.get(field, "-") for field in _OF_JOB if wide))
        self._console.print(table)

    def _row(self, name: str, value: str) -> None:
        self._say(Text.assemble((f"  {name:<10}", "dim"), value))

    def _say(self, line: str | Text) -> None:
        self._console.print(line, soft_wrap=True)


def _cells(call: Mapping[str, Any]) -> tuple[str | Text, ...]:
    status, outcome = call.get("upstream_status", "-"), call["outcome"]
    return (
        call["timestamp"][_CLOCK],
        call["operation"],
        Text(f"{status} {outcome}", style="green" if outcome == "ok" else "red"),
        f"{call['latency_ms']:.1f} ms",
        call.get("held", "-"),
        call.get("cost", "-"),
    )
