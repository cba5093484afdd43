"""Checks JSON documents against a JSON Schema, and says in short what does not fit."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

LONGEST_MESSAGE = 200  # the validator repeats the whole value, which may be a section


@cache
def load_schema(package: str, name: str) -> Mapping[str, Any]:
    """Return the JSON Schema in the file ``name`` of a package."""
    schema: Mapping[str, Any] = json.loads(files(package).joinpath(name).read_text("utf-8"))
    return schema


def misfit(schema: Mapping[str, Any], document: object) -> tuple[str, str]:
    """Return where a document does not fit the schema, such as ``".size.ratio"``, and why; both empty where it does.

    Args:
        schema: JSON Schema, draft 2020-12.
        document: what ``json.loads`` returns.
    """
    from jsonschema import Draft202012Validator, exceptions  # noqa: PLC0415 - a tenth of a second --help need not pay

    error = exceptions.best_match(Draft202012Validator(schema).iter_errors(document))
    if error is None:
        return "", ""
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path)
    message = error.message
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 2 :]}"
    return place, message
