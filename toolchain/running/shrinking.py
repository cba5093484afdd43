"""The step of a run that takes channels out of the model on which nothing depends any more."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial

import torch

from toolchain.channels import ChannelGroup, find_channels, trace
from toolchain.channels.modules import dead_channels, shrink_module
from toolchain.channels.space import Axis
from toolchain.errors import ModelError
from toolchain.execution.trainable import usable_weights
from toolchain.graph import Graph, find_weights
from toolchain.graph.layout import find_layouts
from toolchain.graph.weights import weight_inputs
from toolchain.module import OnnxModule
from toolchain.planning.plan import Plan
from toolchain.running.run import Run

# Convolutions of a number of channels that is no multiple of this leave the runtime's blocked kernels. Four of 3x3 at
# 16x16 with 64 channels, against that (onnxruntime 1.31, one thread of an AVX-512 CPU): 63 channels 0.76x as fast, 61
# 0.80x, 60, 56 and 52 1.00x, 50 1.12x, 48 1.75x.
CONVOLUTION_MULTIPLE = 4
CONVOLUTION_RANK = 3


def remove_dead(plan: Plan, run: Run) -> None:
    """Replace the module of ``run`` by one without dead channels; it computes what it did.

    Nothing changes where there are none, or where the model cannot be traced. Kept weights that go out are counted in
    ``run.done.dead``: pruning kept them, and its count is exact only with them.
    """
    trainer = run.trainer
    module, sample = trainer.module.eval(), trainer.example()
    try:
        channels = find_channels(trace(module, sample))
    except ModelError:
        return
    rounded = {
        name: group.structure.sizes[0]
        for group in (plan.prune.groups if plan.prune is not None else ())
        for name in group.names
        if group.structure.by_channel
    }
    stay = partial(_stay, module.graph, _whole_dimensions(plan, run), rounded)
    dead = dead_channels(module, channels, sample, stay)
    if not dead.channels:
        return
    with torch.no_grad():
        for name, bias in dead.biases.items():
            module.tensor(name).copy_(torch.from_numpy(bias))
    trainer.module = shrink_module(module, channels, dead.channels)
    run.done.removed.append({name: indices.tolist() for name, indices in dead.channels.items()})
    names = [weight.name for weight in usable_weights(module.graph) if not weight.reason]
    left = _kept(trainer.module, names)
    for name, count in _kept(module, names).items():
        run.done.dead[name] = run.done.dead.get(name, 0) + count - left[name]


def _kept(module: OnnxModule, names: Iterable[str]) -> dict[str, int]:
    """Return how many weights of every tensor its mask keeps, or are not zero where it has none."""
    masks = {name: fmt.mask for name, fmt in module.formats.items() if fmt.mask is not None}
    return {name: int(torch.count_nonzero(masks.get(name, module.tensor(name)))) for name in names}


def _stay(graph: Graph, whole: AbstractSet[Axis], rounded: Mapping[str, int], group: ChannelGroup, needed: int) -> int:
    """Return how many channels of a group stay."""
    if any((part.tensor, part.axis) in whole for part in group.slices):
        return group.count
    multiples = {rounded[part.tensor] for part in group.slices if part.tensor in rounded}
    convolved = any(len(graph.initializers.shape(part.tensor)) >= CONVOLUTION_RANK for part in group.slices)
    multiple = max(multiples, default=CONVOLUTION_MULTIPLE if convolved else 1)
    return min(group.count, -(-needed // multiple) * multiple)


def _whole_dimensions(plan: Plan, run: Run) -> set[Axis]:
    """Return the dimensions that are not cut: what a structure or a kernel counts in."""
    graph = run.trainer.module.graph
    groups = plan.prune.groups if plan.prune is not None else ()
    structures = {name: group.structure.kind for group in groups for name in group.names}
    whole = set()
    for name, layout in find_layouts(graph, find_weights(graph)).items():
        if structures.get(name) == "groups":
            whole.add((name, layout.outputs))
        if structures.get(name) == "n:m":
            whole.add((name, layout.inputs))
    for node in graph.walk():
        if node.name in run.done.kernels and run.done.kernels[node.name].kernel not in ("float", "int8"):
            names = [node.inputs[position] for position in weight_inputs(node)]
            whole |= {(name, axis) for name in names if name in graph.initializers for axis in (0, 1)}
    return whole
