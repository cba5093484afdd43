"""Fourier transforms, the windows that go with them, and mel filters.

A real signal ends in a dimension of 1, a complex one in a dimension of 2 for its real and imaginary parts.
"""

from math import floor, log10, pi

import numpy as np
import torch
from torch import Tensor

from toolchain.ops.dtypes import torch_dtype
from toolchain.ops.registry import op


@op("DFT", since=17)
def dft_17(
    x: Tensor, dft_length: list[int] | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """Fourier transform along an axis given by an attribute."""
    return dft(x, dft_length, [axis], inverse=inverse, onesided=onesided)


@op("DFT", since=20)
def dft(
    x: Tensor,
    dft_length: list[int] | None = None,
    axis: list[int] | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """Fourier transform along an axis, the last but one by default; ``onesided`` is of, or back to, a real signal."""
    along = (axis[0] if axis else -2) % x.ndim
    if along == x.ndim - 1:
        raise ValueError("the last axis holds real and imaginary parts and cannot be transformed")
    signal, length = _signal(x), dft_length[0] if dft_length else None
    if bool(onesided) and signal.is_complex() != bool(inverse):
        raise ValueError("a one-sided transform takes a real signal, and its inverse a complex one")
    if onesided and inverse:
        if length is not None and length // 2 + 1 != x.shape[along]:
            # ONNX Runtime then mirrors the spectrum otherwise than its definition has it.
            raise ValueError(f"{x.shape[along]} frequencies are not half the spectrum of {length} steps")
        real: Tensor = torch.fft.irfft(signal, length, along)
        return real.unsqueeze(-1).to(x.dtype)
    transform = torch.fft.rfft if onesided else torch.fft.ifft if inverse else torch.fft.fft
    spectrum = transform(signal, length, along).resolve_conj()  # of a real signal, torch conjugates lazily
    return torch.view_as_real(spectrum).to(x.dtype)


@op("STFT", since=17)
def stft(
    x: Tensor,
    frame_step: list[int],
    window: Tensor | None = None,
    frame_length: list[int] | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """Fourier transforms ``[batch, frames, frequencies, 2]`` of all whole frames of ``[batch, time, 1 or 2]``."""
    signal = x.to(_precision(x)) if x.ndim == 2 else _signal(x)
    length = frame_length[0] if frame_length else signal.shape[1] if window is None else len(window)
    frames = signal.unfold(1, length, frame_step[0])
    if window is not None:
        if len(window) != length:
            raise ValueError(f"a window of {len(window)} steps for frames of {length}")
        frames = frames * window
    if onesided and not frames.is_complex():
        return torch.view_as_real(torch.fft.rfft(frames)).to(x.dtype)
    spectrum = torch.view_as_real(torch.fft.fft(frames)).to(x.dtype)
    return spectrum[:, :, : length // 2 + 1] if onesided else spectrum


def _precision(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)  # torch transforms nothing in half precision on the CPU


def _signal(x: Tensor) -> Tensor:
    """Return the real or complex tensor whose parts are in the last dimension of ``x``."""
    x = x.to(_precision(x))
    return x.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())


@op("HannWindow", since=17)
def hann_window(size: list[int], *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """Half a cosine wave above zero."""
    return _cosines(size[0], output_datatype, periodic, 0.5, 0.5, 0.0)


@op("HammingWindow", since=17)
def hamming_window(size: list[int], *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """Cosine wave that does not quite reach zero."""
    a0 = np.float32(25 / 46)
    return _cosines(size[0], output_datatype, periodic, float(a0), float(1 - a0), 0.0)


@op("BlackmanWindow", since=17)
def blackman_window(size: list[int], *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """Sum of two cosine waves."""
    a2 = np.float32(0.08)
    return _cosines(size[0], output_datatype, periodic, float(np.float32(0.5) - a2), 0.5, float(a2))


def _cosines(size: int, output_datatype: int, periodic: int, a0: float, a1: float, a2: float) -> Tensor:
    """Return ``a0 - a1 cos(t) + a2 cos(2 t)`` over one period; as in ONNX Runtime, coefficients are single precision.

    A symmetric window ends on the last point of the period, a ``periodic`` one before it.
    """
    angles = torch.arange(size, dtype=torch.float64) * (2 * pi) / (size if periodic else size - 1)
    return (a0 - a1 * torch.cos(angles) + a2 * torch.cos(2 * angles)).to(torch_dtype(output_datatype))


@op("MelWeightMatrix", since=17)
def mel_weight_matrix(
    num_mel_bins: list[int],
    dft_length: list[int],
    sample_rate: list[int],
    lower_edge_hertz: list[float],
    upper_edge_hertz: list[float],
    *,
    output_datatype: int = 1,
) -> Tensor:
    """Triangular filters ``[dft_length // 2 + 1, num_mel_bins]``, evenly spaced on the mel scale.

    Raises:
        ValueError: the edges lie outside the spectrum.
    """
    count, frequencies, points = num_mel_bins[0], dft_length[0] // 2 + 1, num_mel_bins[0] + 2
    low, high = (2595 * log10(1 + edge[0] / 700) for edge in (lower_edge_hertz, upper_edge_hertz))
    hertz = [700 * (10 ** ((low + (high - low) / points * point) / 2595) - 1) for point in range(points)]
    places = torch.tensor(
        [floor((dft_length[0] + 1) * frequency / sample_rate[0]) for frequency in hertz], dtype=torch.float64
    )
    if not 0 <= int(places[0]) <= int(places[-1]) < frequencies:
        raise ValueError(f"filters from frequency {int(places[0])} to {int(places[-1])} of {frequencies}")
    left, centre, right = places[:count], places[1 : count + 1], places[2:]
    place = torch.arange(frequencies).unsqueeze(1)
    rising = torch.where(left == centre, 1.0, (place - left) / (centre - left))
    falling = (right - place) / (right - centre)
    weights = torch.where((place >= left) & (place <= centre), rising, 0.0)
    weights = torch.where((place >= centre) & (place < right), falling, weights)
    return weights.to(torch_dtype(output_datatype))
