from __future__ import annotations

import pytest

KILLS_IN_CI = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make faults` ask for more than CI does."""
    parser.addoption("--kills", type=int, default=KILLS_IN_CI, help="SIGKILLs at each fault point")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """Give how often a process is killed at each fault point."""
    return int(request.config.getoption("--kills", KILLS_IN_CI))
