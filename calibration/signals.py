"""Draws synthetic inputs: pink noise for images, Gaussian noise for features, ids and masks."""

from dataclasses import replace

import torch
from torch import Tensor

from calibration.signature import Signal

# Share of the variance that the channels of an image have in common, as colours of natural images do.
_COMMON = 0.8

# Images transformed at a time: bounds the temporary memory.
_CHUNK = 16

_BYTE_MEAN, _BYTE_STD = 128.0, 64.0


def draw(signal: Signal, count: int, generator: torch.Generator) -> Tensor:
    """Return ``[count, *signal.sample]`` random values: float32, int64 for ids, 0 or 1 for masks.

    A scalar is 0 or 1, or, where it is a float, between them.
    """
    if signal.rows is not None:
        rows = draw(replace(signal, rows=None), count * signal.rows, generator)
        return rows.reshape(count, *signal.sample)
    shape = (count, *signal.shape)
    if signal.meaning == "scalar" and signal.dtype.kind == "f":
        return torch.rand(shape, generator=generator)
    if signal.meaning == "scalar":
        return torch.randint(0, signal.high, shape, generator=generator)
    if signal.meaning == "ids":
        return torch.randint(0, signal.high, shape, generator=generator)
    if signal.meaning == "mask":  # a valid part of random length, at least half, then padding
        size = signal.shape[-1]
        lengths = torch.randint((size + 1) // 2, size + 1, (count, *[1] * len(signal.shape)), generator=generator)
        return (torch.arange(size) < lengths).expand(shape).float()
    values = _images(signal, count, generator) if signal.spatial else torch.randn(shape, generator=generator)
    if signal.dtype.kind in "iu":
        values = (values * _BYTE_STD + _BYTE_MEAN).round().clamp(0, 255)
    return values


def _images(signal: Signal, count: int, generator: torch.Generator) -> Tensor:
    channel_axis = next(axis for axis in range(1, len(signal.shape) + 1) if axis not in signal.spatial)
    size = tuple(signal.shape[axis - 1] for axis in signal.spatial)
    channels = signal.shape[channel_axis - 1]
    values = torch.empty((count, channels, *size))
    for start in range(0, count, _CHUNK):
        part = values[start : start + _CHUNK]
        noise = pink_noise(len(part), channels + 1, size, generator)
        part[:] = _COMMON**0.5 * noise[:, :1] + (1 - _COMMON) ** 0.5 * noise[:, 1:]
    return values.movedim(1, channel_axis).contiguous()


def pink_noise(count: int, channels: int, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return noise ``[count, channels, *size]`` of zero mean and unit variance whose amplitude falls as 1/frequency.

    Natural images have that spectrum (Field, Relations between the statistics of natural images and the response
    properties of cortical cells, 1987), so their edges and shades are what convolutions were trained on.
    """
    squares = torch.zeros(())
    for axis, length in enumerate(size):
        frequency = torch.fft.fftfreq(length).reshape([-1 if axis == other else 1 for other in range(len(size))])
        squares = squares + frequency.square()
    squares.reshape(-1)[0] = 1 / max(*size, 2) ** 2  # the mean brightness varies as the slowest wave does
    gain = squares.rsqrt()
    gain /= gain.square().mean().sqrt()
    axes = tuple(range(2, 2 + len(size)))
    white = torch.randn((count, channels, *size), generator=generator)
    noise: Tensor = torch.fft.ifftn(torch.fft.fftn(white, dim=axes) * gain, dim=axes).real
    return noise
