"""Registry of ONNX operators as plain functions on tensors.

Positional parameters are the operator's inputs (``None`` for an optional one that is left out), keyword parameters its
attributes under their ONNX names. Two keywords are not attributes and are given by the module: ``training`` (True
while the module trains) and ``output_count`` (how many outputs the node names).
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from toolchain.errors import ModelError
from toolchain.graph import Node

Operator = Callable[..., Tensor | tuple[Tensor, ...]]

CONTEXT = ("training", "output_count")


@dataclass(frozen=True)
class Implementation:
    """An operator function, the first schema version it holds for, and which context keywords it asks for."""

    function: Operator
    since: int
    context: tuple[str, ...]
    signature: inspect.Signature


_OPERATORS: dict[tuple[str, str], list[Implementation]] = {}


def op(name: str, since: int = 1, domain: str = "") -> Callable[[Operator], Operator]:
    """Register a function for operator ``name`` from schema version ``since`` until the next registered version."""

    def register(function: Operator) -> Operator:
        signature = inspect.signature(function)
        context = tuple(key for key in CONTEXT if key in signature.parameters)
        versions = _OPERATORS.setdefault((domain, name), [])
        versions.append(Implementation(function, since, context, signature))
        versions.sort(key=lambda item: item.since)
        return function

    return register


def find(node: Node) -> Implementation | None:
    """Return the implementation for the node's operator and schema version, or None."""
    versions = _OPERATORS.get((node.domain, node.op), [])
    return next((item for item in reversed(versions) if item.since <= node.since), None)


def registered() -> list[tuple[str, str]]:
    """Return ``(domain, operator)`` of everything registered."""
    return sorted(_OPERATORS)


def check_supported(nodes: Iterable[Node]) -> None:
    """Raise one error that names every unsupported operator and where it is used.

    Raises:
        ModelError: at least one operator has no implementation.
    """
    missing: dict[str, list[str]] = {}
    for node in nodes:
        if find(node) is None:
            key = f"{node.domain or 'ai.onnx'}.{node.op} (version {node.since})"
            missing.setdefault(key, []).append(node.name)
    if missing:
        lines = [
            f"  {key}: {len(names)} node{'s' if len(names) > 1 else ''}, first {names[0]!r}"
            for key, names in sorted(missing.items())
        ]
        raise ModelError(
            "the model uses operators that cannot be imported:\n" + "\n".join(lines),
            hint="compress inspect shows the whole graph; CNN, MLP, ResNet and transformer encoder operators are known",
        )
