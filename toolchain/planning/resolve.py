"""Resolves a ``Recipe`` against a graph: which tensor, how many weights, which grid, all before any compute."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from toolchain.amounts import PruneTarget, QuantSpec
from toolchain.errors import RecipeError, nearest
from toolchain.execution.trainable import usable_weights
from toolchain.graph import Graph, Weight
from toolchain.graph.layout import find_layouts
from toolchain.planning.ends import find_ends
from toolchain.planning.plan import DEFAULT_MAX_DROP, Plan, PruneStep, QuantizeStep, Step
from toolchain.planning.prunable import find_prunable
from toolchain.planning.pruning import PruneWish, prune_step
from toolchain.planning.quantized import count_nodes, quantized_operators
from toolchain.recipe import Recipe, TensorRule
from toolchain.structures import UNSTRUCTURED, Structure


@dataclass(frozen=True)
class _Wish:
    """What the rules say of one tensor: None is nothing, False is leave it alone."""

    prune: PruneTarget | Literal[False] | None = None
    quant: QuantSpec | Literal[False] | None = None
    structure: Structure | None = None


def make_plan(graph: Graph, recipe: Recipe) -> Plan:
    """Return the plan: every pattern matched, every count exact.

    Raises:
        RecipeError: a pattern matches nothing or only what cannot be pruned, the graph has nothing to prune or
            quantize, or the counts asked for cannot be reached.
    """
    weights = usable_weights(graph)
    usable = {weight.name: weight for weight in weights if not weight.reason}
    if not usable:
        raise _nothing_to_do(graph, weights)
    wishes = dict.fromkeys(usable, _Wish())
    for rule in recipe.rules:
        for name in _matched(rule, weights):
            wish = wishes[name]
            wishes[name] = _Wish(
                _prune_wish(wish, rule),
                wish.quant if rule.quant is None else rule.quant,
                rule.structure or wish.structure,
            )
    steps: list[Step] = []
    prune = _prune_step(graph, usable, wishes, recipe)
    if recipe.prune is not None or prune.groups:
        steps.append(prune)
    if recipe.quant is not None or any(wish.quant for wish in wishes.values()):
        steps.append(_quantize_step(graph, wishes, recipe))
    return Plan(
        steps=tuple(steps),
        train=recipe.train,
        prune_schedule=recipe.prune_schedule,
        quant_schedule=recipe.quant_schedule,
        calibration=recipe.calibration,
        export=recipe.export,
    )


def _prune_wish(wish: _Wish, rule: TensorRule) -> PruneTarget | Literal[False] | None:
    """Return what holds after a rule: N:M says how much as well, and so wins over an earlier exclusion."""
    if rule.prune is not None:
        return rule.prune
    is_amount = rule.structure is not None and rule.structure.kind == "n:m"
    return None if is_amount and wish.prune is False else wish.prune


def _nothing_to_do(graph: Graph, weights: tuple[Weight, ...]) -> RecipeError:
    quantized = quantized_operators(graph)
    if quantized:
        return RecipeError(
            f"nothing to prune or quantize: the model is quantized already, in {count_nodes(quantized)}: "
            f"{_refused(weights)}",
            hint="give the float model that it was made from",
        )
    return RecipeError(
        f"nothing to prune or quantize: {_refused(weights)}",
        hint="weights of Conv, ConvTranspose, Gemm and MatMul can be, as float32 constants; see compress inspect",
    )


def _matched(rule: TensorRule, weights: tuple[Weight, ...]) -> list[str]:
    """Return the prunable tensors that the rule is about."""
    _check_operator(rule, weights)
    found = [weight for weight in weights if rule.op is None or rule.op in weight.op.split("+")]
    if rule.match is not None:
        names = [weight.name for weight in found]
        found = [weight for weight in found if weight.name == rule.match or fnmatchcase(weight.name, rule.match)]
        if not found:
            of = f" of {rule.op}" if rule.op else ""
            raise RecipeError(f"{rule.where}: no tensor{of} matches {rule.match!r}; {nearest(rule.match, names)}")
    usable = [weight.name for weight in found if not weight.reason]
    if not usable and (rule.prune or rule.quant or rule.structure):
        pattern = rule.match if rule.match is not None else f"op {rule.op}"
        raise RecipeError(
            f"{rule.where}: nothing that matches {pattern!r} can be pruned or quantized: {_refused(tuple(found))}",
            hint="compress inspect lists every tensor and why",
        )
    return usable


def _check_operator(rule: TensorRule, weights: tuple[Weight, ...]) -> None:
    operators = dict.fromkeys(op for weight in weights for op in weight.op.split("+"))
    if rule.op is not None and rule.op not in operators:
        raise RecipeError(
            f"{rule.where}: no operator {rule.op!r} with a constant tensor; {nearest(rule.op, operators)}"
        )


def _refused(weights: tuple[Weight, ...]) -> str:
    if not weights:
        return "the graph has no constant tensors"
    shown = [f"{weight.name} ({weight.reason})" for weight in weights[:5]]
    rest = len(weights) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _prune_step(graph: Graph, usable: dict[str, Weight], wishes: dict[str, _Wish], recipe: Recipe) -> PruneStep:
    layouts = find_layouts(graph, usable.values())
    structures = {name: wish.structure or recipe.structure or UNSTRUCTURED for name, wish in wishes.items()}
    by_channel: dict[Structure, set[str]] = {}
    for name, wish in wishes.items():
        if structures[name].by_channel and wish.prune is not False:
            by_channel.setdefault(structures[name], set()).add(name)
    channels = {structure: find_prunable(graph, names) for structure, names in by_channel.items()}
    asked = [
        PruneWish(usable[name], layouts.get(name), wish.prune, structures[name], channels.get(structures[name]))
        for name, wish in wishes.items()
    ]
    return prune_step(asked, recipe.prune)


def _quantize_step(graph: Graph, wishes: dict[str, _Wish], recipe: Recipe) -> QuantizeStep:
    usual: dict[str, QuantSpec | Literal[False]] = dict.fromkeys(wishes, recipe.quant or False)
    if recipe.first_last is not None:
        usual |= dict.fromkeys(find_ends(graph, wishes), recipe.first_last)
    chosen = {name: usual[name] if wish.quant is None else wish.quant for name, wish in wishes.items()}
    targets = tuple((name, choice) for name, choice in chosen.items() if choice)
    if not targets:
        raise RecipeError("nothing to quantize: every tensor is excluded", hint="relax exclude in the recipe")
    asked = DEFAULT_MAX_DROP if recipe.gates.max_drop is None else recipe.gates.max_drop
    return QuantizeStep(targets, asked if any(spec.kind == "auto" for _, spec in targets) else 0.0)
