"""What a caller asks for, on the command line or in Python, laid over the recipe file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from passes.schedule import SCHEDULES
from toolchain.errors import RecipeError
from toolchain.gates.limits import Gates, read_gates
from toolchain.planning.options import lay_over
from toolchain.planning.plan import Allocate, Device, EncodingName, Objective, Precision, TargetName
from toolchain.planning.values import (
    read_first_last,
    read_prune,
    read_quant,
    read_structure,
    read_training_time,
    read_whole,
)
from toolchain.recipe import Recipe, read_recipe
from toolchain.structures import UNSTRUCTURED, round_channels


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


def read_request(request: Request) -> Recipe:
    """Return the recipe file of ``request`` with everything that the request itself gives laid over it.

    Raises:
        RecipeError: something is not understood, or neither prune nor quant is asked for anywhere.
    """
    recipe = read_recipe(Path(request.recipe)) if request.recipe is not None else Recipe()
    train = recipe.train
    if request.epochs is not None or request.budget is not None:
        epochs, budget_s = read_training_time(request.epochs, request.budget, "")
        train = replace(train, epochs=epochs, budget_s=budget_s)
    asked = {"augment": request.augment, "learning_rate": request.learning_rate, "precision": request.precision}
    train = lay_over(train, asked)
    if request.device not in get_args(Device):
        raise RecipeError(f"device: got {request.device!r}, expected one of {', '.join(get_args(Device))}")
    recipe = replace(
        recipe,
        prune=recipe.prune if request.prune is None else read_prune(request.prune, ""),
        structure=recipe.structure if request.structure is None else read_structure(request.structure, ""),
        quant=recipe.quant if request.quant is None else read_quant(request.quant, ""),
        first_last=recipe.first_last if request.first_last is None else read_first_last(request.first_last, ""),
        train=replace(train, seed=read_whole(request.seed, "seed"), device=request.device),
    )
    recipe = replace(recipe, prune_schedule=lay_over(recipe.prune_schedule, {"allocate": request.allocate}))
    wanted = {"target": request.target, "objective": request.objective, "encoding": request.encoding}
    recipe = replace(recipe, export=lay_over(recipe.export, wanted))
    round_to = recipe.round_to if request.round_to is None else request.round_to
    if round_to is not None:  # here, as the recipe may round the structure that an option names
        recipe = replace(recipe, structure=round_channels(recipe.structure, round_to))
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
    together = [structure for structure in structures if structure not in (None, UNSTRUCTURED)]
    if together and SCHEDULES[recipe.prune_schedule.schedule].reweighted:
        raise RecipeError(
            f"[prune_schedule]: schedule {recipe.prune_schedule.schedule!r} shrinks single weights, and structure "
            f"{together[0]} is about weights that go together",
            hint="leave structure out, or choose another schedule",
        )
    if recipe.first_last is not None and recipe.quant is None:
        raise RecipeError("first_last says what differs from quant, which is not given", hint="add --quant 2bit")
    if not pruned and recipe.quant is None and not any(rule.quant for rule in recipe.rules):
        raise RecipeError("nothing to do: neither prune nor quant is given", hint="add --prune 36x or --quant 8bit")
