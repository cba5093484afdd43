"""Reductions along axes, whose axes moved from an attribute to an input at opset 13 (ReduceSum) or 18 (the others)."""

import torch
from torch import Tensor

from toolchain.ops.registry import Operator, op
from toolchain.ops.unsigned import UNSIGNED, divide, modular, ordered


@modular
def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keep)
    total, count = x.to(torch.int64).sum(axes, keep), _count(x, axes)
    if x.dtype == torch.uint64:
        return divide(total.to(torch.uint64), torch.full_like(total, count))
    return torch.div(total, count, rounding_mode="trunc").to(x.dtype)


def _count(x: Tensor, axes: list[int]) -> int:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return count


@ordered
def _max(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if _count(x, axes) == 0:
        return _filled(x, axes, keep, _extreme(x, largest=False))
    return x.amax(axes, keep)


@ordered
def _min(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if _count(x, axes) == 0:
        return _filled(x, axes, keep, _extreme(x, largest=True))
    return x.amin(axes, keep)


def _extreme(x: Tensor, largest: bool) -> float:
    if x.is_floating_point():
        return float("inf") if largest else float("-inf")
    if x.dtype == torch.bool:
        return float(largest)
    limits = torch.iinfo(x.dtype)
    return limits.max if largest else limits.min


def _filled(x: Tensor, axes: list[int], keep: bool, value: float) -> Tensor:
    """Return the reduction of an empty set: its identity element."""
    return torch.full_like(x.sum(axes, keep, dtype=x.dtype), value)


@modular
def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keep, dtype=x.dtype)
    return x


def _l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x if x.dtype in UNSIGNED else x.abs(), axes, keep)


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        result: Tensor = torch.linalg.vector_norm(x, 2, axes, keep)
        return result
    return _real(_sum_square(x, axes, keep)).sqrt().to(x.dtype)


@modular
def _sum_square(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _log_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _real(_sum(x, axes, keep)).log().to(x.dtype)


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _real(x).logsumexp(axes, keep).to(x.dtype)


def _real(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.to(torch.float64)


# The only difference between these operators is the function; their attributes and axes are the same.
_REDUCTIONS = {
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _max,
    "ReduceMean": _mean,
    "ReduceMin": _min,
    "ReduceProd": _prod,
    "ReduceSum": _sum,
    "ReduceSumSquare": _sum_square,
}


def _register(name: str) -> tuple[Operator, Operator]:
    function = _REDUCTIONS[name]

    @op(name)
    def with_attribute(x: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
        return function(x, list(range(x.ndim)) if axes is None else axes, bool(keepdims))

    @op(name, since=13 if name == "ReduceSum" else 18)
    def with_input(
        x: Tensor, axes: list[int] | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        if not axes and noop_with_empty_axes:
            return function(x[None], [0], False)
        return function(x, axes or list(range(x.ndim)), bool(keepdims))

    return with_attribute, with_input


REDUCTIONS = {name: _register(name) for name in _REDUCTIONS}
