"""What a caller hands to a module: checked against the graph's inputs, and brought to the module's device."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolchain.errors import ModelError, nearest
from toolchain.execution.islands import Content
from toolchain.graph import Graph, Value
from toolchain.ops import to_tensor


def take_inputs(graph: Graph, inputs: Mapping[str, Any], device: torch.device) -> dict[str, Content]:
    """Return a value per input of ``graph``: tensors on ``device``, and what is no tensor as it is.

    Numbers may have another width than the graph declares, and fixed dimensions another size: models are trained in
    other precisions and batches than they were exported for. Numbers of another kind and another rank are mistakes.

    Raises:
        ModelError: inputs are missing, unknown, constants of the model, or not what the graph declares.
    """
    wanted = [value.name for value in graph.inputs]
    if not isinstance(inputs, Mapping):
        shown = ", ".join(f"{name!r}: ..." for name in wanted)
        raise ModelError(f"inputs are given by name, {{{shown}}}; got a {type(inputs).__name__}")
    for name in wanted:
        if name not in inputs:
            given = ", ".join(map(repr, inputs)) or "none"
            raise ModelError(f"the graph needs input {name!r}, got {given}", hint=nearest(name, map(str, inputs)))
    for name in inputs.keys() - set(wanted):
        if name in graph.initializers:
            raise ModelError(
                f"{name!r} is a constant of the model, which cannot be fed; change module.tensor({name!r})"
            )
        raise ModelError(f"the graph has no input {name!r}", hint=nearest(str(name), wanted))
    return {value.name: _taken(value, inputs[value.name], device) for value in graph.inputs}


def _taken(value: Value, given: Any, device: torch.device) -> Content:  # noqa: ANN401 - whatever the caller has
    try:
        content = on_device(given, device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"input {value.name!r} cannot be taken: {error}") from error
    if value.kind == "tensor" and value.dtype.kind in "fiub":
        _check(value, content)
    return content


def on_device(value: Content, device: torch.device) -> Content:
    """Return a value as the steps take it: numbers as tensors on ``device``, strings as they are."""
    if isinstance(value, list):
        return [on_device(item, device) for item in value]
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "OU":
        return to_tensor(np.asarray(value)).to(device)
    return value


def _check(value: Value, content: Content) -> None:
    dims = "" if value.shape is None else str(list(value.shape)).replace("None", "?").replace("'", "")
    wanted = f"input {value.name!r} is {value.dtype}{dims}"
    if not isinstance(content, Tensor):
        raise ModelError(f"{wanted}, got a {type(content).__name__}")
    same_kind = _kind(content) == ("i" if value.dtype.kind == "u" else value.dtype.kind)
    same_rank = value.shape is None or len(value.shape) == content.ndim
    if not same_kind or not same_rank:
        raise ModelError(f"{wanted}, got {str(content.dtype).removeprefix('torch.')}{list(content.shape)}")


def _kind(tensor: Tensor) -> str:
    """Return ``"f"``, ``"b"`` or ``"i"``, as numpy calls the kinds of numbers."""
    return "f" if tensor.is_floating_point() else "b" if tensor.dtype == torch.bool else "i"
