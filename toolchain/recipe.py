"""Reads what is asked for, from options and from ``recipe.toml``, into a ``Recipe``; needs no model yet.

::

    prune = "36x"                  # over all prunable weights together
    structure = "groups"           # which weights go together; left out: single weights
    round = 8                      # channels of that structure stay in multiples of this
    quant = "2bit"
    first_last = "8bit"            # of the first and last tensors; false keeps them float
    epochs = 20                    # or budget = "10m"
    exclude = ["classifier.*"]     # neither pruned nor quantized

    [[tensor]]                     # later tables win over earlier ones, and over exclude
    match = "conv1.*"              # glob on initializer names; and / or op = "Conv"
    prune = "2x"                   # every matched tensor reaches this by itself; false keeps it dense
    structure = "2:4"              # of every matched tensor
    quant = "8bit"                 # false keeps it float

    [train]                        # fields of plan.TrainOptions: batch_size, learning_rate, precision, augment
    [prune_schedule]               # of plan.PruneSchedule
    [quant_schedule]               # of plan.QuantSchedule
    [calibration]                  # of plan.CalibrationOptions
    [export]                       # of plan.ExportOptions
    [gates]                        # of gates.limits.Gates: max_drop = 0.5, max_size = "2MB"
"""

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeVar, get_args

from toolchain.amounts import (
    DURATION_HINT,
    PRUNE_HINT,
    PruneTarget,
    QuantSpec,
    parse_duration,
    parse_prune,
    parse_quant,
)
from toolchain.errors import RecipeError
from toolchain.gates.limits import Gates, read_gates
from toolchain.options import Toml, check_keys, kind_of, lay_over, located, read_options, wrong_type
from toolchain.plan import (
    Allocate,
    CalibrationOptions,
    Device,
    EncodingName,
    ExportOptions,
    Objective,
    Precision,
    PruneSchedule,
    QuantSchedule,
    TargetName,
    TrainOptions,
)
from toolchain.structures import Structure, parse_structure, round_channels

_Parsed = TypeVar("_Parsed", PruneTarget, QuantSpec, Structure, float)
_Target = TypeVar("_Target", PruneTarget, QuantSpec)

TOP_KEYS = ("prune", "structure", "round", "quant", "first_last", "epochs", "budget", "exclude")
RULE_KEYS = ("match", "op", "prune", "structure", "quant", "exclude")
TRAIN_KEYS = ("batch_size", "learning_rate", "precision", "augment")  # the rest are top-level keys or options


@dataclass(frozen=True)
class Request:
    """What the caller asks for; the same on the command line and in Python. It wins over the recipe file.

    Attributes:
        prune: such as ``"36x"``, ``"97%"`` or 0.97; None leaves it to the recipe.
        quant: such as ``"2bit"``; None leaves it to the recipe.
        epochs: passes over the data; excludes ``budget``.
        budget: seconds, or a text such as ``"10m"``; excludes ``epochs``.
        device: where to train.
        seed: of every random choice.
        recipe: path of a ``recipe.toml``.
        structure: such as ``"groups"``; None leaves it to the recipe.
        augment: such as ``"shift4,flip"``; None leaves it to the recipe.
        allocate: such as ``"flops"``; None leaves it to the recipe.
        target: such as ``"portable"``; None leaves it to the recipe.
        objective: ``"latency"`` or ``"size"``; None leaves it to the recipe.
        encoding: such as ``"dense"``; None leaves it to the recipe.
        learning_rate: of Adam, at its peak; None leaves it to the recipe.
        precision: in which training multiplies; None leaves it to the recipe.
        round_to: what numbers of channels are kept in multiples of; None leaves it to the recipe and the structure.
        gates: thresholds that the result is judged by, with the keys of a recipe's ``[gates]``, over which they win;
            None leaves it to the recipe.
        first_last: grid of the first and last tensors, or ``"float"``; None leaves it to the recipe.
    """

    prune: str | float | None = None
    quant: str | None = None
    epochs: int | None = None
    budget: str | float | None = None
    device: Device = "auto"
    seed: int = 0
    recipe: str | os.PathLike[str] | None = None
    structure: str | None = None
    augment: str | None = None
    allocate: Allocate | None = None
    target: TargetName | None = None
    objective: Objective | None = None
    encoding: EncodingName | None = None
    learning_rate: float | None = None
    precision: Precision | None = None
    round_to: int | None = None
    gates: Gates | Mapping[str, object] | None = None
    first_last: str | None = None


@dataclass(frozen=True)
class TensorRule:
    """One ``[[tensor]]`` table.

    Attributes:
        where: file and number of the table, for errors.
        match: glob on initializer names; None matches every name.
        op: operator type; None matches every operator.
        prune: target of every matched tensor by itself; False keeps them dense; None says nothing.
        quant: grid of every matched tensor; False keeps them float; None says nothing.
        structure: of every matched tensor; None says nothing.
    """

    where: str
    match: str | None
    op: str | None
    prune: PruneTarget | Literal[False] | None
    quant: QuantSpec | Literal[False] | None
    structure: Structure | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything asked for, parsed and checked as far as that goes without a model."""

    prune: PruneTarget | None = None
    structure: Structure | None = None
    quant: QuantSpec | None = None
    first_last: QuantSpec | Literal[False] | None = None
    rules: tuple[TensorRule, ...] = ()
    train: TrainOptions = field(default_factory=TrainOptions)
    prune_schedule: PruneSchedule = field(default_factory=PruneSchedule)
    quant_schedule: QuantSchedule = field(default_factory=QuantSchedule)
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    export: ExportOptions = field(default_factory=ExportOptions)
    gates: Gates = field(default_factory=Gates)


def read_request(request: Request) -> Recipe:
    """Return the recipe file of ``request`` with everything that the request itself gives laid over it.

    Raises:
        RecipeError: something is not understood, or neither prune nor quant is asked for anywhere.
    """
    recipe = read_recipe(Path(request.recipe)) if request.recipe is not None else Recipe()
    train = recipe.train
    if request.epochs is not None or request.budget is not None:
        epochs, budget_s = _training_time(request.epochs, request.budget, "")
        train = replace(train, epochs=epochs, budget_s=budget_s)
    asked = {"augment": request.augment, "learning_rate": request.learning_rate, "precision": request.precision}
    train = lay_over(train, asked)
    if request.device not in get_args(Device):
        raise RecipeError(f"device: got {request.device!r}, expected one of {', '.join(get_args(Device))}")
    recipe = replace(
        recipe,
        prune=recipe.prune if request.prune is None else _prune(request.prune, ""),
        structure=recipe.structure if request.structure is None else _structure(request.structure, ""),
        quant=recipe.quant if request.quant is None else _quant(request.quant, ""),
        first_last=recipe.first_last if request.first_last is None else _first_last(request.first_last, ""),
        train=replace(train, seed=_whole(request.seed, "seed"), device=request.device),
    )
    recipe = replace(recipe, prune_schedule=lay_over(recipe.prune_schedule, {"allocate": request.allocate}))
    wanted = {"target": request.target, "objective": request.objective, "encoding": request.encoding}
    recipe = replace(recipe, export=lay_over(recipe.export, wanted))
    if request.round_to is not None:
        recipe = replace(recipe, structure=round_channels(recipe.structure, request.round_to))
    if request.gates is not None:
        gates = request.gates if isinstance(request.gates, Gates) else read_gates(request.gates, "gates")
        recipe = replace(recipe, gates=gates.over(recipe.gates))
    _check_asks(recipe)
    return recipe


def _check_asks(recipe: Recipe) -> None:
    """Raise unless something is to be done: an amount of pruning, a structure that implies one, or a grid."""
    structures = [recipe.structure, *(rule.structure for rule in recipe.rules)]
    implied = any(structure is not None and structure.kind == "n:m" for structure in structures)
    pruned = implied or recipe.prune is not None or any(rule.prune for rule in recipe.rules)
    if any(structures) and not pruned:
        raise RecipeError("structure says what goes together, not how much", hint="add --prune 2x")
    if recipe.first_last is not None and recipe.quant is None:
        raise RecipeError("first_last says what differs from quant, which is not given", hint="add --quant 2bit")
    if not pruned and recipe.quant is None and not any(rule.quant for rule in recipe.rules):
        raise RecipeError("nothing to do: neither prune nor quant is given", hint="add --prune 36x or --quant 8bit")


def read_recipe(path: Path) -> Recipe:
    """Read a ``recipe.toml``.

    Raises:
        RecipeError: the file cannot be read, is not TOML (with the line), or has a key or a value that is not known.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"the recipe {path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"the recipe {path} is not valid TOML: {error}", hint='texts need quotes: prune = "36x"'
        ) from error
    return _recipe(table, path.name)


def _recipe(table: Toml, where: str) -> Recipe:
    sections = ("tensor", "train", "prune_schedule", "quant_schedule", "calibration", "export", "gates")
    check_keys(table, (*TOP_KEYS, *sections), where)
    train = read_options(TrainOptions, table, "train", where, TRAIN_KEYS)
    epochs, budget_s = _training_time(table.get("epochs"), table.get("budget"), where)
    return Recipe(
        prune=_prune(table["prune"], where) if "prune" in table else None,
        structure=_overall_structure(table, where),
        quant=_quant(table["quant"], where) if "quant" in table else None,
        first_last=_first_last(table["first_last"], where) if "first_last" in table else None,
        rules=(*_exclusions(table.get("exclude", []), where), *_rules(table.get("tensor", []), where)),
        train=replace(train, epochs=epochs, budget_s=budget_s),
        prune_schedule=read_options(PruneSchedule, table, "prune_schedule", where),
        quant_schedule=read_options(QuantSchedule, table, "quant_schedule", where),
        calibration=read_options(CalibrationOptions, table, "calibration", where),
        export=read_options(ExportOptions, table, "export", where),
        gates=_gates(table.get("gates", {}), where),
    )


def _gates(table: object, where: str) -> Gates:
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: gates must be written as a [gates] table, got {kind_of(table)}")
    return read_gates(table, f"{where}: [gates]")


def _exclusions(patterns: object, where: str) -> Iterable[TensorRule]:
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise wrong_type(where, "exclude", patterns, "a list of patterns")
    return [TensorRule(f"{where}: exclude", pattern, None, prune=False, quant=False) for pattern in patterns]


def _rules(tables: object, where: str) -> Iterable[TensorRule]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise RecipeError(f"{where}: tensor must be written as [[tensor]] tables, got {kind_of(tables)}")
    return [_rule(table, f"{where}: [[tensor]] number {number}") for number, table in enumerate(tables, 1)]


def _rule(table: Toml, where: str) -> TensorRule:
    check_keys(table, RULE_KEYS, where)
    patterns: dict[str, str | None] = {}
    for key in ("match", "op"):
        value = table.get(key)
        if value is not None and not isinstance(value, str):
            raise wrong_type(where, key, value, "a text")
        patterns[key] = value
    if patterns["match"] is None and patterns["op"] is None:
        raise RecipeError(f"{where} says no tensors", hint='add match = "conv1.*" or op = "Conv"')
    exclude = table.get("exclude", False)
    if not isinstance(exclude, bool):
        raise wrong_type(where, "exclude", exclude, "true or false")
    if exclude and not {"prune", "structure", "quant"}.isdisjoint(table):
        raise RecipeError(f"{where} excludes tensors and gives them a target as well", hint="keep one of the two")
    if not exclude and {"prune", "structure", "quant"}.isdisjoint(table):
        raise RecipeError(f"{where} says nothing to do", hint="add prune, structure, quant or exclude = true")
    nothing: Literal[False] | None = False if exclude else None
    return TensorRule(
        where,
        patterns["match"],
        patterns["op"],
        prune=_unless_false(_prune, table["prune"], where) if "prune" in table else nothing,
        quant=_unless_false(_quant, table["quant"], where) if "quant" in table else nothing,
        structure=_structure(table["structure"], where) if "structure" in table else None,
    )


def _unless_false(parse: Callable[[object, str], _Target], value: object, where: str) -> _Target | Literal[False]:
    return False if value is False else parse(value, where)


def _prune(value: object, where: str) -> PruneTarget:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong_type(where, "prune", value, "an amount", PRUNE_HINT)
    return _parsed(parse_prune, _written(value), where)


def _quant(value: object, where: str) -> QuantSpec:
    if not isinstance(value, str):
        raise wrong_type(where, "quant", value, 'a text such as "2bit"')
    return _parsed(parse_quant, value, where)


def _first_last(value: object, where: str) -> QuantSpec | Literal[False]:
    spec: QuantSpec | Literal[False] = False if value in (False, "float") else _quant(value, where)
    if spec and spec.kind == "auto":
        raise RecipeError(located(where, "first_last: auto finds the bits of all tensors"), hint="name a grid or float")
    return spec


def _structure(value: object, where: str) -> Structure:
    if not isinstance(value, str):
        raise wrong_type(where, "structure", value, 'a text such as "groups"')
    return _parsed(parse_structure, value, where)


def _overall_structure(table: Toml, where: str) -> Structure | None:
    structure = _structure(table["structure"], where) if "structure" in table else None
    return round_channels(structure, _whole(table["round"], f"{where}: round")) if "round" in table else structure


def _written(value: str | int | float) -> str:
    """Return a number as a person writes it, without an exponent."""
    return value if isinstance(value, str) else format(Decimal(str(value)), "f")


def _parsed(parse: Callable[[str], _Parsed], text: str, where: str) -> _Parsed:
    try:
        return parse(text)
    except RecipeError as error:
        raise RecipeError(located(where, str(error)), error.hint) from error


def _training_time(epochs: object, budget: object, where: str) -> tuple[int | None, float | None]:
    if epochs is not None and budget is not None:
        raise RecipeError(located(where, "epochs and budget exclude each other"), hint="give one of them")
    if budget is None:
        return None if epochs is None else _whole(epochs, located(where, "epochs")), None
    if isinstance(budget, bool) or not isinstance(budget, str | int | float):
        raise wrong_type(where, "budget", budget, "a duration", DURATION_HINT)
    return None, _parsed(parse_duration, _written(budget), where)


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RecipeError(f"{what}: got {value!r}, expected a whole number of at least 0")
    return value
