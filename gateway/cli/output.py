"""What the commands share on a terminal: results on standard output, all else on standard error, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Final

import typer

from gateway.errors import ConfigError, GatewayError, StoreError

EXIT_FAILED: Final = 1
EXIT_MISTAKE: Final = 2
EXIT_STORE: Final = 3
_GAP = "  "


@contextmanager
def failures() -> Iterator[None]:
    """Turn what was raised on purpose into lines on standard error and an exit code.

    2 for mistakes in settings or files (all of them are listed), 3 where the store does not answer or may not be
    trusted, 1 for the rest.
    """
    try:
        yield
    except ConfigError as exc:
        for problem in exc.problems:
            note(problem)
        raise typer.Exit(EXIT_MISTAKE) from None
    except StoreError as exc:
        note(f"the store can't be used: {str(exc).partition(chr(10))[0]}")
        raise typer.Exit(EXIT_STORE) from None
    except GatewayError as exc:
        note(getattr(exc, "detail", None) or str(exc))
        raise typer.Exit(EXIT_FAILED) from None


def note(text: str) -> None:
    """Write a line for the human, on standard error."""
    print(text, file=sys.stderr)


def result(text: str) -> None:
    """Write a line of the result, on standard output."""
    print(text)


def result_json(value: object) -> None:
    """Write the result as JSON; dataclasses become objects."""
    print(json.dumps(value, indent=2, default=_plain))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write rows in columns, as wide as they need to be: pipes and narrow terminals get the whole text."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        result(_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def fields(shown: Mapping[str, str]) -> None:
    """Write names and values, one a line."""
    table_rows = [(f"{name}:", value) for name, value in shown.items()]
    width = max((len(name) for name, _ in table_rows), default=0)
    for name, value in table_rows:
        result(f"{name.ljust(width)} {value}".rstrip())


def moment(unix_ms: int | None, absent: str = "never") -> str:
    """Write a time of the store's clock, UTC, to the second."""
    if unix_ms is None:
        return absent
    return f"{datetime.fromtimestamp(unix_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
