"""Reads single values of a recipe or a request; ``where`` is the place that an error names, empty for an option.

All raise ``RecipeError`` for what they do not understand.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Literal, TypeVar

from toolchain.amounts import (
    DURATION_HINT,
    PRUNE_HINT,
    PruneTarget,
    QuantSpec,
    parse_duration,
    parse_prune,
    parse_quant,
)
from toolchain.errors import RecipeError
from toolchain.planning.options import located, wrong_type
from toolchain.structures import Structure, parse_structure

LARGEST = 2**63 - 1

_Parsed = TypeVar("_Parsed", PruneTarget, QuantSpec, Structure, float)
_Target = TypeVar("_Target", PruneTarget, QuantSpec)


def unless_false(parse: Callable[[object, str], _Target], value: object, where: str) -> _Target | Literal[False]:
    """Return False where that is what is written, else what ``parse`` makes of it."""
    return False if value is False else parse(value, where)


def read_prune(value: object, where: str) -> PruneTarget:
    """Return an amount of pruning, written as a text such as ``"36x"`` or as a number such as 0.97."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong_type(where, "prune", value, "an amount", PRUNE_HINT)
    return _parsed(parse_prune, _written(value), where)


def read_quant(value: object, where: str) -> QuantSpec:
    """Return a grid, written as a text such as ``"2bit"``."""
    if not isinstance(value, str):
        raise wrong_type(where, "quant", value, 'a text such as "2bit"')
    return _parsed(parse_quant, value, where)


def read_first_last(value: object, where: str) -> QuantSpec | Literal[False]:
    """Return the grid of the first and last tensors; False where they stay float."""
    spec: QuantSpec | Literal[False] = False if value in (False, "float") else read_quant(value, where)
    if spec and spec.kind == "auto":
        raise RecipeError(located(where, "first_last: auto finds the bits of all tensors"), hint="name a grid or float")
    return spec


def read_structure(value: object, where: str) -> Structure:
    """Return which weights go together, written as a text such as ``"groups"``."""
    if not isinstance(value, str):
        raise wrong_type(where, "structure", value, 'a text such as "groups"')
    return _parsed(parse_structure, value, where)


def _written(value: str | int | float) -> str:
    """Return a number as a person writes it, without an exponent."""
    return value if isinstance(value, str) else format(Decimal(str(value)), "f")


def _parsed(parse: Callable[[str], _Parsed], text: str, where: str) -> _Parsed:
    try:
        return parse(text)
    except RecipeError as error:
        raise RecipeError(located(where, str(error)), error.hint) from error


def read_training_time(epochs: object, budget: object, where: str) -> tuple[int | None, float | None]:
    """Return epochs, and seconds, of which at most one is given; None is the default."""
    if epochs is not None and budget is not None:
        raise RecipeError(located(where, "epochs and budget exclude each other"), hint="give one of them")
    if budget is None:
        return None if epochs is None else read_whole(epochs, located(where, "epochs")), None
    if isinstance(budget, bool) or not isinstance(budget, str | int | float):
        raise wrong_type(where, "budget", budget, "a duration", DURATION_HINT)
    return None, _parsed(parse_duration, _written(budget), where)


def read_whole(value: object, what: str, least: int = 0) -> int:
    """Return a whole number that 64 bits hold; ``what`` names it in the error."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
        wanted = f"at least {least}" if not isinstance(value, int) or value < least else f"at most {LARGEST}"
        raise RecipeError(f"{what}: got {value!r}, expected a whole number of {wanted}")
    return value
