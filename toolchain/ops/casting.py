"""Operators that change the element type, and the rules of every type that they change it to."""

import torch
from torch import Tensor

from toolchain.ops.dtypes import (
    FLOAT4,
    FLOAT4_VALUES,
    FLOAT8,
    FLOAT8_EXPONENT,
    SMALL_FLOATS,
    SMALL_INTEGERS,
    numbers,
    torch_dtype,
)
from toolchain.ops.registry import op


@op("Cast", since=6)
def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """The values in another element type."""
    return convert(x, torch_dtype(to), bool(saturate), round_mode)


@op("CastLike", since=15)
def cast_like(x: Tensor, target: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """The values in the element type of ``target``."""
    return convert(x, target.dtype, bool(saturate), round_mode)


@op("BitCast", since=26)
def bit_cast(x: Tensor, *, to: int) -> Tensor:
    """The same bits as another element type of the same width."""
    kind = torch_dtype(to)
    bits = x.contiguous().view(torch.uint8) if x.dtype in SMALL_INTEGERS or x.dtype == FLOAT4 else x.contiguous()
    if kind in SMALL_INTEGERS:
        return store(bits, kind)
    # The sign of a small integer fills the byte that it is held in.
    return ((bits & 15) if kind == FLOAT4 else bits).view(kind)


def convert(x: Tensor, kind: torch.dtype, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """Return the values of ``x`` in the type ``kind`` as ONNX's Cast defines it.

    Floats become integers of 2 and 4 bits by rounding halves away from zero and keeping the lowest bits, as ONNX
    Runtime has it. A gradient passes through the small floats as if they were exact: under autograd their values are
    held in float32, as a gradient in 8 bits would be worth nothing.
    """
    x = numbers(x)
    if kind in SMALL_INTEGERS:
        return store(_round_half_away(x) if x.is_floating_point() else x, kind)
    if kind in SMALL_FLOATS:
        return _small_float(x, kind, saturate, round_mode)
    return x.to(kind)


def tracked(x: Tensor) -> bool:
    """Whether a gradient will be asked of what is computed from ``x``."""
    return x.requires_grad and torch.is_grad_enabled()


def straight_through(value: Tensor, carrier: Tensor) -> Tensor:
    """Return ``value``, bit for bit, with the gradient of ``carrier``."""
    return value.detach() + (carrier - carrier.detach())


def store(values: Tensor, kind: torch.dtype) -> Tensor:
    """Return integers as ``kind``; of those with fewer than 8 bits the lowest bits are kept."""
    if kind not in SMALL_INTEGERS:
        return values.to(kind)
    bits, carrier = SMALL_INTEGERS[kind]
    low: Tensor = values.to(torch.int64) & (2**bits - 1)
    if carrier == torch.int8:
        low = (low ^ 2 ** (bits - 1)) - 2 ** (bits - 1)
    return low.to(carrier).view(kind)


def _round_half_away(x: Tensor) -> Tensor:
    whole = x.trunc()
    rounded: Tensor = whole + x.sign() * ((x - whole).abs() >= 0.5)
    return rounded


def _small_float(x: Tensor, kind: torch.dtype, saturate: bool, round_mode: str) -> Tensor:
    real = x if x.is_floating_point() else x.float()
    if kind == FLOAT8_EXPONENT:
        packed = _exponents(real, saturate, round_mode).view(kind)
    elif kind == FLOAT4:
        packed = _float4_codes(real).view(kind)
    else:
        packed = _float8(real, kind, saturate)
    if not tracked(x):
        return packed
    largest = torch.finfo(torch.float32).max
    if kind == FLOAT4 or (kind in FLOAT8 and saturate):
        largest = FLOAT4_VALUES[-1] if kind == FLOAT4 else torch.finfo(kind).max
    return straight_through(numbers(packed), real.float().clamp(-largest, largest))


def _float8(x: Tensor, kind: torch.dtype, saturate: bool) -> Tensor:
    limits = torch.finfo(kind)
    if saturate:
        return x.clamp(limits.min, limits.max).to(kind)
    if kind == torch.float8_e4m3fn:
        # Half a step beyond the largest value, 448, still rounds to it; versions of torch differ in what they do then.
        x = torch.where(x.abs() > 464, torch.nan, x)
    return x.to(kind)


def _float4_codes(x: Tensor) -> Tensor:
    """Return the codes of the nearest 4-bit floats; halves go to the even code, what is too large to 6."""
    size = x.detach().abs().float()
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    nearest = (torch.round(size / step) * step).clamp(max=FLOAT4_VALUES[-1])
    codes = torch.bucketize(nearest, torch.tensor(FLOAT4_VALUES, device=x.device))
    # There is no NaN: it becomes a negative zero.
    negative = torch.signbit(x) | x.isnan()
    return (codes.masked_fill(x.isnan(), 0) + 8 * negative).to(torch.uint8)


def _exponents(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """Return the codes of powers of two: the exponent plus 127, and 255 for NaN."""
    mantissa, exponent = torch.frexp(x.detach().float())  # mantissa in [0.5, 1)
    whole = exponent + 126
    if round_mode == "up":
        whole = whole + (mantissa > 0.5)
    elif round_mode == "nearest":
        whole = whole + (mantissa >= 0.75)
    elif round_mode != "down":
        raise ValueError(f"round_mode is up, down or nearest, got {round_mode!r}")
    whole = torch.where(x > 0, torch.where(x.isinf(), 254, whole), 0)
    outside = x.isnan() if saturate else ~((x >= 2.0**-127) & (x <= 2.0**127))
    return whole.clamp(0, 254).masked_fill(outside, 255).to(torch.uint8)
