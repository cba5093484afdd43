"""Chooses kernels by measured time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from toolchain.errors import ExportError
from toolchain.export.layers import Layer, find_layers, sample_values, time_layer, with_activations
from toolchain.export.sessions import open_session, time_interleaved
from toolchain.export.writer import write_model
from toolchain.module import OnnxModule

# What is not float must beat it by more than the noise of the measurement.
_MARGIN = 0.97
_SECONDS = 3.0

Assignment = Mapping[str, str]  # kernel by weight name


@dataclass(frozen=True)
class KernelChoice:
    """The kernel of one node, and the measurement or rule that decided.

    Attributes:
        kernel: key of ``KERNELS``.
        reason: in words.
        alone_ms: what the layer takes alone by each kernel that was timed.
    """

    kernel: str
    reason: str
    alone_ms: Mapping[str, float] = field(default_factory=dict)


def choose_kernels(
    module: OnnxModule, sample: Mapping[str, np.ndarray], threads: int, wanted: str = "auto"
) -> dict[str, KernelChoice]:
    """Return a kernel for every node with a compressed weight.

    Every layer is timed alone by each kernel that its format permits; then the whole model is timed with all layers in
    float, with each layer's fastest kernel, and with the integer and gathered kernels wherever they are possible, and
    the fastest whole model is taken. Activations without a format are rounded by the range that the sample shows.

    Args:
        module: in evaluation mode, its weights in their formats; neither is changed.
        sample: one batch of model inputs, of the size for which latency matters.
        threads: of the timed sessions.
        wanted: ``"auto"``, or a kernel that is taken wherever it is possible, without timing.

    Raises:
        ExportError: the model does not run in ONNX Runtime with float kernels.
    """
    layers = find_layers(module)
    if wanted != "auto":
        return _spread(layers, {layer.weight: _asked(layer, wanted) for layer in layers})
    open_layers = [layer for layer in layers if len(layer.kernels) > 1]
    if not open_layers:
        return _spread(layers, {layer.weight: _only_float(layer) for layer in layers})
    values = sample_values(module, open_layers, sample)
    alone = {layer.weight: time_layer(module, layer, values, threads) for layer in open_layers}
    candidates = _candidates(open_layers, alone)
    times = _time_models(module, open_layers, candidates, (sample, values), threads)
    best = min(times, key=lambda index: times[index])
    if times[best] > _MARGIN * times[0]:
        best = 0
    note = _whole_model_note(candidates, times, best)
    reasons = {layer.weight: _only_float(layer) for layer in layers}
    for layer in open_layers:
        kernel = candidates[best][layer.weight]
        took = alone[layer.weight]
        reasons[layer.weight] = KernelChoice(kernel, _reason(kernel, took, note), took)
    return _spread(layers, reasons)


def _spread(layers: Sequence[Layer], choices: Mapping[str, KernelChoice]) -> dict[str, KernelChoice]:
    return {node.name: choices[layer.weight] for layer in layers for node in layer.nodes}


def _asked(layer: Layer, wanted: str) -> KernelChoice:
    return KernelChoice(wanted, "asked for") if wanted in layer.kernels else _only_float(layer)


def _only_float(layer: Layer) -> KernelChoice:
    return KernelChoice("float", "; ".join(layer.objections))


def _candidates(layers: Sequence[Layer], alone: Mapping[str, Mapping[str, float]]) -> list[Assignment]:
    """Return the whole models to time, all float first, each once."""
    found: list[Assignment] = [{layer.weight: "float" for layer in layers}]
    fastest = {weight: min(times, key=lambda kernel: times[kernel]) for weight, times in alone.items()}
    found.append(fastest)
    found.extend(
        {layer.weight: next((name for name in order if name in alone[layer.weight]), "float") for layer in layers}
        for order in (("int8",), ("nbits",), ("nbits", "int8"), ("gathered",), ("gathered", "nbits", "int8"))
    )
    return [item for index, item in enumerate(found) if item not in found[:index]]


def _time_models(
    module: OnnxModule,
    layers: Sequence[Layer],
    candidates: Sequence[Assignment],
    feeds: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    threads: int,
) -> dict[int, float]:
    """Return the milliseconds of one run by candidate; what cannot be written or loaded is left out."""
    sample, values = feeds
    sessions = {}
    for index, candidate in enumerate(candidates):
        kernels = {node.name: candidate[layer.weight] for layer in layers for node in layer.nodes}
        try:
            written = write_model(with_activations(module, kernels, values), kernels)
            sessions[index] = open_session(written.proto, threads)
        except ExportError:
            if index == 0:
                raise
    return dict(zip(sessions, time_interleaved(list(sessions.values()), sample, _SECONDS), strict=True))


def _reason(kernel: str, times: Mapping[str, float], note: str) -> str:
    others = ", ".join(f"{name} {took:.2f} ms" for name, took in times.items() if name != kernel)
    if kernel != "float" and times[kernel] < times["float"]:
        ratio = times["float"] / times[kernel]
        return f"{kernel} {ratio:.1f}x faster than float ({times['float']:.2f} -> {times[kernel]:.2f} ms)"
    if kernel == min(times, key=lambda name: times[name]):
        return f"{kernel} is fastest ({times[kernel]:.2f} ms; {others})"
    return f"{note} (this layer alone: {kernel} {times[kernel]:.2f} ms, {others})"


def _whole_model_note(candidates: Sequence[Assignment], times: Mapping[int, float], best: int) -> str:
    """Say how the chosen whole model compares with the float one, or with the best other if float was chosen."""
    if best == 0:
        other = min(times.keys() - {0}, key=lambda index: times[index], default=0)
        kinds = "/".join(sorted(set(candidates[other].values())))
        return f"the whole model runs {times[0]:.2f} ms in float, {times[other]:.2f} ms with {kinds}"
    kinds = "/".join(sorted(set(candidates[best].values())))
    return f"the whole model runs {times[best]:.2f} ms with {kinds}, {times[0]:.2f} ms in float"
