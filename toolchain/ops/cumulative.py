"""Running sums and products."""

from collections.abc import Callable

import torch
from torch import Tensor

from toolchain.ops.registry import op
from toolchain.ops.unsigned import modular


@op("CumSum", since=11)
def cum_sum(x: Tensor, axis: list[int], *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Running sum along ``axis``, without the element itself if exclusive, from the end if reversed."""
    return _running(x, torch.cumsum, 0, axis[0], bool(exclusive), bool(reverse))


@op("CumProd", since=26)
def cum_prod(x: Tensor, axis: list[int], *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Running product along ``axis``, without the element itself if exclusive, from the end if reversed."""
    return _running(x, torch.cumprod, 1, axis[0], bool(exclusive), bool(reverse))


@modular
def _running(
    x: Tensor, accumulate: Callable[..., Tensor], neutral: int, along: int, exclusive: bool, reverse: bool
) -> Tensor:
    x = x.flip(along) if reverse else x
    total = accumulate(x, along, dtype=x.dtype)
    if exclusive:  # shifted, as undoing the last element would round
        first = torch.full_like(total.narrow(along, 0, min(1, x.shape[along])), neutral)
        total = torch.cat([first, total], along).narrow(along, 0, x.shape[along])
    return total.flip(along) if reverse else total
