"""``gateway config``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gateway.cli.output import failures, note, result_json, table
from gateway.config import Settings, unknown_variables, variables

app = typer.Typer()


@app.command("config")
def config(as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False) -> None:
    """List every environment variable with its value, default and meaning; secrets are masked."""
    with failures():
        listed = variables(Settings.from_env(os.environ))
    for name in unknown_variables(os.environ):
        note(f"{name} means nothing to this version")
    if as_json:
        result_json(listed)
        return
    rows = [(v.name, v.value or "-", v.default or "-", v.meaning) for v in listed]
    table(("VARIABLE", "VALUE", "DEFAULT", "MEANING"), rows)
