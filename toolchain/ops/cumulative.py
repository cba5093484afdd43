"""Running products."""

import torch
from torch import Tensor

from toolchain.ops.registry import op
from toolchain.ops.unsigned import modular


@op("CumProd", since=26)
def cum_prod(x: Tensor, axis: list[int], *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Running product along ``axis``, without the element itself if exclusive, from the end if reversed."""
    return _running_product(x, axis[0], bool(exclusive), bool(reverse))


@modular
def _running_product(x: Tensor, along: int, exclusive: bool, reverse: bool) -> Tensor:
    x = x.flip(along) if reverse else x
    product = x.cumprod(along, dtype=x.dtype)
    if exclusive:  # shifted, as dividing by the element again would round
        first = torch.ones_like(product.narrow(along, 0, min(1, x.shape[along])))
        product = torch.cat([first, product], along).narrow(along, 0, x.shape[along])
    return product.flip(along) if reverse else product
