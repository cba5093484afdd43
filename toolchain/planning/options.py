"""Checks keys, types and ranges of TOML tables; every error says where, what was got and what was expected."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from toolchain.errors import RecipeError, nearest
from toolchain.planning.plan import CalibrationOptions, ExportOptions, PruneSchedule, QuantSchedule, TrainOptions

Toml = Mapping[str, object]

_Options = TypeVar("_Options", PruneSchedule, QuantSchedule, CalibrationOptions, ExportOptions, TrainOptions)


def read_options(
    cls: type[_Options], table: Toml, section: str, where: str, keys: tuple[str, ...] | None = None
) -> _Options:
    """Return ``cls`` filled from ``[section]``, every key, type and range checked against its fields."""
    values, place = table.get(section, {}), f"{where}: [{section}]"
    if not isinstance(values, dict):
        raise RecipeError(f"{where}: {section} must be written as a [{section}] table, got {kind_of(values)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    check_keys(values, keys or fields, place)
    hints = get_type_hints(cls)
    return cls(**{key: _value(value, hints[key], fields[key].metadata, (place, key)) for key, value in values.items()})


def lay_over(options: _Options, changes: Mapping[str, object]) -> _Options:
    """Return ``options`` with every change that is not None, checked as in a recipe."""
    fields, hints = {field.name: field for field in dataclasses.fields(options)}, get_type_hints(type(options))
    given = {key: value for key, value in changes.items() if value is not None}
    return dataclasses.replace(
        options, **{key: _value(value, hints[key], fields[key].metadata, ("", key)) for key, value in given.items()}
    )


def _value(value: object, hint: object, metadata: Mapping[str, Any], at: tuple[str, str]) -> Any:  # noqa: ANN401 - any field
    """Return the checked value of a field: what its metadata parse it into, or as it is."""
    if "parse" not in metadata:
        _check_value(value, hint, metadata, at)
        return value
    if not isinstance(value, str):
        raise wrong_type(*at, value, "a text")
    try:
        return metadata["parse"](value)
    except RecipeError as error:
        raise RecipeError(located(at[0], str(error)), error.hint) from error


def _check_value(value: object, hint: object, limits: Mapping[str, float], at: tuple[str, str]) -> None:
    names = [name for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal for name in get_args(kind)]
    if names:
        if value not in names:
            text = nearest(str(value), names)
            raise RecipeError(f"{' '.join(at).strip()}: got {value!r}, expected one of {', '.join(names)}; {text}")
        return
    number = next(kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType)
    accepted = (int, float) if number is float else (int,)
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise wrong_type(*at, value, "a number" if number is float else "a whole number")
    low, high = limits["low"], limits["high"]
    if not math.isfinite(value) or not low <= value <= high:
        wanted = f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
        raise RecipeError(f"{' '.join(at).strip()}: got {value!r}, expected {wanted}")


def check_keys(table: Toml, known: Iterable[str], where: str) -> None:
    """Raise a ``RecipeError`` that names the nearest known key for the first key that is not ``known``."""
    names = list(known)
    for key in table:
        if key not in names:
            raise RecipeError(f"{where}: unknown key {key!r}; {nearest(key, names)}")


def wrong_type(where: str, key: str, value: object, expected: str, hint: str = "") -> RecipeError:
    """Return the error for a value of the wrong type: got against expected."""
    return RecipeError(located(where, f"{key}: got {kind_of(value)} {value!r}, expected {expected}"), hint)


def kind_of(value: object) -> str:
    """Return what a TOML value is, in words."""
    names = {
        bool: "a boolean",
        int: "a whole number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def located(where: str, message: str) -> str:
    """Return ``message`` with its place before it, where there is one."""
    return f"{where}: {message}" if where else message
