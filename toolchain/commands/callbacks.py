"""Options of the command whose texts are checked at once, as wrong usage."""

from collections.abc import Callable
from fractions import Fraction

import click

from toolchain.errors import ToolchainError


def understood_by(parse: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a callback that refuses what ``parse`` refuses, and hands the text on."""

    def check(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
        if value is not None:
            try:
                parse(value)
            except ToolchainError as error:
                raise click.BadParameter(f"{error}\n{error.hint}") from error
        return value

    return check


def numbers(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    """Parse comma-separated numbers, each of which may be a fraction such as 1/255; of ``--scale`` a single one.

    Raises:
        click.BadParameter: it is something else.
    """
    try:
        found = tuple(float(Fraction(part.strip())) for part in (value or "").split(",") if value)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers, such as 0.485,0.456,0.406") from error
    if param.name == "scale" and value is not None and len(found) != 1:
        raise click.BadParameter(f"{value!r} is not one number, such as 1/255")
    return found
