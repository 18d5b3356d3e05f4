"""``gateway config``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import typer

from gateway.cli.output import failures, note, result_json, table
from gateway.config import Settings, idle_variables, unknown_variables, variables

app = typer.Typer()


@app.command("config")
def config(as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False) -> None:
    """List every environment variable with its value, default and meaning; secrets are masked."""
    with failures():
        listed = variables(Settings.from_env(os.environ))
    note_pointless(os.environ)
    if as_json:
        result_json(listed)
        return
    rows = [(v.name, v.value or "-", v.default or "-", v.meaning) for v in listed]
    table(("VARIABLE", "VALUE", "DEFAULT", "MEANING"), rows)


def note_pointless(environ: Mapping[str, str]) -> None:
    """Tell the human which variables do nothing, and what was meant; the program goes on without them."""
    for name, nearest in unknown_variables(environ).items():
        note(f"{name} means nothing to this version" + (f"; did you mean {nearest}?" if nearest else ""))
    for name in idle_variables(environ):
        note(f"{name} has no effect: this version has no control plane")
