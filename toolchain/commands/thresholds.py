"""The options that ask for gates, the same for every command that judges by them."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

import click

from toolchain.commands.callbacks import understood_by
from toolchain.gates.amounts import UNITS
from toolchain.gates.limits import LIMITS, Gates, option_name, parse_limit

_Result = TypeVar("_Result")


def with_gates(command: Callable[..., _Result]) -> Callable[..., _Result]:
    """Give a command an option per gate; what they ask for reaches it as one argument ``gates``."""

    @wraps(command)
    def gathered(*arguments: Any, **options: Any) -> _Result:  # noqa: ANN401 - a command's own
        texts = {limit: options.pop(limit) for limit in LIMITS}
        asked: dict[str, Any] = {limit: parse_limit(limit, text) for limit, text in texts.items() if text is not None}
        return command(*arguments, gates=replace(Gates(), **asked), **options)

    found: Callable[..., _Result] = gathered
    for limit, field in reversed(list(LIMITS.items())):
        found = click.option(
            f"--{option_name(limit)}",
            metavar=UNITS[field.metadata["unit"]].metavar,
            callback=understood_by(_parser(limit)),
            help=field.metadata["help"],
        )(found)
    return found


def _parser(limit: str) -> Callable[[str], float]:
    return lambda text: parse_limit(limit, text)
