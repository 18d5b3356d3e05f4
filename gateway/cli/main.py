"""The ``gateway`` command: its sub-commands, and nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway import __version__
from gateway.cli import (
    apply,
    check,
    config,
    demo,
    dev,
    jobs,
    ledger,
    load,
    reconcile,
    sandbox,
    serve,
    tenants,
    usage,
    webhooks,
)
from gateway.cli.output import result

app = typer.Typer(
    name="gateway",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        result(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Segmind Gateway: keys, limits, budgets and an exact ledger in front of Segmind's API."""


app.command("serve")(serve.serve)
app.command("worker", hidden=True)(serve.worker)
app.add_typer(apply.app)
app.add_typer(config.app)
app.add_typer(tenants.tenant_app, name="tenant")
app.add_typer(tenants.key_app, name="key")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(jobs.app, name="jobs")
app.add_typer(ledger.app, name="ledger")
app.add_typer(usage.app)
app.add_typer(reconcile.app)
app.add_typer(check.app)
app.add_typer(dev.app)
app.add_typer(demo.app)
app.add_typer(sandbox.app)
app.add_typer(load.app)


def main() -> None:
    """Run the command line."""
    app()
