from __future__ import annotations

import pytest

KILLS_IN_CI = 20
SEED_IN_CI = 1
SECONDS_IN_CI = 20.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make faults` and `make chaos` ask for more than CI does."""
    parser.addoption("--kills", type=int, default=KILLS_IN_CI, help="SIGKILLs at each fault point")
    parser.addoption("--seed", type=int, default=SEED_IN_CI, help="of the chaos")
    parser.addoption("--seconds", type=float, default=SECONDS_IN_CI, help="for which the chaos lasts")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """Give how often a process is killed at each fault point."""
    return int(request.config.getoption("--kills", KILLS_IN_CI))


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> tuple[int, float]:
    """Give seed and length of the chaos."""
    option = request.config.getoption
    return int(option("--seed", SEED_IN_CI)), float(option("--seconds", SECONDS_IN_CI))
