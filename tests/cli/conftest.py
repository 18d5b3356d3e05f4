"""The command line in this process, on a store that holds nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app

Gateway = Callable[..., Result]


@pytest.fixture
def gateway(redis_url: str) -> Gateway:
    """Run ``gateway`` with some words and, by keyword, environment variables and ``input``."""

    def run(*words: str, input: str | None = None, **env: str) -> Result:  # noqa: A002 named as in click
        return CliRunner().invoke(app, words, input=input, env={"GATEWAY_REDIS_URL": redis_url, **env})

    return run
