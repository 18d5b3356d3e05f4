"""The ``gateway`` command: its sub-commands, and nothing else."""

from __future__ import annotations

import typer

from gateway.cli import apply, check, config, demo, dev, jobs, load, sandbox, serve, tenants, webhooks

app = typer.Typer(
    name="gateway",
    help="Segmind Gateway: keys, limits, budgets and an exact ledger in front of Segmind's API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("serve")(serve.serve)
app.add_typer(apply.app)
app.add_typer(config.app)
app.add_typer(tenants.tenant_app, name="tenant")
app.add_typer(tenants.key_app, name="key")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(jobs.app, name="jobs")
app.add_typer(check.app)
app.add_typer(dev.app)
app.add_typer(demo.app)
app.add_typer(sandbox.app)
app.add_typer(load.app)


def main() -> None:
    """Run the command line."""
    app()
