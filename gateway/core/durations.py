"""Durations as people write them (``30s``, ``15m``, ``72h``, ``7d``), in whole seconds inside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_UNITS_S: Final[Mapping[str, int]] = MappingProxyType({"d": 86_400, "h": 3_600, "m": 60, "s": 1})
_DURATION = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)


def parse_duration_s(text: str) -> int:
    """Read a duration as seconds.

    Raises:
        ValueError: Not a whole number followed by one of ``s``, ``m``, ``h``, ``d``.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("write a duration as a whole number and a unit: 30s, 15m, 72h or 7d")
    return int(match[1]) * _UNITS_S[match[2]]


def format_duration(seconds: int) -> str:
    """Write seconds in the largest unit that leaves a whole number; the inverse of `parse_duration_s`."""
    unit = next(unit for unit, size in _UNITS_S.items() if seconds % size == 0 and (seconds or unit == "s"))
    return f"{seconds // _UNITS_S[unit]}{unit}"
