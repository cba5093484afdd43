"""``OnnxModule``: an ONNX graph as a trainable torch module."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolchain.errors import ModelError, nearest
from toolchain.execution.feeds import on_device, take_inputs
from toolchain.execution.islands import Content
from toolchain.execution.program import resolve
from toolchain.execution.step import FAILURES, Step
from toolchain.execution.trainable import trainable_weights
from toolchain.formats import TensorFormat
from toolchain.graph import Body, Graph
from toolchain.ops import to_tensor


class OnnxModule(nn.Module):
    """Runs an ONNX graph in PyTorch and owns its weights under their initializer names.

    Always true: in evaluation mode the outputs equal ONNX Runtime's on the graph; an initializer that several nodes
    share is one parameter; every weight that has a format lies in it, ``formats[name].project(w) == w`` bit for bit.

    Attributes:
        graph: the model, never changed.
        formats: by value name; of weights, and of activations that a kernel wants in 8 bits.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.program = resolve(graph)
        self.formats: dict[str, TensorFormat] = {}
        trainable = trainable_weights(self.program, graph)
        # torch forbids "." in parameter names and ONNX uses it, so the attribute names are numbered.
        self._attributes: dict[str, str] = {}
        self._constants: dict[str, Any] = {}
        for number, name in enumerate(graph.initializers):
            tensor = _tensor(name, graph.initializers.own(name))
            if not isinstance(tensor, Tensor):
                self._constants[name] = tensor  # strings
            elif name in trainable:
                self._attributes[name] = f"weight_{number}"
                self.register_parameter(f"weight_{number}", nn.Parameter(tensor))
            elif tensor.is_floating_point():
                self._attributes[name] = f"buffer_{number}"
                self.register_buffer(f"buffer_{number}", tensor)
            else:
                self._constants[name] = tensor  # integers are shapes and indices: they stay on the CPU
        self._results = {value.name for value in graph.outputs}
        # What every run starts from; beside tensors, values may be numbers, strings, sequences and maps.
        self._fixed: dict[str, Any] = {name: to_tensor(array) for name, array in self.program.constants.items()}
        self._fixed |= {**self.program.lists, **self._constants, "": None}

    def extra_repr(self) -> str:
        """Say what the module is made of; torch shows it in place of parts that it knows."""
        size = sum(weight.numel() for weight in self.parameters())
        return f"{len(self.graph.nodes)} nodes, {size:,} values in {len(self.weights())} weights"

    def weights(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by initializer name."""
        return {name: value for name in self._attributes if isinstance(value := self.tensor(name), nn.Parameter)}

    def buffers_by_name(self) -> dict[str, Tensor]:
        """Return the float initializers that do not train, such as running statistics, by initializer name."""
        return {name: value for name in self._attributes if not isinstance(value := self.tensor(name), nn.Parameter)}

    def tensor(self, name: str) -> Tensor:
        """Return the parameter, buffer or constant that holds initializer ``name``."""
        if name in self._constants:
            constant: Tensor = self._constants[name]
            return constant
        attribute = self._attributes[name]
        value: Tensor = getattr(self, attribute)
        return value

    @property
    def device(self) -> torch.device:
        """The device that the weights are on, or, where nothing trains, the other initializers."""
        tensors = chain(self._parameters.values(), self._buffers.values())
        return next((tensor.device for tensor in tensors if tensor is not None), torch.device("cpu"))

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
        values = self._initial_values(inputs)
        keep = set(wanted)
        found = {name: values[name] for name in keep & values.keys()}
        if len(found) < len(keep):
            # What is on a grid, or asked for, must be a value of its own.
            joined = keep <= self._results and self.formats.keys() <= self._attributes.keys()
            self._run_steps(self.program.fused if joined else self.program.steps, values, keep, found)
        for name in keep - found.keys():
            known = {output for step in self.program.steps for output in step.outputs}
            raise ModelError(f"no value of the graph is named {name!r}", hint=nearest(name, known))
        return {name: found[name] for name in wanted}

    @torch.no_grad()
    def replay(self, inputs: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Run every node on the ``known`` values, by name, rather than on what the nodes before it make.

        So the error of one node is seen alone, not on top of all before it.

        Yields:
            The name and the result of every output, in topological order, before it is rounded to a grid.

        Raises:
            ModelError: an input is missing, or an operator fails on what it is given.
        """
        values, move = self._initial_values(inputs), self.device.type != "cpu"
        for step in self.program.steps:
            for name, result in zip(step.outputs, self._call(step, values, move), strict=False):
                if name:
                    yield name, result
                    value = on_device(known[name], self.device) if name in known else result
                    values[name] = self._on_grid(name, value)
            for name in step.dead:
                values.pop(name, None)

    def _initial_values(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is there before the first node runs: the initializers and the inputs."""
        values = dict(self._fixed)
        parameters, buffers = self._parameters, self._buffers  # looked up by torch's getattr, each takes microseconds
        for name, attribute in self._attributes.items():
            values[name] = parameters[attribute] if attribute in parameters else buffers[attribute]
        for name, given in take_inputs(self.graph, inputs, self.device).items():
            values[name] = self._on_grid(name, given)
        return values

    def _run_steps(self, steps: Sequence[Step], values: dict[str, Any], keep: set[str], found: dict[str, Any]) -> None:
        """Run steps over ``values`` and put those that are to be kept into ``found``, until all are there."""
        move, grids = self.device.type != "cpu", bool(self.formats)
        for step in steps:
            results = self._call(step, values, move)
            for name, result in zip(step.outputs, results, strict=False):
                if not name:
                    continue  # an output that nobody asked for
                values[name] = self._on_grid(name, result) if grids else result
                if name in keep:
                    found[name] = values[name]
            if len(found) == len(keep):
                break
            for name in step.dead:
                values.pop(name, None)  # an output that the operator did not give, and that nothing needs, is not there

    def _run_body(self, body: Body, arguments: Sequence[Any], outside: Mapping[str, Any]) -> list[Any]:
        """Run a subgraph on ``arguments`` and on what it captures from ``outside``."""
        values = self._fixed | {name: outside[name] for name in body.captured}
        values |= dict(zip(body.inputs, arguments, strict=True))
        found = {name: values[name] for name in body.outputs if name in values}
        keep = set(body.outputs)
        if len(found) < len(keep):
            self._run_steps(self.program.bodies[body], values, keep, found)
        return [found[name] for name in body.outputs]

    def _on_grid(self, name: str, value: Content) -> Content:
        if name not in self.formats or name in self._attributes or not isinstance(value, Tensor):
            return value  # weights are kept in their format by whoever changes them
        # Straight-through: the value is quantized, the gradient passes as if it were not.
        projected = self.formats[name].project(value)
        return value + (projected - value).detach() if value.requires_grad else projected

    def _call(self, step: Step, values: Mapping[str, Any], move: bool) -> tuple[Any, ...]:
        keywords = step.keywords
        if step.context:
            state = {"training": self.training, "run_body": partial(self._run_body, outside=values)}
            keywords = {**keywords, **{key: state[key] for key in step.context}}
        try:
            arguments = [values[name] for name in step.inputs]
            for position, kind in step.lists:
                arguments[position] = [kind(item) for item in arguments[position].reshape(-1).tolist()]
            if move:
                arguments = _together(arguments, self.device)
            result = step.function(*arguments, **keywords)
        except FAILURES as error:
            given = ", ".join(f"{name}{_shape(values, name)}" for name in step.inputs if name)
            raise ModelError(f"{step.op} node {step.name!r} failed on inputs {given}: {_reason(error)}") from error
        return result if isinstance(result, tuple) else (result,)


def _tensor(name: str, array: np.ndarray) -> Tensor | np.ndarray:
    """Return the values of an initializer; nobody else uses the array."""
    try:
        return array if array.dtype.kind in "OU" else to_tensor(array, copy=False)
    except ValueError as error:
        raise ModelError(f"initializer {name!r} cannot be imported: {error}") from error


def _shape(values: Mapping[str, Content], name: str) -> str:
    if name not in values:
        return " (no node gave it)"
    value = values[name]
    return str(list(value.shape)) if isinstance(value, Tensor | np.ndarray) else f" ({type(value).__name__})"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, RuntimeError | ValueError) else f"{type(error).__name__}: {error}"


def _together(arguments: list[Any], device: torch.device) -> list[Any]:
    """Move arguments to ``device`` where one of them is there already; shapes stay on the CPU among themselves."""
    if not any(isinstance(argument, Tensor) and argument.device.type != "cpu" for argument in arguments):
        return arguments
    return [argument.to(device) if isinstance(argument, Tensor) else argument for argument in arguments]
