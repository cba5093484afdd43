"""``OnnxModule``: an ONNX graph as a trainable torch module."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from toolchain.errors import ModelError, nearest
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, Node
from toolchain.ops import Implementation, check_supported, find, to_tensor

# Elementwise operands train only as biases and scales, with one dimension other than 1: a matrix that is added or
# multiplied is as a rule a mask or a table of positions, which must not move.
TRAINABLE_VECTORS = {"Add": (0, 1), "Mul": (0, 1), "Sub": (1,)}

# What an operator takes for an input: a tensor, a list where it wants plain numbers, None where it is left out.
Argument = Tensor | list[int] | list[float] | None


class OnnxModule(nn.Module):
    """Runs an ONNX graph in PyTorch and owns its weights under their initializer names.

    Always true: in evaluation mode the outputs equal ONNX Runtime's on the graph; an initializer that several nodes
    share is one parameter; every value that has a format lies in it, ``formats[name].project(w) == w`` bit for bit.

    Attributes:
        graph: the model, never changed.
        formats: by value name; of weights, and of activations that a kernel wants in 8 bits.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        check_supported(graph.nodes)
        self.graph = graph
        self.formats: dict[str, TensorFormat] = {}
        self._steps = [(node, _implementation(node)) for node in graph.nodes]
        self._last_use = _last_uses(graph)
        trainable = _trainable(self._steps, graph)
        # torch forbids "." in parameter names and ONNX uses it, so the attribute names are numbered.
        self._attributes: dict[str, str] = {}
        self._constants: dict[str, Tensor] = {}
        for number, (name, array) in enumerate(graph.initializers.items()):
            tensor = _tensor(name, array)
            if name in trainable:
                self._attributes[name] = f"weight_{number}"
                self.register_parameter(f"weight_{number}", nn.Parameter(tensor))
            elif tensor.is_floating_point():
                self._attributes[name] = f"buffer_{number}"
                self.register_buffer(f"buffer_{number}", tensor)
            else:
                self._constants[name] = tensor  # integers are shapes and indices: they stay on the CPU

    def weights(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by initializer name."""
        return {name: value for name in self._attributes if isinstance(value := self.tensor(name), nn.Parameter)}

    def buffers_by_name(self) -> dict[str, Tensor]:
        """Return the float initializers that do not train, such as running statistics, by initializer name."""
        return {name: value for name in self._attributes if not isinstance(value := self.tensor(name), nn.Parameter)}

    def tensor(self, name: str) -> Tensor:
        """Return the parameter, buffer or constant that holds initializer ``name``."""
        if name in self._constants:
            return self._constants[name]
        value: Tensor = getattr(self, self._attributes[name])
        return value

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return next((tensor.device for tensor in self.parameters()), torch.device("cpu"))

    def move_to(self, device: torch.device) -> None:
        """Move the weights and the formats that they lie in."""
        self.to(device)
        self.formats.update({name: tensor_format.to(device) for name, tensor_format in self.formats.items()})

    def forward(self, inputs: Mapping[str, Tensor | np.ndarray]) -> dict[str, Tensor]:
        """Run the graph.

        Args:
            inputs: a tensor or array per graph input name.

        Returns:
            A tensor per graph output name.

        Raises:
            ModelError: an input is missing, or an operator fails on what it is given.
        """
        return self.run(inputs, [value.name for value in self.graph.outputs])

    def run(self, inputs: Mapping[str, Tensor | np.ndarray], wanted: list[str]) -> dict[str, Tensor]:
        """Run the graph and return the ``wanted`` values, which may be any in the graph.

        Raises:
            ModelError: an input is missing, an operator fails on what it is given, or no value has a wanted name.
        """
        device = self.device
        values = self._initial_values(inputs, device)
        keep = set(wanted)
        found = {name: values[name] for name in keep & values.keys()}
        for position, (node, implementation) in enumerate(self._steps):
            if len(found) == len(keep):
                break
            for name, result in zip(node.outputs, self._call(node, implementation, values, device), strict=False):
                values[name] = self._on_grid(name, result)
                if name in keep:
                    found[name] = values[name]
            for name in self._last_use.get(position, ()):
                values.pop(name, None)
        for name in keep - found.keys():
            known = {output for node in self.graph.nodes for output in node.outputs}
            raise ModelError(f"no value of the graph is named {name!r}", hint=nearest(name, known))
        return {name: found[name] for name in wanted}

    def _initial_values(self, inputs: Mapping[str, Tensor | np.ndarray], device: torch.device) -> dict[str, Tensor]:
        """Return what is there before the first node runs: the initializers and the inputs."""
        values = {name: self.tensor(name) for name in self.graph.initializers}
        for value in self.graph.inputs:
            if value.name not in inputs:
                raise ModelError(f"the graph needs input {value.name!r}, got {', '.join(inputs) or 'none'}")
            values[value.name] = self._on_grid(value.name, _on_device(inputs[value.name], device))
        return values

    def _on_grid(self, name: str, value: Tensor) -> Tensor:
        if name not in self.formats or name in self._attributes:
            return value  # weights are kept in their format by whoever changes them
        # Straight-through: the value is quantized, the gradient passes as if it were not.
        projected = self.formats[name].project(value)
        return value + (projected - value).detach() if value.requires_grad else projected

    def _call(
        self, node: Node, implementation: Implementation, values: Mapping[str, Tensor], device: torch.device
    ) -> tuple[Tensor, ...]:
        arguments: list[Argument] = [
            _argument(values[name], implementation.lists.get(position)) if name else None
            for position, name in enumerate(node.inputs)
        ]
        if device.type != "cpu":
            arguments = _together(arguments, device)
        context = {"training": self.training, "output_count": len(node.outputs)}
        keywords = {key: context[key] for key in implementation.context}
        try:
            result = implementation.function(*arguments, **node.attributes, **keywords)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            shapes = ", ".join(f"{name}{list(values[name].shape)}" for name in node.inputs if name)
            raise ModelError(f"{node.op} node {node.name!r} failed on inputs {shapes}: {error}") from error
        return result if isinstance(result, tuple) else (result,)


def _tensor(name: str, array: np.ndarray) -> Tensor:
    try:
        return to_tensor(array)
    except ValueError as error:
        raise ModelError(f"initializer {name!r} cannot be imported: {error}") from error


def _on_device(value: Tensor | np.ndarray, device: torch.device) -> Tensor:
    return value if isinstance(value, Tensor) else to_tensor(value).to(device)


def _argument(value: Tensor, number: type[int] | type[float] | None) -> Tensor | list[int] | list[float]:
    """Return an input as its operator takes it: a tensor, or a list of ``number``."""
    return value if number is None else [number(item) for item in value.reshape(-1).tolist()]


def _together(arguments: list[Argument], device: torch.device) -> list[Argument]:
    """Move arguments to ``device`` where one of them is there already; shapes stay on the CPU among themselves."""
    if not any(isinstance(argument, Tensor) and argument.device.type != "cpu" for argument in arguments):
        return arguments
    return [argument.to(device) if isinstance(argument, Tensor) else argument for argument in arguments]


def _implementation(node: Node) -> Implementation:
    found = find(node)
    if found is None:
        raise ModelError(f"operator {node.op} of node {node.name!r} cannot be imported")
    try:
        found.signature.bind(*node.inputs, **node.attributes, **dict.fromkeys(found.context))
    except TypeError as error:
        raise ModelError(f"{node.op} node {node.name!r} does not fit its operator: {error}") from error
    return found


def _trainable(steps: list[tuple[Node, Implementation]], graph: Graph) -> set[str]:
    found = set()
    for node, implementation in steps:
        vectors = TRAINABLE_VECTORS.get(node.op, ())
        for position, name in enumerate(node.inputs):
            array = graph.initializers.get(name)
            if array is None or array.dtype != np.float32 or array.size < 2:
                continue
            if position in implementation.trainable or (position in vectors and _is_vector(array)):
                found.add(name)
    return found


def _is_vector(array: np.ndarray) -> bool:
    return max(array.shape) == array.size and bool(np.isfinite(array).all())


def _last_uses(graph: Graph) -> dict[int, list[str]]:
    """Return which values are read for the last time by each node position, so that memory is given back early."""
    last = {name: position for position, node in enumerate(graph.nodes) for name in (*node.inputs, *node.outputs)}
    found: dict[int, list[str]] = {}
    for name, position in last.items():
        found.setdefault(position, []).append(name)
    return found
