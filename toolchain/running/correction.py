"""Bias correction: what 8-bit activations move the mean of a layer's outputs by goes into its bias."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from passes.reconstruction.layers import Layer, find_layers
from toolchain.formats import TensorFormat
from toolchain.module import OnnxModule

Batches = Sequence[Mapping[str, np.ndarray]]


@dataclass(eq=False)
class Correction:
    """Moves biases, or the means of the normalizations that stand in for them, and can take that back.

    Layers are taken in the order of the graph, each with those before it corrected already: so every layer answers for
    its own error and for what no layer before it could mend (Nagel et al. 2019, section 4.2).

    Attributes:
        module: in evaluation mode, its weights in their formats.
        batches: model inputs that means are taken over.
        before: what was moved, as it was.
    """

    module: OnnxModule
    batches: Batches
    before: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def correct(self, nodes: Sequence[str], activations: Mapping[str, TensorFormat], seconds: float) -> None:
        """Let the nodes answer in the mean as they do with float activations.

        Args:
            nodes: names of those that run in int8.
            activations: the formats of the values that are rounded for them.
            seconds: after which no further layer is taken.
        """
        layers, until = self._layers(nodes), time.monotonic() + seconds
        formats = self.module.formats
        plain = {name: found for name, found in formats.items() if name in self.module.graph.initializers}
        try:
            self.module.formats = plain
            wanted = self._means(layers)
            self.module.formats = plain | dict(activations)
            for layer in layers:
                if time.monotonic() > until:
                    break
                self._move(layer, self._means([layer])[layer.weight] - wanted[layer.weight])
        finally:
            self.module.formats = formats

    @torch.no_grad()
    def undo(self) -> None:
        """Put everything back as it was."""
        for name, value in self.before.items():
            self.module.tensor(name).copy_(value)
        self.before.clear()

    def _layers(self, nodes: Sequence[str]) -> list[Layer]:
        weights = [node.inputs[1] for node in self.module.graph.nodes if node.name in set(nodes)]
        return [layer for layer in find_layers(self.module.graph, weights)[0] if layer.centered]

    def _means(self, layers: Sequence[Layer]) -> dict[str, Tensor]:
        """Return the mean of every output channel, ``[C]`` by weight name, as the module computes them now."""
        values = {layer.weight: layer.node.outputs[0] for layer in layers}
        sums: dict[str, Tensor] = {}
        for batch in self.batches:
            found = self.module.run(batch, list(values.values()))
            for layer in layers:
                axis = 1 if layer.layout.kernel else -1
                mean = found[values[layer.weight]].movedim(axis, 0).flatten(1).double().mean(1)
                sums[layer.weight] = sums.get(layer.weight, torch.zeros_like(mean)) + mean
        return {name: total / len(self.batches) for name, total in sums.items()}

    def _move(self, layer: Layer, moved: Tensor) -> None:
        """Take ``moved`` from a layer's outputs; a mean is subtracted by its normalization, a bias is added."""
        name = layer.bias or layer.mean
        tensor = self.module.tensor(name)
        self.before.setdefault(name, tensor.detach().clone())
        tensor.add_(torch.nan_to_num(moved).to(tensor.dtype) * (-1.0 if layer.bias else 1.0))
