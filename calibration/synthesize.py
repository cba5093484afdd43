"""Makes inputs for a model that comes without data."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from calibration.dataset import Dataset, Feed, Preprocessing
from calibration.signals import draw
from calibration.signature import Signal, read_signature
from calibration.statistics import Statistics, match_scale, match_statistics, stored_statistics
from toolchain.errors import DataError, ModelError
from toolchain.module import OnnxModule

# Multiply-accumulates of forward passes that fitting may take: about 20 seconds on two cores.
_COMPUTE = 4e11

# What it takes at most, where the machine has other things to do, and what part of that finds the range.
_SECONDS, _SCALE_PART = 60.0, 0.3

# What an element that a BatchNormalization reads costs in this currency: its statistics, the elementwise operators
# around it, and their gradients. In networks of depthwise convolutions, that is nearly all. Measured on MobileNetV3.
_ELEMENT_COMPUTE = 200

_MIN_STEPS, _MAX_STEPS = 8, 24

# Samples and steps that settle the range of the inputs before their details are fitted.
_SCALE_SAMPLES, _SCALE_STEPS = 32, 60

# Bytes of activations that fitting may hold at a time, and how many bytes it holds per element that a
# BatchNormalization reads: the value, its normalised and rectified forms, and a gradient.
_MEMORY = 2**29
_BYTES_PER_ELEMENT = 16

_MIN_BATCH, _MAX_BATCH = 8, 64

# At least so many inputs are fitted, however large the model, for the sake of variety.
_MIN_FITTED = 32

# Samples that a model with scalar inputs must run on: it may take 0 for a sampling rate, and not 1.
_SCALAR_TRIES = 8


def synthesize(module: OnnxModule, count: int, seed: int) -> Dataset:
    """Return ``count`` synthetic inputs that have the shapes of the model's input signature.

    Images start as noise with the spectrum of natural images; where the graph has BatchNormalization nodes, float
    inputs are then fitted to the statistics that those nodes store. Of a model too large to fit all of them in about
    half a minute, the rest are mirrored and shifted copies of the fitted ones. The same seed gives the same inputs,
    unless the machine is so busy that fitting ends after a minute.

    Args:
        module: the original model; run in evaluation mode, not changed.
        count: number of samples, at least 1.
        seed: of the random numbers.

    Raises:
        DataError: the signature does not say enough, or the model does not run on what it says.
    """
    signals = read_signature(module.graph)
    generator = torch.Generator().manual_seed(seed)
    inputs = {signal.name: draw(signal, count, generator).to(_torch_dtype(signal.dtype)) for signal in signals}
    was_training = module.training
    module.eval()
    try:
        effort = _effort(module, signals, inputs, count)
        if effort is not None:
            started = time.monotonic()
            _scale(module, effort, signals, inputs, started + _SCALE_PART * _SECONDS)
            effort = replace(effort, samples=_fit(module, effort, inputs, started + _SECONDS))
            _spread(signals, inputs, effort.samples, generator)
    finally:
        module.train(was_training)
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    feeds = {name: Feed(array.dtype) for name, array in arrays.items()}
    source = _source(signals, effort, count)
    return Dataset(arrays, None, Preprocessing(), "synthetic", source, feeds, module.graph.takes_sets)


@dataclass(frozen=True)
class _Effort:
    """How the fitting is done: what to match, which inputs move, for how many samples, in which batches and steps."""

    stored: tuple[Statistics, ...]
    moving: tuple[str, ...]
    samples: int
    batch: int
    steps: int


def _torch_dtype(dtype: np.dtype) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


def _effort(module: OnnxModule, signals: Sequence[Signal], inputs: dict[str, Tensor], count: int) -> _Effort | None:
    """Try one sample, which also shows what a step costs; None where there is nothing to fit or to fit to."""
    stored = stored_statistics(module)
    layers = [node for node in module.graph.nodes if node.op in ("Conv", "Gemm", "MatMul")]
    wanted = {item.value for item in stored} | {node.outputs[0] for node in layers}
    wanted |= {value.name for value in module.graph.outputs}
    try:
        values = _try(module, inputs, slice(1), wanted)
        for row in range(1, min(count, _SCALAR_TRIES) if any(s.meaning == "scalar" for s in signals) else 1):
            _try(module, inputs, slice(row, row + 1), wanted)
    except ModelError as error:
        raise _misfit(module, signals, error) from error
    moving = tuple(s.name for s in signals if s.meaning in ("image", "noise") and s.dtype == np.float32)
    if not stored or not moving or module.graph.takes_sets:  # one set at a time has no statistics to speak of
        return None
    work = 0
    for node in layers:
        output, weight = values[node.outputs[0]], module.graph.initializers.get(node.inputs[1])
        if weight is not None:
            work += output.numel() * weight.size // output.shape[1 if node.op == "Conv" else -1]
    elements = sum(values[item.value].numel() for item in stored)
    work += _ELEMENT_COMPUTE * elements
    batch = min(max(_MEMORY // (elements * _BYTES_PER_ELEMENT), _MIN_BATCH), _MAX_BATCH)
    try:
        _try(module, inputs, slice(2), {item.value for item in stored})
    except ModelError:
        batch = 1  # a model of a fixed batch size: each sample is fitted to the statistics by itself
    samples = min(count, max(int(_COMPUTE // (work * _MIN_STEPS + 1)), _MIN_FITTED))
    steps = min(max(int(_COMPUTE // (work * samples + 1)), _MIN_STEPS), _MAX_STEPS)
    return _Effort(stored, moving, samples, batch, steps)


def _misfit(module: OnnxModule, signals: Sequence[Signal], error: ModelError) -> DataError:
    sets = module.graph.takes_sets
    shapes = ", ".join(f"{signal.name}{list(signal.sample) if sets else [1, *signal.shape]}" for signal in signals)
    scalars = ", ".join(repr(signal.name) for signal in signals if signal.meaning == "scalar")
    values = f" (scalar {scalars} from 0 to 1)" if scalars else ""
    form = ": an .npz file with an array [N, ...] per input, [N] for a scalar" if sets else ""
    return DataError(
        f"the model does not run on inputs of the shapes that its signature suggests, {shapes}{values}: {error}",
        hint=f"give samples with --data{form}, or fix the open dimensions in the model",
    )


def _try(module: OnnxModule, inputs: dict[str, Tensor], part: slice, wanted: set[str]) -> dict[str, Tensor]:
    with torch.no_grad():
        chosen = {name: tensor[part].to(module.device) for name, tensor in inputs.items()}
        if module.graph.takes_sets:
            chosen = {name: tensor.squeeze(0) for name, tensor in chosen.items()}
        return module.run(chosen, sorted(wanted))


def _scale(
    module: OnnxModule, effort: _Effort, signals: Sequence[Signal], inputs: dict[str, Tensor], until: float
) -> None:
    """Take all inputs that move to the range that fits best, in place, each channel by its own gain and offset."""
    channels = {
        signal.name: tuple(1 if axis in (0, *signal.spatial) else size for axis, size in enumerate((1, *signal.shape)))
        for signal in signals
        if signal.name in effort.moving
    }
    batch = {name: tensor[: min(_SCALE_SAMPLES, effort.batch)].to(module.device) for name, tensor in inputs.items()}
    first = effort.stored[:1]  # what a node deep in the network reads says little about the range of the inputs
    for name, (gain, offset) in match_scale(module, first, batch, channels, _SCALE_STEPS, until).items():
        inputs[name].mul_(gain.cpu()).add_(offset.cpu())


def _fit(module: OnnxModule, effort: _Effort, inputs: dict[str, Tensor], until: float) -> int:
    """Fit the first ``effort.samples`` inputs, in place, in batches of even size; return how many were."""
    batches = -(-effort.samples // effort.batch)
    for rows in np.array_split(np.arange(effort.samples), batches):
        if rows[0] and time.monotonic() > until:
            return int(rows[0])
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        batch = {name: tensor[part].to(module.device) for name, tensor in inputs.items()}
        match_statistics(module, effort.stored, batch, effort.moving, effort.steps, until)
        for name in effort.moving:
            inputs[name][part] = batch[name].cpu()
    return effort.samples


def _spread(signals: Sequence[Signal], inputs: dict[str, Tensor], fitted: int, generator: torch.Generator) -> None:
    """Overwrite the inputs beyond the first ``fitted`` by copies of those, images mirrored and shifted."""
    for row in range(fitted, len(next(iter(inputs.values())))):
        for signal in signals:
            copy = inputs[signal.name][row % fitted]
            if signal.meaning == "image":
                axes = [axis - 1 for axis in signal.spatial]
                reach = [max(1, copy.shape[axis] // 16) for axis in axes]
                shifts = [int(torch.randint(-limit, limit + 1, (), generator=generator)) for limit in reach]
                copy = (copy.flip(axes[-1]) if row // fitted % 2 else copy).roll(shifts, axes)
            inputs[signal.name][row] = copy


def _source(signals: Sequence[Signal], effort: _Effort | None, count: int) -> str:
    words = {"image": "images of pink noise", "noise": "Gaussian noise", "ids": "random ids", "mask": "masks"}
    words["scalar"] = "numbers from 0 to 1"
    parts = [f"{signal.name} {list(signal.sample)} {words[signal.meaning]}" for signal in signals]
    text = f"{count:,} synthetic inputs ({', '.join(parts)}"
    if effort is not None:
        which = "" if effort.samples == count else f"{effort.samples:,} of them "
        text += f"; {which}fitted to the statistics stored in {len(effort.stored)} BatchNormalization nodes"
        text += "" if effort.samples == count else ", the others mirrored and shifted copies"
    free = [item for signal in signals for item in signal.free]
    if free:
        text += f"; dimensions that the model leaves open were taken as {', '.join(free)}"
    return text + "); accuracy on real data was not measured"
