"""Types of quantities in the deck: numbers with units, held in atomic units and written back with their unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from hpcir.units import UNITS, format_quantity, parse_quantity


def quantity(dimension: str) -> Any:
    """A float field that reads "0.5 fs" or a bare number in the documented unit, and writes itself with the unit."""
    return Annotated[
        float,
        BeforeValidator(lambda text: parse_quantity(text, dimension)),
        PlainSerializer(lambda value: format_quantity(value, dimension), return_type=str),
        WithJsonSchema(
            {
                "type": ["string", "number"],
                "description": f"{dimension.replace('_', ' ')}: a number with one of {', '.join(UNITS[dimension])}; "
                f"a bare number is in {next(iter(UNITS[dimension]))}",
            }
        ),
    ]


def parse_fraction(text: object) -> object:
    """A fraction of one from "2 %" or 0.02; what is no number is left to the validation of numbers. Raises ValueError
    for other words, and for a bare number over one, which may have been meant in %."""
    if not isinstance(text, str):
        if isinstance(text, (int, float)) and text > 1:
            raise ValueError(f"a fraction over one needs its unit: '{text:g} %', or '{100 * text:g} %'")
        return text
    number, unit = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        return float(number) / (100 if unit else 1)
    except ValueError:
        raise ValueError("expected a fraction, such as '2 %' or 0.02") from None


if TYPE_CHECKING:
    Fraction = float
    Length = float
    Time = float
    Temperature = float
    Energy = float
    Force = float
    DipoleMoment = float
    Wavenumber = float
    WallTime = float
else:
    Fraction = Annotated[
        float,
        BeforeValidator(parse_fraction),
        WithJsonSchema({"type": ["string", "number"], "description": "a fraction: 2 % or 0.02"}),
    ]
    Length = quantity("length")
    Time = quantity("time")
    Temperature = quantity("temperature")
    Energy = quantity("energy")
    Force = quantity("force")
    DipoleMoment = quantity("dipole")
    Wavenumber = quantity("wavenumber")
    WallTime = quantity("wall_time")


def quantity_field(default: str, **details: Any) -> Any:
    """`Field` for a quantity: its default is written with the unit, and type checkers see the float it becomes."""
    return Field(default, **details)
