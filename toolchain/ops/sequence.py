"""Sequences, which are Python lists of tensors here, and optionals, which are None or what they hold."""

from typing import Any

import torch
from torch import Tensor

from toolchain.graph import Body
from toolchain.ops.registry import RunBody, op

Sequence = list[Tensor]


@op("SequenceEmpty", since=11)
def sequence_empty(*, dtype: int = 1) -> tuple[Sequence]:
    """A sequence without elements."""
    return ([],)


@op("SequenceConstruct", since=11)
def sequence_construct(*items: Tensor) -> tuple[Sequence]:
    """The inputs as a sequence."""
    return (list(items),)


@op("SequenceAt", since=11)
def sequence_at(sequence: Sequence, position: list[int]) -> Tensor:
    """The element at ``position``, from the end where it is negative."""
    return sequence[_checked(position[0], len(sequence))]


@op("SequenceInsert", since=11)
def sequence_insert(sequence: Sequence, item: Tensor, position: list[int] | None = None) -> tuple[Sequence]:
    """The sequence with ``item`` before ``position``, or at the end."""
    place = len(sequence) if not position else _checked(position[0], len(sequence) + 1, len(sequence))
    return ([*sequence[:place], item, *sequence[place:]],)


@op("SequenceErase", since=11)
def sequence_erase(sequence: Sequence, position: list[int] | None = None) -> tuple[Sequence]:
    """The sequence without the element at ``position``, or without the last."""
    place = _checked(position[0] if position else -1, len(sequence))
    return ([*sequence[:place], *sequence[place + 1 :]],)


@op("SequenceLength", since=11)
def sequence_length(sequence: Sequence) -> Tensor:
    """The number of elements as int64, on the CPU like every shape."""
    return torch.tensor(len(sequence), dtype=torch.int64)


@op("SplitToSequence", since=11)
def split_to_sequence(x: Tensor, split: Tensor | None = None, *, axis: int = 0, keepdims: int = 1) -> tuple[Sequence]:
    """Pieces of ``x`` along ``axis``: of length 1, of one given length, or of the given lengths."""
    if split is None:
        return (list(torch.split(x, 1, axis)) if keepdims else list(x.unbind(axis)),)
    sizes = split.reshape(-1).tolist()
    return (list(torch.split(x, sizes[0] if split.ndim == 0 else sizes, axis)),)


@op("ConcatFromSequence", since=11)
def concat_from_sequence(sequence: Sequence, *, axis: int, new_axis: int = 0) -> Tensor:
    """The elements joined along ``axis``, or stacked along a new one."""
    return torch.stack(sequence, axis) if new_axis else torch.cat(sequence, axis)


@op("SequenceMap", since=17)
def sequence_map(sequence: Sequence, *more: Sequence | Tensor, body: Body, run_body: RunBody) -> tuple[Sequence, ...]:
    """The results of ``body`` on every element; other sequences go along, tensors are the same for every element."""
    columns = [item if isinstance(item, list) else [item] * len(sequence) for item in more]
    rows = [run_body(body, list(items)) for items in zip(sequence, *columns, strict=True)]
    return tuple([row[position] for row in rows] for position in range(len(body.outputs)))


# A type_proto attribute is only read to type an empty optional.
@op("Optional", since=15)
def optional(item: Any = None, *, type: Any = None) -> tuple[Any]:  # noqa: A002, ANN401 - the attribute's ONNX name; holds anything
    """The input as an optional, or an empty one."""
    return (item,)


@op("OptionalHasElement", since=15)
def optional_has_element(item: Any = None) -> Tensor:  # noqa: ANN401 - optionals hold tensors and sequences
    """Whether there is something in the optional."""
    return torch.tensor(item is not None)


@op("OptionalGetElement", since=15)
def optional_get_element(item: Any) -> tuple[Any]:  # noqa: ANN401 - optionals hold tensors and sequences
    """What is in the optional.

    Raises:
        ValueError: it is empty.
    """
    if item is None:
        raise ValueError("the optional is empty")
    return (item,)


def _checked(position: int, bound: int, length: int | None = None) -> int:
    """Return ``position`` counted from the front; ``length`` is that of the sequence where it is not ``bound``."""
    place = position + (bound if length is None else length) if position < 0 else position
    if not 0 <= place < bound:
        raise ValueError(f"position {position} is outside a sequence of {bound if length is None else length}")
    return place
