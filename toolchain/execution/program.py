"""How a graph is executed: every node resolved to a function, before anything runs.

In this order: the operator's own function, the function body that ONNX defines it by, ONNX Runtime.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from torch import Tensor

from toolchain.errors import ModelError
from toolchain.execution.expansion import Types, expand
from toolchain.execution.fusion import fuse
from toolchain.execution.islands import Island, runtime_knows
from toolchain.execution.step import FAILURES, Step, with_dead_values
from toolchain.graph import RANDOM, Body, Graph, Initializers, Node, build_nodes
from toolchain.ops import Implementation, find, to_numpy, to_tensor


@dataclass(frozen=True, eq=False)
class Program:
    """A graph, ready to run.

    Attributes:
        steps: of the outermost graph, in order.
        fused: the same in fewer calls, for whoever needs no value in between.
        bodies: the steps of every subgraph.
        constants: what the function bodies of operators bring with them, by name.
        lists: constants that operators take as plain numbers, by the name under which the steps read them.
        islands: what ONNX Runtime runs.
    """

    steps: tuple[Step, ...]
    fused: tuple[Step, ...]
    bodies: Mapping[Body, tuple[Step, ...]]
    constants: Mapping[str, np.ndarray]
    lists: Mapping[str, list[int] | list[float]]
    islands: tuple[Island, ...]

    def all_steps(self) -> Iterator[Step]:
        """Yield the steps of the outermost graph and of every subgraph."""
        yield from self.steps
        for steps in self.bodies.values():
            yield from steps


def resolve(graph: Graph) -> Program:
    """Find a function for every node of ``graph``.

    Raises:
        ModelError: neither this toolchain nor ONNX Runtime has an operator, or a node does not fit its operator.
    """
    return _Resolver(graph).program()


def survey(graph: Graph) -> tuple[list[Node], list[Node]]:
    """Return the nodes that ONNX Runtime would run in the module's place, and those that nobody can run."""
    return _Resolver(graph).unknown()


LARGEST_FOLDED = 4096  # elements; shape arithmetic is far below

# What can make any number of elements of a few numbers, and how many may be made only to see that they are too many.
GROWING = {
    "BlackmanWindow",
    "CenterCropPad",
    "ConstantOfShape",
    "Expand",
    "HammingWindow",
    "HannWindow",
    "MelWeightMatrix",
    "OneHot",
    "Pad",
    "Range",
    "Resize",
    "Tile",
}
LARGEST_TRIED = 2**22


class _Resolver:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._types = Types(graph)
        self._taken = {*graph.initializers, *(value.name for value in graph.inputs)}
        self._taken.update(name for node in graph.walk() for name in node.outputs)
        self._taken.update(name for node in graph.walk() for body in node.bodies for name in body.inputs)
        self._bodies: dict[Body, tuple[Step, ...]] = {}
        self._constants: dict[str, np.ndarray] = {}
        self._lists: dict[str, list[int] | list[float]] = {}
        self._islands: list[Island] = []
        self._missing: list[Node] = []

    def unknown(self) -> tuple[list[Node], list[Node]]:
        self._steps(self._graph.nodes, set())
        nodes = [node for island in self._islands for node in island.nodes]
        return [node for node in nodes if node not in self._missing], self._missing

    def program(self) -> Program:
        outputs = {value.name for value in self._graph.outputs}
        steps = self._steps(self._graph.nodes, outputs)
        if self._missing:
            raise ModelError(
                f"neither this toolchain nor the installed ONNX Runtime has these operators:\n{_listed(self._missing)}",
                hint="replace them by standard operators where the model is exported; compress inspect shows the graph",
            )
        fused = with_dead_values(fuse(steps, self._graph.initializers, outputs), outputs)
        return Program(steps, fused, self._bodies, self._constants, self._lists, tuple(self._islands))

    def _steps(self, nodes: Iterable[Node], outputs: set[str]) -> tuple[Step, ...]:
        """Return the steps of one graph or subgraph; ``outputs`` are the values that outlive its last step."""
        found: list[Step] = []
        unknown: list[Node] = []
        for node in self._expanded(nodes):
            if find(node) is None:
                if unknown and unknown[-1].opsets != node.opsets:  # a function's nodes, beside those of the model
                    found += self._island(unknown)
                    unknown = []
                unknown.append(node)
                continue
            found += self._island(unknown)
            unknown = []
            step = self._step(node)
            if not self._fold(node, step):
                found.append(step)
        found += self._island(unknown)
        return with_dead_values(found, outputs)

    def _expanded(self, nodes: Iterable[Node]) -> Iterator[Node]:
        """Yield the nodes, those without a function of their own replaced by their function body where there is one."""
        for node in nodes:
            body, opsets = ([], {}) if find(node) is not None else expand(node, self._types, self._taken)
            if body:
                inner, constants = build_nodes(body, opsets)
                self._constants |= dict(Initializers(constants))
                yield from self._expanded(inner)
            else:
                yield node

    def _step(self, node: Node) -> Step:
        implementation = find(node)
        if implementation is None:
            raise ModelError(f"operator {node.op} of node {node.name!r} has no function")
        _check_fit(node, implementation)
        for body in node.bodies:
            self._bodies[body] = self._steps(body.nodes, set(body.outputs))
        inputs, lists = list(node.inputs), []
        for position, kind in implementation.lists.items():
            name = node.inputs[position] if position < len(node.inputs) else ""
            if name in self._graph.initializers or name in self._constants:
                inputs[position] = self._list(name, kind)
            elif name:
                lists.append((position, kind))
        keywords: dict[str, object] = {
            key: to_tensor(value) if isinstance(value, np.ndarray) else value for key, value in node.attributes.items()
        }
        if "output_count" in implementation.context:
            keywords["output_count"] = len(node.outputs)
        return Step(
            name=node.name,
            op=node.op if not node.domain else f"{node.domain}.{node.op}",
            inputs=tuple(inputs),
            outputs=node.outputs,
            function=implementation.function,
            keywords=keywords,
            context=tuple(key for key in implementation.context if key != "output_count"),
            lists=tuple(lists),
            trainable=implementation.trainable,
        )

    def _fold(self, node: Node, step: Step) -> bool:
        """Compute shape arithmetic on constants once and for all; return whether the step is not needed any more."""
        known = [self._whole_number(name) for name in node.inputs if name]
        if step.context or step.op in RANDOM or not known or not all(known) or not self._is_small(node):
            return False
        try:
            result = step.function(*(self._constant(name) for name in step.inputs), **step.keywords)
        except FAILURES:
            return False  # told, with its shapes, by whoever runs it
        results = result if isinstance(result, tuple) else (result,)
        if not all(isinstance(item, Tensor) and item.numel() <= LARGEST_FOLDED for item in results):
            return False
        self._constants |= {name: to_numpy(item) for name, item in zip(step.outputs, results, strict=False) if name}
        return True

    def _is_small(self, node: Node) -> bool:
        """Return whether a node whose inputs are constants can be computed without filling the memory."""
        bound = 1  # of elements: broadcasting multiplies the sizes of the inputs, growing the numbers in them as well
        for name in filter(None, node.inputs):
            values = self._constants[name] if name in self._constants else self._graph.initializers[name]
            bound *= max(1, values.size)
            bound *= prod(1 + abs(item) for item in values.reshape(-1).tolist()) if node.op in GROWING else 1
        return bound <= LARGEST_TRIED

    def _whole_number(self, name: str) -> bool:
        """Return whether a value is a small constant without fraction, as shapes, axes and indices are."""
        if name in self._constants:
            return self._constants[name].dtype.kind in "iub"
        known = self._graph.initializers
        return name in known and known.dtype(name).kind in "iub" and known.size(name) <= LARGEST_FOLDED

    def _constant(self, name: str) -> Tensor | list[int] | list[float] | None:
        if not name or name in self._lists:
            return self._lists[name] if name else None
        return to_tensor(self._constants[name] if name in self._constants else self._graph.initializers[name])

    def _list(self, name: str, kind: type[int] | type[float]) -> str:
        """Return the name under which a constant is handed over as a list."""
        key = f"{name} as {kind.__name__}"
        constants = self._graph.initializers if name in self._graph.initializers else self._constants
        try:
            self._lists[key] = [kind(item) for item in constants[name].reshape(-1).tolist()]
        except (OverflowError, TypeError, ValueError) as error:
            raise ModelError(f"constant {name!r} cannot be taken for numbers: {error}") from error
        return key

    def _island(self, nodes: list[Node]) -> list[Step]:
        if not nodes:
            return []
        self._missing += [node for node in nodes if not runtime_knows(node)]
        known = self._graph.initializers
        constants = {name: known[name] for node in nodes for name in node.reads if name in known}
        constants |= {name: self._constants[name] for node in nodes for name in node.reads if name in self._constants}
        island = Island(tuple(nodes), constants)
        self._islands.append(island)
        return [
            Step(
                name=nodes[0].name,
                op=island.operators,
                inputs=island.inputs,
                outputs=island.outputs,
                function=island.runner(),
            )
        ]


def _listed(nodes: Iterable[Node]) -> str:
    """Return a line per operator: how many nodes, and the first."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        found.setdefault(f"{node.domain or 'ai.onnx'}.{node.op}", []).append(node.name)
    return "\n".join(
        f"  {operator}: {len(names)} node{'s' if len(names) > 1 else ''}, first {names[0]!r}"
        for operator, names in sorted(found.items())
    )


def _check_fit(node: Node, implementation: Implementation) -> None:
    signature = implementation.signature
    try:
        signature.bind(*node.inputs, **node.attributes, **dict.fromkeys(implementation.context))
    except TypeError as error:
        raise ModelError(f"{node.op} node {node.name!r} does not fit its operator: {error}") from error
    for position, (name, parameter) in enumerate(zip(node.inputs, signature.parameters.values(), strict=False)):
        if parameter.kind is parameter.VAR_POSITIONAL:
            break
        if not name and parameter.default is parameter.empty and "None" not in str(parameter.annotation):
            raise ModelError(f"{node.op} node {node.name!r} leaves out input {position}, {parameter.name!r}")
