"""Credits: integers of 1e-9 (nanocredits) inside, `Decimal` at the edges, floats never.

One credit is one US dollar (Segmind's pricing). A limit is at most 9,000,000 credits, so that every sum that
a Lua script compares stays below 2**53 and is exact there.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import lru_cache

NANO = 1_000_000_000
DECIMALS = 9
MAX_CREDITS = 9_000_000
MAX_NANO = MAX_CREDITS * NANO
_MAX_TEXT = 64
_DIGITS = 1_000
"""Precision of all arithmetic here: the default of 28 digits would round an amount before it is looked at."""


def _finite(value: str | int | Decimal) -> Decimal:
    """Return ``value`` as a finite, non-negative Decimal or raise ValueError."""
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise ValueError("not an amount of credits")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError("not an amount of credits") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("credits must be finite and not negative")
    if amount > MAX_CREDITS:
        raise ValueError(f"credits must be at most {MAX_CREDITS:,}")
    return amount


def _nano(amount: Decimal) -> Decimal:
    return amount.scaleb(DECIMALS, Context(prec=_DIGITS))


def parse_credits(value: str | int | Decimal) -> int:
    """Read an amount from our own settings, in credits, as nanocredits.

    Raises:
        ValueError: Not a number, not finite, negative, above 9,000,000, or with more than 9 decimals.
    """
    if isinstance(value, bool | float):
        raise ValueError("credits must be written as text or an integer, never as a float")  # noqa: TRY004 pydantic reads ValueError
    amount = _finite(value)
    nano = _nano(amount)
    if nano != nano.to_integral_value():
        raise ValueError(f"credits have at most {DECIMALS} decimals")
    return int(nano)


def vendor_credits(value: object) -> int | None:
    """Read a figure of the vendor (JSON number as Decimal or int, or header text), rounded half up.

    Returns:
        Nanocredits, or None where the figure is missing or absurd (NaN, infinite, negative, above the
        maximum, not a number): the caller then treats the cost as not reported.
    """
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    try:
        amount = _finite(value)
    except ValueError:
        return None
    return int(_nano(amount).to_integral_value(ROUND_HALF_UP))


@lru_cache(maxsize=4096)  # a few prices make up nearly all amounts: the same text is needed at each read
def format_credits(nano: int) -> str:
    """Write nanocredits as plain decimal credits, without trailing zeros (``941500000`` -> ``0.9415``)."""
    whole, part = divmod(abs(nano), NANO)
    text = f"{whole}.{part:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text
