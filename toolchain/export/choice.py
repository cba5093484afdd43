"""Chooses kernels by measured time."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnxruntime

from toolchain.errors import ExportError
from toolchain.export.assignments import (
    Assignment,
    Times,
    candidates,
    first_permitted,
    joint_flips,
    single_flips,
)
from toolchain.export.layers import LAYER_SECONDS, Layer, find_layers, sample_values, time_layer, with_activations
from toolchain.export.runs import STATIC
from toolchain.export.sessions import open_session, time_interleaved
from toolchain.export.targets import TARGETS, Activations, Objective, TargetName
from toolchain.export.writer import write_model
from toolchain.module import OnnxModule

# What is not float must beat it by more than the noise of the measurement.
_MARGIN = 0.97
_FLIP_MARGIN = 0.99  # a layer's other kernel is taken for at least this
_SECONDS = 3.0
_FLIP_SECONDS = 8.0  # for trying layers' other kernels in the whole model, together and again one by one
_ALONE_SECONDS = 20.0  # for timing layers alone, in all


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


@dataclass(frozen=True)
class Wish:
    """What the user wants of the file.

    Attributes:
        kernel: ``"auto"``, or one that is taken wherever it is possible, without timing.
        threads: of the timed sessions.
        target: a key of ``TARGETS``.
        objective: whether the fastest or the smallest file is taken.
        activations: ``"static"`` lets kernels round them to 8 bits, ``"dynamic"`` by the range of every run alone,
            ``"none"`` leaves them float.
    """

    kernel: str = "auto"
    threads: int = 1
    target: TargetName = "cpu"
    objective: Objective = "latency"
    activations: Activations = "static"

    def objections(self) -> dict[str, str]:
        """Return why a kernel is not used whatever the node, by its name."""
        found = dict(TARGETS[self.target].without)
        if self.activations == "none":
            found |= dict.fromkeys((*STATIC, "nbits", "dynamic"), "activations are to stay float")
        if self.activations == "dynamic":
            found |= dict.fromkeys(STATIC, "activations are to be rounded by their range in every run")
        return found


def could_be_int8(module: OnnxModule, wish: Wish) -> tuple[str, ...]:
    """Return the names of the nodes that may run in int8 by their formats and the wish."""
    if "int8" in wish.objections() or wish.kernel not in ("auto", *STATIC):
        return ()
    return tuple(node.name for layer in find_layers(module) if "int8" in layer.kernels for node in layer.nodes)


def kernel_names(choices: Mapping[str, KernelChoice]) -> dict[str, str]:
    """Return a kernel by node name, as ``write_model`` takes them."""
    return {node: choice.kernel for node, choice in choices.items()}


def choose_kernels(
    module: OnnxModule,
    sample: Mapping[str, np.ndarray],
    wish: Wish,
    keep_float: Mapping[str, str] | None = None,
    pace: float = 1.0,
) -> dict[str, KernelChoice]:
    """Return a kernel for every node with a compressed weight.

    Every layer is timed alone by each kernel that its format permits; then the whole model is timed with all layers in
    float, with each layer's fastest kernel, and with the integer and gathered kernels wherever they are possible. From
    the fastest of these on, layers change to their other kernels one by one, in place, where the whole becomes faster.
    What comes out is timed against float once more, and float is taken unless it is slower. Activations without a
    format are rounded by the range that the sample shows.

    Args:
        module: in evaluation mode, its weights in their formats; neither is changed.
        sample: one batch of model inputs, of the size for which latency matters.
        wish: what is wanted.
        keep_float: why a node must not have 8-bit activations, by its name.
        pace: part of the time that trying kernels may take where time is not short; what is compared at the end always
            takes as long as it needs.

    Raises:
        ExportError: the model does not run in ONNX Runtime with float kernels.
    """
    target = TARGETS[wish.target]
    layers = [_permitted(layer, wish.objections(), keep_float or {}) for layer in find_layers(module)]
    if wish.kernel != "auto":
        return _spread(layers, {layer.weight: _asked(layer, wish.kernel) for layer in layers})
    open_layers = [layer for layer in layers if len(layer.kernels) > 1]
    choices = {layer.weight: _only_float(layer) for layer in layers}
    if not open_layers:
        return _spread(layers, choices)
    if not target.can_be_timed:
        reason = f"not measured: the installed ONNX Runtime has no {target.provider}"
        choices |= {
            layer.weight: KernelChoice(first_permitted(layer, layer.kernels[::-1], layer.kernels), reason)
            for layer in open_layers
        }
        return _spread(layers, choices)
    choices |= _Bench(module, open_layers, sample, wish, pace).choose()
    return _spread(layers, choices)


def _permitted(layer: Layer, without: Mapping[str, str], keep_float: Mapping[str, str]) -> Layer:
    """Return the layer without the kernels that the target does not have or that its accuracy rules out."""
    hurt = next((keep_float[node.name] for node in layer.nodes if node.name in keep_float), "")
    without = {**without, **(dict.fromkeys((*STATIC, "dynamic"), hurt) if hurt else {})}
    gone = [name for name in layer.kernels if name in without]
    objections = tuple(dict.fromkeys((*(without[name] for name in gone), *layer.objections)))
    return replace(layer, kernels=tuple(name for name in layer.kernels if name not in without), objections=objections)


def _spread(layers: Sequence[Layer], choices: Mapping[str, KernelChoice]) -> dict[str, KernelChoice]:
    return {node.name: choices[layer.weight] for layer in layers for node in layer.nodes}


def _asked(layer: Layer, wanted: str) -> KernelChoice:
    return KernelChoice(wanted, "asked for") if wanted in layer.kernels else _only_float(layer)


def _only_float(layer: Layer) -> KernelChoice:
    return KernelChoice("float", "; ".join(layer.objections))


@dataclass
class _Bench:
    """Times whole models that differ in the kernels of their layers.

    Attributes:
        module: the model.
        layers: with more than one kernel.
        sample: what every run is fed.
        wish: what is wanted.
        pace: part of the usual time that trying kernels may take.
        values: of the sample, by name, that ranges are taken from.
    """

    module: OnnxModule
    layers: Sequence[Layer]
    sample: Mapping[str, np.ndarray]
    wish: Wish
    pace: float = 1.0
    values: Mapping[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        """Run the sample once."""
        self.values = sample_values(self.module, self.layers, self.sample)

    def choose(self) -> dict[str, KernelChoice]:
        """Return the kernel of every layer, by its weight."""
        seconds = min(LAYER_SECONDS, self.pace * _ALONE_SECONDS / len(self.layers))
        provider, threads = TARGETS[self.wish.target].provider, self.wish.threads
        alone = {
            layer.weight: time_layer(self.module, layer, self.values, threads, seconds, provider)
            for layer in self.layers
        }
        wholes = candidates(self.layers, alone)
        floats = self._load(wholes[0])
        tried = {index: self._try(candidate) for index, candidate in enumerate(wholes) if index}
        sessions = {0: floats} | {index: found for index, found in tried.items() if not isinstance(found, str)}
        failure = next((found for found in tried.values() if isinstance(found, str)), "")
        if failure and len(sessions) == 1:
            return dict.fromkeys(alone, KernelChoice("float", f"nothing else can be written: {failure}"))
        times = self._time(sessions)
        if self.wish.objective == "size":
            best, note = self._smallest(wholes, times)
        else:
            index = min(times, key=lambda index: times[index])
            session = sessions[index]
            sessions.clear()
            best, session = self._improve(wholes[index], session, alone)
            best, note = self._judge(best, session, floats, wholes[0])
        return {
            weight: KernelChoice(best[weight], _reason(best[weight], took, note), took)
            for weight, took in alone.items()
        }

    def _kernels(self, candidate: Assignment) -> dict[str, str]:
        return {node.name: candidate[layer.weight] for layer in self.layers for node in layer.nodes}

    def _write(self, candidate: Assignment, packs: bool = False) -> onnx.ModelProto:
        kernels = self._kernels(candidate)
        return write_model(with_activations(self.module, kernels, self.values), kernels, packs).proto

    def _load(self, candidate: Assignment) -> onnxruntime.InferenceSession:
        proto = self._write(candidate)
        return open_session(proto, self.wish.threads, provider=TARGETS[self.wish.target].provider)

    def _try(self, candidate: Assignment) -> onnxruntime.InferenceSession | str:
        """Return a session of the whole model, or why it cannot be written or loaded."""
        try:
            return self._load(candidate)
        except ExportError as error:
            return str(error)

    def _time(
        self, sessions: Mapping[int, onnxruntime.InferenceSession], seconds: float | None = None
    ) -> dict[int, float]:
        """Return the milliseconds of one run by key."""
        taken = time_interleaved(list(sessions.values()), self.sample, _SECONDS if seconds is None else seconds)
        return dict(zip(sessions, taken, strict=True))

    def _improve(
        self, best: Assignment, session: onnxruntime.InferenceSession, alone: Times
    ) -> tuple[Assignment, onnxruntime.InferenceSession]:
        """Change layers to other kernels where the whole model is faster by it: all of a resolution, then one by one.

        Between neighbours in one kernel nothing is brought into another layout, which none of them shows alone.
        """
        resolutions: dict[tuple[int, ...], list[str]] = {}
        for layer in self.layers:
            resolutions.setdefault(self.values[layer.nodes[0].inputs[0]].shape[2:], []).append(layer.weight)
        best, session = self._change(best, session, joint_flips(resolutions.values(), best, alone))
        return self._change(best, session, single_flips(best, alone))

    def _change(
        self, best: Assignment, session: onnxruntime.InferenceSession, flips: Iterable[Assignment]
    ) -> tuple[Assignment, onnxruntime.InferenceSession]:
        """Make those of the changes that make the whole model faster; there is no time for all of a deep one."""
        until = time.monotonic() + self.pace * _FLIP_SECONDS
        for flip in flips:
            if time.monotonic() > until:
                break
            changed = {**best, **flip}
            other = self._try(changed)
            if isinstance(other, str):
                continue
            times = self._time({0: session, 1: other}, _SECONDS / 6)
            if times[1] < _FLIP_MARGIN * times[0]:
                best, session = changed, other
        return best, session

    def _judge(
        self,
        best: Assignment,
        session: onnxruntime.InferenceSession,
        floats: onnxruntime.InferenceSession,
        plain: Assignment,
    ) -> tuple[Assignment, str]:
        """Return the assignment unless the whole is no faster than with float kernels, and a sentence on it."""
        kinds = "/".join(sorted(set(best.values())))
        if best == plain:
            return plain, "no mix of kernels runs the whole model faster than float"
        times = self._time({0: floats, 1: session})
        if times[1] > _MARGIN * times[0]:
            return plain, f"the whole model runs {times[0]:.2f} ms in float, {times[1]:.2f} ms with {kinds}"
        return best, f"the whole model runs {times[1]:.2f} ms with {kinds}, {times[0]:.2f} ms in float"

    def _smallest(self, wholes: Sequence[Assignment], times: Mapping[int, float]) -> tuple[Assignment, str]:
        """Return the candidate of the fewest bytes; of those within a hundredth of it the fastest."""
        sizes = {index: self._write(wholes[index], packs=True).ByteSize() for index in times}
        near = [index for index, size in sizes.items() if size <= 1.01 * min(sizes.values())]
        best = min(near, key=lambda index: times[index])
        note = f"the smallest file has {sizes[best]:,} bytes and runs {times[best]:.2f} ms, {times[0]:.2f} ms in float"
        return wholes[best], note


def _reason(kernel: str, times: Mapping[str, float], note: str) -> str:
    others = ", ".join(f"{name} {took:.2f} ms" for name, took in times.items() if name != kernel)
    if kernel != "float" and times[kernel] < times["float"]:
        ratio = times["float"] / times[kernel]
        return f"{kernel} {ratio:.1f}x faster than float ({times['float']:.2f} -> {times[kernel]:.2f} ms)"
    if kernel == min(times, key=lambda name: times[name]):
        return f"{kernel} is fastest ({times[kernel]:.2f} ms; {others})"
    return f"{note} (this layer alone: {kernel} {times[kernel]:.2f} ms, {others})"
