"""What a server says when it can't take a command now, told from mistakes of ours by the code that begins its error.

The code is not always at the beginning: redis-py wraps the error of a command in a pipeline, and Redis before 7 that of
a command in a script.
"""

from __future__ import annotations

import re

UNAVAILABLE_CODES = frozenset(
    {
        "BUSY", "UNKILLABLE",  # a script runs too long
        "CLUSTERDOWN", "TRYAGAIN",  # slots without an owner, or between two
        "MISCONF", "NOREPLICAS", "OOM",  # the disk, too few replicas, `maxmemory`
        "NOPERM",
    }
)  # fmt: skip
"""Refusals that come from the server's state."""
STALE_CODES = frozenset({"READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS"})
"""Refusals that another connection may not get: the primary has changed or is starting, or the user was changed."""

_CODE = re.compile(r"(?:^|caused error: \(['\"]|: -)([A-Z]+)\b")


def refusal_code(text: str) -> str:
    """Find the code in an error's text; empty where it has none of those above."""
    codes = (found[1] for found in _CODE.finditer(text))
    return next((code for code in codes if code in UNAVAILABLE_CODES | STALE_CODES), "")
