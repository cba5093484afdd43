"""Operators with random results: of the right type, shape and distribution, but not the numbers of ONNX Runtime.

With a ``seed`` every call gives the same numbers; without one they come from torch's own generator.
"""

import numpy as np
import torch
from torch import Tensor

from toolchain.ops.dtypes import torch_dtype
from toolchain.ops.registry import op


def _generator(seed: float | None, device: torch.device) -> torch.Generator | None:
    if seed is None:
        return None
    # A seed is a float in the file; its bits tell more seeds apart than its whole part does.
    return torch.Generator(device).manual_seed(int(np.float32(seed).view(np.uint32)))


@op("RandomNormal")
def random_normal(
    *, dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float | None = None, shape: list[int]
) -> Tensor:
    """Normally distributed numbers, of standard deviation ``scale``."""
    values = torch.empty(shape, dtype=torch_dtype(dtype))
    return values.normal_(mean, scale, generator=_generator(seed, values.device))


@op("RandomNormalLike")
def random_normal_like(
    x: Tensor, *, dtype: int | None = None, mean: float = 0.0, scale: float = 1.0, seed: float | None = None
) -> Tensor:
    """Normally distributed numbers, as many as ``x`` has, of its type unless one is given."""
    values = torch.empty_like(x, dtype=x.dtype if dtype is None else torch_dtype(dtype))
    return values.normal_(mean, scale, generator=_generator(seed, x.device))


@op("RandomUniform")
def random_uniform(
    *, dtype: int = 1, high: float = 1.0, low: float = 0.0, seed: float | None = None, shape: list[int]
) -> Tensor:
    """Evenly distributed numbers."""
    values = torch.empty(shape, dtype=torch_dtype(dtype))
    return values.uniform_(low, high, generator=_generator(seed, values.device))


@op("RandomUniformLike")
def random_uniform_like(
    x: Tensor, *, dtype: int | None = None, high: float = 1.0, low: float = 0.0, seed: float | None = None
) -> Tensor:
    """Evenly distributed numbers, as many as ``x`` has, of its type unless one is given."""
    values = torch.empty_like(x, dtype=x.dtype if dtype is None else torch_dtype(dtype))
    return values.uniform_(low, high, generator=_generator(seed, x.device))


@op("Bernoulli", since=15)
def bernoulli(x: Tensor, *, dtype: int | None = None, seed: float | None = None) -> Tensor:
    """1 with the probability that each element of ``x`` gives, else 0."""
    drawn = torch.bernoulli(x, generator=_generator(seed, x.device))
    return drawn if dtype is None else drawn.to(torch_dtype(dtype))


@op("Multinomial", since=7)
def multinomial(x: Tensor, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None) -> Tensor:
    """Classes, ``[batch, sample_size]``, drawn with probabilities whose logarithms ``x`` gives up to a constant."""
    probabilities = x.to(torch.promote_types(x.dtype, torch.float32)).softmax(-1)
    drawn = torch.multinomial(probabilities, sample_size, replacement=True, generator=_generator(seed, x.device))
    return drawn.to(torch_dtype(dtype))


@op("Dropout", since=7)
def dropout_with_float_mask(x: Tensor, *, ratio: float = 0.5, output_count: int = 1) -> Tensor | tuple[Tensor, ...]:
    """The input as it is, and on request a mask, which is 0 everywhere to ONNX Runtime (before opset 10)."""
    return x if output_count == 1 else (x, torch.zeros_like(x))


@op("Dropout", since=10)
def dropout_with_mask(x: Tensor, *, ratio: float = 0.5, output_count: int = 1) -> Tensor | tuple[Tensor, ...]:
    """The input as it is, and on request a mask, which is False everywhere to ONNX Runtime (before opset 12)."""
    return x if output_count == 1 else (x, torch.zeros_like(x, dtype=torch.bool))


@op("Dropout", since=12)
def dropout(
    x: Tensor,
    ratio: list[float] | None = None,
    training_mode: list[int] | None = None,
    *,
    seed: int | None = None,
    output_count: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """The input as it is, unless the graph itself asks for ``training_mode``; on request a mask of what is kept.

    Also while the module trains: a compressed network has little capacity to spare, fine-tuning is short and follows
    a teacher, and noise would blur the gradients that choose which weights to keep.

    Raises:
        ValueError: the ratio is not from 0 to below 1.
    """
    rate = ratio[0] if ratio else 0.5
    if not 0 <= rate < 1:
        raise ValueError(f"ratio must be from 0 to below 1, got {rate}")
    if not (training_mode and training_mode[0] and rate):
        return x if output_count == 1 else (x, torch.ones_like(x, dtype=torch.bool))
    kept = torch.rand(x.shape, device=x.device, generator=_generator(seed, x.device)) >= rate
    y = (x / (1 - rate)).masked_fill(~kept, 0)
    return y if output_count == 1 else (y, kept)
