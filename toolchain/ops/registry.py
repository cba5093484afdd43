"""Registry of ONNX operators as plain functions on tensors.

Positional parameters are the operator's inputs (``None`` for an optional one that is left out), keyword parameters its
attributes under their ONNX names, tensors among them as torch ones. An input annotated as ``list[int]`` or
``list[float]`` (a shape, axes, scales) is handed over as plain numbers, whatever device it is on. Three keywords are
not attributes and are given by the module: ``training`` (True while the module trains), ``output_count`` (how many
outputs the node names) and ``run_body`` (runs a subgraph: ``RunBody``).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from toolchain.errors import ModelError
from toolchain.graph import Body, Node

Operator = Callable[..., Any]
RunBody = Callable[[Body, Sequence[Any]], list[Any]]
Function = TypeVar("Function", bound=Operator)
Refusal = Callable[[Node], str]

CONTEXT = ("training", "output_count", "run_body")


@dataclass(frozen=True)
class Implementation:
    """An operator function, the first schema version it holds for, and how it wants to be called.

    Attributes:
        function: the operator.
        since: the first schema version it holds for.
        context: which of the ``CONTEXT`` keywords it asks for.
        lists: positions of the inputs that it takes as a list, and of which type of number.
        signature: its parameters.
        trainable: positions of the inputs that train where they are float initializers. What is absent (running
            statistics, scales, clip bounds, shapes) stays as it is in the file.
        refuses: says why the function does not handle a node exactly, by its attributes and the inputs it names; ``""``
            where it does. What is refused is expanded from its function body or left to ONNX Runtime.
    """

    function: Operator
    since: int
    context: tuple[str, ...]
    lists: Mapping[int, type[int] | type[float]]
    signature: inspect.Signature
    trainable: tuple[int, ...]
    refuses: Refusal


_OPERATORS: dict[tuple[str, str], list[Implementation]] = {}


def _nothing(_node: Node) -> str:
    return ""


def op(
    name: str, since: int = 1, domain: str = "", trainable: tuple[int, ...] = (), refuses: Refusal = _nothing
) -> Callable[[Function], Function]:
    """Register a function for operator ``name`` from schema version ``since`` until the next registered version."""

    def register(function: Function) -> Function:
        signature = inspect.signature(function)
        context = tuple(key for key in CONTEXT if key in signature.parameters)
        versions = _OPERATORS.setdefault((domain, name), [])
        lists = _list_inputs(signature)
        versions.append(Implementation(function, since, context, lists, signature, trainable, refuses))
        versions.sort(key=lambda item: item.since)
        return function

    return register


def _list_inputs(signature: inspect.Signature) -> dict[int, type[int] | type[float]]:
    return {
        position: kind
        for position, parameter in enumerate(signature.parameters.values())
        for kind in (int, float)
        if parameter.kind is not parameter.KEYWORD_ONLY and parameter.annotation in (list[kind], list[kind] | None)  # type: ignore[valid-type]
    }


def find(node: Node) -> Implementation | None:
    """Return the implementation for the node's operator and schema version; None where none handles it exactly.

    Raises:
        ModelError: the node has attributes of which that cannot be said.
    """
    versions = _OPERATORS.get((node.domain, node.op), [])
    found = next((item for item in reversed(versions) if item.since <= node.since), None)
    try:
        return None if found is None or found.refuses(node) else found
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"the attributes of {node.op} node {node.name!r} make no sense: {error}") from error


def registered() -> list[tuple[str, str]]:
    """Return ``(domain, operator)`` of everything registered."""
    return sorted(_OPERATORS)
