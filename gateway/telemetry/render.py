"""How one log line looks: JSON for machines, text for a terminal. Nothing in a value can break or forge a line."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from traceback import format_exception
from typing import Any, Final, TextIO

import orjson
from structlog.typing import ExcInfo

_LINE_BREAKERS: Final = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What JSON lets pass raw and a terminal or line reader obeys: DEL, C1 controls, Unicode line ends, bidi overrides."""


def render_json(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> bytes:
    """Render a line of structlog's as `json_line` does."""
    return json_line(event_dict.pop("level", ""), event_dict.pop("event", ""), event_dict)


def json_line(level: str, event: str, values: Mapping[str, Any]) -> bytes:
    """Render a line as one JSON object, in whose order time, level and event come first. Never raises."""
    line = {"timestamp": datetime.now(UTC), "level": level, "event": event, **values}
    try:
        data = orjson.dumps(line, default=repr, option=orjson.OPT_UTC_Z)
    except (
        orjson.JSONEncodeError
    ):  # lone surrogates, integers of more than 64 bits: rare, and the line must not be lost
        line["timestamp"] = line["timestamp"].isoformat().replace("+00:00", "Z")
        data = orjson.dumps({printable(key): printable(str(value)) for key, value in line.items()})
    if data.isascii() and b"\x7f" not in data:
        return data
    return _LINE_BREAKERS.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode()).encode()


def escape_values(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what a terminal would obey, before a console renderer writes text as it is."""
    for name, value in event_dict.items():
        if isinstance(value, str) and not value.isprintable():
            event_dict[name] = printable(value)
    return event_dict


def write_traceback(out: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback without local variables (they hold keys and prompts), escaped line by line."""
    text = "".join(format_exception(*exc_info))
    out.write("\n" + "\n".join(printable(line) for line in text.split("\n")))


def printable(text: str) -> str:
    r"""Return ``text`` with every character that is not printable as ``\n``, ``\x1b`` or ``\u2028``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
