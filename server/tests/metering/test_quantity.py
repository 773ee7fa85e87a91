"""How units are rounded, and what an operation on a unique value is."""

from decimal import Decimal

import pytest

from nozle_server.metering.quantity import rounded


@pytest.mark.parametrize(
    ("units", "function", "precision", "expected"),
    [
        ("0", "ceil", None, "0"),
        ("0.1", None, 3, "0.1"),
        ("0.5", "round", None, "1"),
        ("-0.5", "round", None, "-1"),  # half away from zero
        ("1.25", "round", 1, "1.3"),
        ("1.2", "ceil", 0, "2"),
        ("-1.2", "ceil", 0, "-1"),
        ("-1.2", "floor", 0, "-2"),
        ("14", "round", -1, "10"),
        ("15", "floor", -2, "0"),
        ("123456789012345678.123456789012", "round", 11, "123456789012345678.12345678901"),
        ("1", "round", 2, "1.00"),
    ],
)
def test_units_are_rounded_to_decimals_or_tens(
    units: str, function: str | None, precision: int | None, expected: str
) -> None:
    assert str(rounded(Decimal(units), function, precision)) == expected
