"""Resolves a ``Recipe`` against a graph: which tensor, how many weights, which grid, all before any compute."""

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from toolchain.amounts import PruneTarget, QuantSpec
from toolchain.errors import RecipeError, nearest
from toolchain.graph import Graph, Weight, find_weights
from toolchain.plan import Plan, PruneGroup, PruneStep, QuantizeStep, Step
from toolchain.recipe import Recipe, TensorRule


@dataclass(frozen=True)
class _Wish:
    """What the rules say of one tensor: None is nothing, False is leave it alone."""

    prune: PruneTarget | Literal[False] | None = None
    quant: QuantSpec | Literal[False] | None = None


def make_plan(graph: Graph, recipe: Recipe) -> Plan:
    """Return the plan: every pattern matched, every count exact.

    Raises:
        RecipeError: a pattern matches nothing or only what cannot be pruned, the graph has nothing to prune or
            quantize, or the counts asked for cannot be reached.
    """
    weights = find_weights(graph)
    usable = {weight.name: weight for weight in weights if not weight.reason}
    if not usable:
        raise RecipeError(
            f"nothing to prune or quantize: {_refused(weights)}",
            hint="weights of Conv, ConvTranspose, Gemm and MatMul can be, as float32 constants; see compress inspect",
        )
    wishes = dict.fromkeys(usable, _Wish())
    for rule in recipe.rules:
        for name in _matched(rule, weights):
            wish = wishes[name]
            wishes[name] = _Wish(
                wish.prune if rule.prune is None else rule.prune, wish.quant if rule.quant is None else rule.quant
            )
    steps: list[Step] = []
    if recipe.prune is not None or any(wish.prune for wish in wishes.values()):
        steps.append(_prune_step(usable, wishes, recipe.prune))
    if recipe.quant is not None or any(wish.quant for wish in wishes.values()):
        steps.append(_quantize_step(wishes, recipe.quant))
    return Plan(
        steps=tuple(steps),
        train=recipe.train,
        prune_schedule=recipe.prune_schedule,
        quant_schedule=recipe.quant_schedule,
        calibration=recipe.calibration,
        export=recipe.export,
    )


def largest_ratio(weights: int, least: int) -> float:
    """Return the largest ratio, rounded down to two decimals, that leaves ``least`` of ``weights``."""
    return math.floor(100 * weights / least) / 100


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
    if not usable and (rule.prune or rule.quant):
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


def _prune_step(usable: dict[str, Weight], wishes: dict[str, _Wish], target: PruneTarget | None) -> PruneStep:
    total = sum(weight.size for weight in usable.values())
    own = [_own_group(usable[name], wish.prune) for name, wish in wishes.items() if wish.prune]
    rest = [usable[name] for name, wish in wishes.items() if wish.prune is None] if target is not None else []
    groups = list(own)
    if target is not None:
        size = sum(weight.size for weight in rest)
        fixed = total - size - sum(group.size - group.kept for group in own)
        kept = target.kept(total) - fixed
        _check_reachable(target, total, fixed, rest)
        if rest:
            groups.append(PruneGroup(tuple(weight.name for weight in rest), kept, size))
    return PruneStep(tuple(groups), total)


def _own_group(weight: Weight, target: PruneTarget) -> PruneGroup:
    kept = target.kept(weight.size)
    if kept < 1:
        raise RecipeError(
            f"tensor {weight.name!r} has {weight.size:,} weights and cannot be pruned {target.text}",
            hint=f"the largest ratio that it can reach is {weight.size}x: one weight has to stay",
        )
    return PruneGroup((weight.name,), kept, weight.size)


def _check_reachable(target: PruneTarget, total: int, fixed: int, rest: list[Weight]) -> None:
    """Raise unless ``rest`` can absorb what is left: one weight per tensor at least, all of them at most.

    Args:
        target: asked for over all ``total`` prunable weights.
        total: prunable weights of the model.
        fixed: weights that stay whatever happens to ``rest``: dense tensors and those with their own target.
        rest: the tensors without a target of their own.
    """
    kept, least, most = target.kept(total), fixed + len(rest), fixed + sum(weight.size for weight in rest)
    if kept < least:
        held = f"{fixed:,} are excluded or have their own target, " if fixed else ""
        raise RecipeError(
            f"prune {target.text} cannot be reached: it leaves {kept:,} of {total:,} weights, {held}"
            f"and each of the {'other ' if fixed else ''}{len(rest)} tensors keeps at least one",
            hint=f"the largest ratio that can be reached is {largest_ratio(total, least):.2f}x",
        )
    if kept > most:
        raise RecipeError(
            f"prune {target.text} keeps {kept:,} of {total:,} weights, "
            f"but the targets of single tensors leave only {most:,}",
            hint=f"ask for {total / most:.4g}x, leave prune out, or relax the targets of single tensors",
        )


def _quantize_step(wishes: dict[str, _Wish], spec: QuantSpec | None) -> QuantizeStep:
    chosen = {name: spec if wish.quant is None else wish.quant for name, wish in wishes.items()}
    targets = tuple((name, choice) for name, choice in chosen.items() if choice)
    if not targets:
        raise RecipeError("nothing to quantize: every tensor is excluded", hint="relax exclude in the recipe")
    return QuantizeStep(targets)
