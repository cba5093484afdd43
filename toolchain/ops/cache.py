"""Caches that are kept outside the model."""

import torch
from torch import Tensor

from toolchain.ops.registry import op


@op("TensorScatter", since=24)
def tensor_scatter(
    cache: Tensor, update: Tensor, write_indices: Tensor | None = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    """A copy of ``cache`` with ``update`` put along ``axis``, in each sample from its index on.

    In mode ``linear`` the update must end within the cache, in mode ``circular`` it goes on at the beginning.
    """
    axis %= cache.ndim
    steps = torch.arange(update.shape[axis], device=cache.device)
    places = steps[None] if write_indices is None else write_indices.reshape(-1, 1) + steps
    if mode == "circular":
        places = places % cache.shape[axis]
    shape = [1] * cache.ndim
    shape[0], shape[axis] = places.shape
    return cache.scatter(axis, places.reshape(shape).expand(update.shape), update)
