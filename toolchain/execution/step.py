"""One call of a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from toolchain.graph import Body
from toolchain.ops import Operator

# What operators raise on values and attributes that they were not written for: models come from anywhere.
FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, eq=False)
class Step:
    """One call.

    Attributes:
        name: of the node.
        op: operator type, for messages.
        inputs: names of the values to hand over, ``""`` for None.
        outputs: names for the results.
        function: what is called.
        keywords: its fixed keyword arguments.
        context: keywords that depend on the state of the module.
        lists: positions of the inputs that are handed over as a list, and of which type of number.
        trainable: positions of the inputs that are weights.
        dead: values that nothing reads any more once the step has run.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    function: Operator
    keywords: Mapping[str, object] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    lists: tuple[tuple[int, type[int] | type[float]], ...] = ()
    trainable: tuple[int, ...] = ()
    dead: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that the step needs: its inputs, and what its subgraphs take from around it."""
        items = [item for value in self.keywords.values() for item in (value if isinstance(value, list) else [value])]
        return (*self.inputs, *(name for body in items if isinstance(body, Body) for name in body.captured))


def with_dead_values(steps: Sequence[Step], outputs: set[str]) -> tuple[Step, ...]:
    """Note on every step which values it is the last to read, so that memory is given back early."""
    last: dict[str, int] = {}
    for position, step in enumerate(steps):
        last |= dict.fromkeys([*step.reads, *step.outputs], position)
    made = {name for step in steps for name in step.outputs if name} - outputs
    dead: dict[int, list[str]] = {}
    for name, position in last.items():
        if name in made:
            dead.setdefault(position, []).append(name)
    return tuple(replace(step, dead=tuple(dead.get(position, ()))) for position, step in enumerate(steps))
