from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.core.credits import MAX_CREDITS, MAX_NANO, NANO, format_credits, parse_credits, vendor_credits

AMOUNTS = st.integers(0, MAX_NANO)
DIGITS = st.text("0123456789", min_size=1, max_size=30)


@given(AMOUNTS)
def test_what_is_written_is_read_back(nano: int) -> None:
    """Each nanocredit survives text, in settings and in the vendor's figures."""
    assert parse_credits(format_credits(nano)) == vendor_credits(format_credits(nano)) == nano


@given(AMOUNTS)
def test_text_is_plain(nano: int) -> None:
    """Amounts are written without exponents, without trailing zeros, and exactly."""
    text = format_credits(nano)
    assert set(text) <= set("0123456789.")
    assert Fraction(text) == Fraction(nano, NANO)
    assert "." not in text or text[-1] not in "0."


def test_an_overspent_budget_is_written_with_its_sign() -> None:
    """Negative balances are text too."""
    assert format_credits(-1_500_000_000) == "-1.5"


@pytest.mark.parametrize(
    "value", ["0", "50", 50, "0.000000001", "1.500000000000", "1e3", str(MAX_CREDITS), Decimal("0.9415")]
)
def test_settings_are_read_exactly(value: str | int | Decimal) -> None:
    """What is written in a setting is the amount, whatever its notation."""
    assert parse_credits(value) == Fraction(str(value)) * NANO


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "abc", "1,5", "NaN", "sNaN", "Infinity", "-Infinity", "-1", "-0.000000001", "0x10",
        "9000000.000000001", "9e999999", "1" * 65, "0.0000000001",
        "1.00000000000000000000000000000000001", 9_000_001, 10**40, True, Decimal("NaN"), Decimal(-1), Decimal("1e-10"),
    ],
)  # fmt: skip
def test_settings_that_are_no_amount_are_refused(value: str | int | Decimal) -> None:
    """Whatever is not a finite amount of at most 9 decimals within the maximum is a mistake, never rounded."""
    with pytest.raises(ValueError, match="credits"):
        parse_credits(value)


def test_a_float_is_no_setting() -> None:
    """A float may not be what was written, so it is refused even where it is whole."""
    with pytest.raises(ValueError, match="float"):
        parse_credits(1.0)  # type: ignore[arg-type]  # what YAML would give


@given(whole=st.integers(0, MAX_CREDITS - 1), decimals=DIGITS)
def test_the_vendors_figures_are_rounded_half_up(whole: int, decimals: str) -> None:
    """Any number of decimals is rounded once, to the nearest nanocredit, half up."""
    text = f"{whole}.{decimals}"
    expected = int(Fraction(text) * NANO + Fraction(1, 2))
    assert vendor_credits(text) == vendor_credits(Decimal(text)) == expected


@pytest.mark.parametrize(
    ("value", "nano"),
    [
        ("0.9415", 941_500_000),
        (Decimal("0.0000000005"), 1),
        (Decimal("0.00000000049999999999999999999999999999999"), 0),
        (1, NANO),
        ("1e-400", 0),
        ("0e999999", 0),
        (MAX_CREDITS, MAX_NANO),
    ],
)
def test_the_vendors_notations(value: object, nano: int) -> None:
    """A cost may come as a JSON number or as a header's text."""
    assert vendor_credits(value) == nano


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 1.5, "", "free", "NaN", "-0.1", -1, "1e400", 10**30, Decimal("Infinity"), Decimal("-0.5"),
        Decimal("sNaN"), [], {}, b"1", "1" * 65,
    ],
)  # fmt: skip
def test_an_absurd_figure_of_the_vendor_is_none(value: object) -> None:
    """Missing, negative, endless and nonsensical costs are not reported ones; none of them raises."""
    assert vendor_credits(value) is None
