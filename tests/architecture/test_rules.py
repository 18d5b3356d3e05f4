"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import gateway

ROOT = Path(gateway.__file__).parent
MODULES = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
MODULE_LINES = 300
FUNCTION_LINES = 50
VAGUE = {"utils", "util", "common", "helpers", "base", "misc"}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_modules_and_functions_are_short() -> None:
    """A module has at most 300 lines, a function at most 50."""
    long = [f"{path}: {text.count(chr(10))} lines" for path, text in MODULES.items() if text.count("\n") > MODULE_LINES]
    long += [
        f"{path}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path, text in MODULES.items()
        for node in functions(ast.parse(text))
        if node.end_lineno is not None and node.end_lineno - node.lineno >= FUNCTION_LINES
    ]
    assert long == []


def test_module_names_say_what_is_inside() -> None:
    """No module is a drawer for odds and ends."""
    assert [path for path in MODULES if path.stem in VAGUE] == []


def test_only_the_command_line_reads_the_environment() -> None:
    """Settings come in through one door: nothing but the command line touches the process's environment."""
    readers = {path.parts[0] for path, text in MODULES.items() if "os.environ" in text or "getenv(" in text}
    assert readers <= {"cli", "__main__.py"}


def test_middleware_is_pure_asgi() -> None:
    """`BaseHTTPMiddleware` loses context variables and hides disconnects: it is not used."""
    assert [path for path, text in MODULES.items() if "BaseHTTPMiddleware" in text] == []


def test_scripts_are_repeatable() -> None:
    """Scripts do the same thing each time: no random choice, no scan, no script in a script."""
    scripts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "store" / "lua").glob("*.lua")}
    forbidden = ("'SCAN'", "'RANDOMKEY'", "'KEYS'", "'EVAL'", "math.random")
    assert [name for name, text in scripts.items() if any(word in text for word in forbidden)] == []
