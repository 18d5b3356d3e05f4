"""Values that are made by the thousand each second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """Make a dataclass with slots that type checkers hold frozen (PEP 681); at run time it is a plain one.

    A frozen one sets each field through ``object.__setattr__``, which takes longer than all else about it.
    """
    return dataclass(slots=True, kw_only=kw_only)
