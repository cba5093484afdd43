"""What one run of a model tells about its values: shapes, and whole numbers such as the entries of shapes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolchain.graph import Graph
from toolchain.module import OnnxModule

# Elements of a value that is kept: shapes, axes, indices, bounds.
LARGEST_KEPT = 4096


@dataclass(frozen=True, eq=False)
class Trace:
    """A run of ``graph`` on one sample.

    Attributes:
        graph: the model that was run.
        shapes: of every tensor, initializers included; sequences, maps and what was left out are not there.
        numbers: small whole-number values, as they were in this run.
        folded: those among ``numbers`` that the graph computes from constants.
    """

    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]
    numbers: Mapping[str, np.ndarray]
    folded: frozenset[str]

    def constant(self, name: str) -> np.ndarray | None:
        """Return a small value that is the same in every run; None where it is large or computed from inputs."""
        known = self.graph.initializers
        if name in known:
            return known[name] if known.size(name) <= LARGEST_KEPT else None
        return self.numbers[name] if name in self.folded else None


def trace(module: OnnxModule, sample: Mapping[str, Tensor | np.ndarray]) -> Trace:
    """Run the module on ``sample``, an array per graph input, and note what its values look like.

    Raises:
        ModelError: the sample does not fit the model.
    """
    graph = module.graph
    names = {name for node in graph.nodes for name in node.outputs if name} | {value.name for value in graph.inputs}
    with torch.no_grad():
        values = module.run(sample, sorted(names - _not_given(module)))
    shapes = {name: graph.initializers.shape(name) for name in graph.initializers}
    shapes |= {name: tuple(value.shape) for name, value in values.items() if isinstance(value, Tensor | np.ndarray)}
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    numbers = {
        name: value.cpu().numpy()
        for name, value in tensors.items()
        if not value.is_floating_point() and not value.is_complex() and value.numel() <= LARGEST_KEPT
    }
    folded = module.program.constants.keys()
    return Trace(graph, shapes, numbers, frozenset(folded & numbers.keys()))


def _not_given(module: OnnxModule) -> set[str]:
    """Return the values that no step makes: outputs that the module leaves out, as those of training."""
    made = {name for step in module.program.steps for name in step.outputs} | module.program.constants.keys()
    return {name for node in module.graph.nodes for name in node.outputs} - made
