"""Reads ``recipe.toml`` into a ``Recipe``; needs no model yet.

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

    [train]                        # of plan.TrainOptions: batch_size, learning_rate, precision, augment, renormalize
    [prune_schedule]               # of plan.PruneSchedule
    [quant_schedule]               # of plan.QuantSchedule
    [calibration]                  # of plan.CalibrationOptions
    [export]                       # of plan.ExportOptions
    [gates]                        # of gates.limits.Gates: max_drop = 0.5, max_size = "2MB"
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from passes.schedule import SCHEDULES
from toolchain.amounts import PruneTarget, QuantSpec
from toolchain.errors import RecipeError
from toolchain.gates.limits import Gates, read_gates
from toolchain.planning.options import Toml, check_keys, kind_of, read_options, wrong_type
from toolchain.planning.plan import CalibrationOptions, ExportOptions, PruneSchedule, QuantSchedule, TrainOptions
from toolchain.planning.values import (
    read_first_last,
    read_prune,
    read_quant,
    read_structure,
    read_training_time,
    read_whole,
    unless_false,
)
from toolchain.structures import Structure

TOP_KEYS = ("prune", "structure", "round", "quant", "first_last", "epochs", "budget", "exclude")
RULE_KEYS = ("match", "op", "prune", "structure", "quant", "exclude")
TRAIN_KEYS = (
    "batch_size",
    "learning_rate",
    "precision",
    "augment",
    "renormalize",
)  # the rest are top-level keys or options


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
    round_to: int | None = None
    quant: QuantSpec | None = None
    first_last: QuantSpec | Literal[False] | None = None
    rules: tuple[TensorRule, ...] = ()
    train: TrainOptions = field(default_factory=TrainOptions)
    prune_schedule: PruneSchedule = field(default_factory=PruneSchedule)
    quant_schedule: QuantSchedule = field(default_factory=QuantSchedule)
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    export: ExportOptions = field(default_factory=ExportOptions)
    gates: Gates = field(default_factory=Gates)


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
    epochs, budget_s = read_training_time(table.get("epochs"), table.get("budget"), where)
    return Recipe(
        prune=read_prune(table["prune"], where) if "prune" in table else None,
        structure=read_structure(table["structure"], where) if "structure" in table else None,
        round_to=read_whole(table["round"], f"{where}: round", 1) if "round" in table else None,
        quant=read_quant(table["quant"], where) if "quant" in table else None,
        first_last=read_first_last(table["first_last"], where) if "first_last" in table else None,
        rules=(*_exclusions(table.get("exclude", []), where), *_rules(table.get("tensor", []), where)),
        train=replace(train, epochs=epochs, budget_s=budget_s),
        prune_schedule=_prune_schedule(table, where),
        quant_schedule=read_options(QuantSchedule, table, "quant_schedule", where),
        calibration=read_options(CalibrationOptions, table, "calibration", where),
        export=read_options(ExportOptions, table, "export", where),
        gates=_gates(table.get("gates", {}), where),
    )


def _prune_schedule(table: Toml, where: str) -> PruneSchedule:
    found = read_options(PruneSchedule, table, "prune_schedule", where)
    if SCHEDULES[found.schedule].restarts and found.update_every is not None:
        raise RecipeError(
            f"{where}: [prune_schedule]: update_every does not go with schedule {found.schedule!r}, whose learning "
            "rate restarts at each update",
            hint="say with updates how many there are",
        )
    given = table.get("prune_schedule")
    if SCHEDULES[found.schedule].reweighted and isinstance(given, dict) and "score" in given:
        raise RecipeError(
            f"{where}: [prune_schedule]: score does not go with schedule {found.schedule!r}, which has prices of its "
            "own",
            hint="leave score out",
        )
    return found


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
        prune=unless_false(read_prune, table["prune"], where) if "prune" in table else nothing,
        quant=unless_false(read_quant, table["quant"], where) if "quant" in table else nothing,
        structure=read_structure(table["structure"], where) if "structure" in table else None,
    )
