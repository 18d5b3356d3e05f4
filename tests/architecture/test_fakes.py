"""A test is worth what its fakes are: each fake of a port is held to the contract of the real adapter."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
GATEWAY: Final = TESTS.parent / "gateway"
CONTRACTS: Final = TESTS / "contracts"
SUITES: Final = (*CONTRACTS.glob("*.py"), TESTS / "support" / "ledger_pair.py")
PORTS: Final = (GATEWAY / "core", GATEWAY / "service")

STUBS: Final[Mapping[str, str]] = {
    "support/desk.py:Books": "a history that the test writes, row by row",
    "support/tracking.py:Figures": "remembers figures",
    "service/test_budgets.py:Receiver": "answers what the test says, and keeps what it was sent",
    "service/test_reconcile.py:Bill": "a statement that the test writes, row by row",
    "service/test_refused.py:Usage": "remembers counts",
    "service/test_storewatch.py:Played": "a store's marks, as the test sets them",
    "service/test_track.py:Silent": "always raises",
    "telemetry/test_sinks.py:Broken": "always raises",
    "telemetry/test_sinks.py:Recorder": "remembers events",
    "web/fakes.py:Services": "answers what the test put in",
}
"""What has the methods of a port and behaves as no adapter does, so that no suite could hold it to anything."""

Methods = Mapping[str, tuple[str, ...]]


@cache
def parsed(path: Path) -> ast.Module:
    """Read a module."""
    return ast.parse(path.read_text("utf-8"))


def methods(owner: ast.ClassDef) -> Methods:
    """Name the methods of a class with the names of their arguments."""
    found = (node for node in owner.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {
        node.name: tuple(arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs))
        for node in found
    }


def classes(path: Path) -> Iterator[ast.ClassDef]:
    """List the classes of a module."""
    return (node for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef))


def is_protocol(owner: ast.ClassDef) -> bool:
    """Tell whether a class is a protocol."""
    return any(isinstance(parent, ast.Name) and parent.id == "Protocol" for parent in owner.bases)


def ports() -> dict[str, Methods]:
    """List the ports of core and services."""
    modules = (path for folder in PORTS for path in sorted(folder.glob("*.py")))
    return {one.name: methods(one) for path in modules for one in classes(path) if is_protocol(one)}


def fakes() -> dict[str, list[str]]:
    """Name each class of the tests that has all methods of a port, with the ports that it could stand for."""
    known = ports()
    found = {}
    for path in sorted(TESTS.rglob("*.py")):
        for one in classes(path):
            has = methods(one)
            plays = [port for port, wanted in known.items() if wanted.items() <= has.items()]
            if plays and not is_protocol(one):
                found[f"{path.relative_to(TESTS)}:{one.name}"] = plays
    return found


def held() -> frozenset[Path]:
    """Find the modules that the contract suites stand on: what their fixtures put together comes from there."""
    found, left = set[Path](), sorted(CONTRACTS.glob("*.py"))
    while left:
        path = left.pop()
        found.add(path)
        names = {node.module for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom) and node.module}
        modules = {TESTS / f"{name.replace('.', '/')}.py" for name in names if name.startswith("support.")}
        left += modules - found
    return frozenset(found)


def named(node: ast.AST) -> str:
    """Return the last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def called() -> frozenset[tuple[str, str]]:
    """List what the contract suites call, each method with the name of what it is called on."""
    suites = (node for path in SUITES for node in ast.walk(parsed(path)))
    return frozenset((named(node.value), node.attr) for node in suites if isinstance(node, ast.Attribute))


def names_in_suites(port: str) -> frozenset[str]:
    """Return what the suites call a store's port (`support.ports.Ports`); nothing for the others, by any name."""
    ours = {one.name: one for one in classes(TESTS / "support" / "ports.py")}
    fields = [node for node in ours["Ports"].body if isinstance(node, ast.AnnAssign)]
    kinds = {port} | {name for name, one in ours.items() if port in map(named, one.bases)}
    return frozenset(named(field.target) for field in fields if named(field.annotation) in kinds)


def test_every_fake_is_held_to_a_contract() -> None:
    """What plays a port is built by the fixtures of a contract suite, or is a stub that plays nothing by itself."""
    modules = {str(path.relative_to(TESTS)) for path in held()}
    loose = {name: plays for name, plays in fakes().items() if name not in STUBS and name.split(":")[0] not in modules}
    assert loose == {}, (
        "give it a suite in tests/contracts that runs on the real adapter too, or say in STUBS what it is"
    )


def test_no_port_has_two_fakes() -> None:
    """A second one could not be told from that which the suites are run on."""
    plays = [port for name, some in fakes().items() if name not in STUBS for port in some]
    assert sorted({port for port in plays if plays.count(port) > 1}) == []


def test_every_method_of_a_fake_is_called_by_a_contract() -> None:
    """A port's method that no suite calls could do anything in memory."""
    known, calls = ports(), called()
    uncalled = []
    for port in sorted({port for name, some in fakes().items() if name not in STUBS for port in some}):
        names = names_in_suites(port)
        tried = {method for name, method in calls if not names or name in names}
        uncalled += [f"{port}.{method}" for method in known[port] if method not in tried and method != "__len__"]
    assert uncalled == []


def test_every_stub_is_there() -> None:
    """The list of exceptions has no more in it than there are."""
    assert set(STUBS) <= set(fakes())
