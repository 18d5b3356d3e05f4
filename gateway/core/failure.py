"""Where a failure came from, in words that hold nothing of what was being worked on."""

from __future__ import annotations

from pathlib import PurePath
from traceback import walk_tb
from typing import Final

_PACKAGE: Final = "gateway"


def describe(exc: BaseException) -> str:
    """Name an exception's class, where it was raised, and the last line of ours that led there.

    Its own text stays out: a driver's or a parser's may quote a key or a prompt.
    """
    places = [
        (PurePath(frame.f_code.co_filename), line, frame.f_code.co_name) for frame, line in walk_tb(exc.__traceback__)
    ]
    if not places:
        return type(exc).__name__
    told = [places[-1], *[place for place in places[-2::-1] if _PACKAGE in place[0].parts][:1]]
    said = " from ".join(f"{'/'.join(path.parts[-3:])}:{line} in {name}" for path, line, name in told)
    return f"{type(exc).__name__} at {said}"
