"""Each example, rendered once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest
from chart.release import EXAMPLES, Helm, Rendered


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests as needing `make tools`; one worker runs them, so that each example renders once."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.tools)
            item.add_marker(pytest.mark.xdist_group("chart"))


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return Helm with an empty home."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> Callable[[str], Rendered]:
    """Return a look-up of the examples by name, all rendered once."""
    releases = {path.stem: helm.render("--values", path) for path in EXAMPLES}
    return releases.__getitem__


@pytest.fixture(params=[path.stem for path in EXAMPLES])
def example(request: pytest.FixtureRequest, rendered: Callable[[str], Rendered]) -> Rendered:
    """Return one example after the other."""
    return rendered(request.param)


@pytest.fixture
def production(rendered: Callable[[str], Rendered]) -> Rendered:
    """Return the example in which every optional object is on."""
    return rendered("production")
