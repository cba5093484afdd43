"""Runs the plan's passes over the model: prune, quantize, choose kernels, fine-tune."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from passes.allowance import Allowance
from passes.bits import BITS, choose_bits, describe_bits
from passes.constraints import SCORES, Budget, Cut, LevelTarget, level_target
from passes.finetune import FinetuneStage
from passes.phase import Phase
from passes.prune import Prune
from passes.quantize import SECONDS as ROUNDING_SECONDS
from passes.quantize import Quantize
from passes.rate import find_learning_rate
from passes.rounding import round_biases
from passes.schedule import SCHEDULES, Schedule
from passes.score_choice import LEAST_STEPS, choose_score, try_scores
from passes.trainer import Trainer
from toolchain.amounts import QuantSpec
from toolchain.export import add_rescalings, kernel_names, move_biases_onto_steps
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, find_weights
from toolchain.graph.layout import find_layouts
from toolchain.module import OnnxModule
from toolchain.planning.plan import Plan, PruneSchedule
from toolchain.planning.prunable import find_prunable
from toolchain.running.allocation import balanced_costs, bit_costs, weight_costs
from toolchain.running.lowering import Watch, lower
from toolchain.running.refolding import refold
from toolchain.running.run import Compression, Run
from toolchain.running.shrinking import remove_dead
from toolchain.running.sparing import on_grids, spare_tensors

SPARSE = 0.1  # a tensor with this part of exact zeros was pruned; trained weights are hardly ever exactly zero
RATE_SHARE = 0.03  # of all training, at most, to find a learning rate
TRIALS_SHARE = 0.06  # of all training, for trials of the scores
SEARCH_PART = 4  # of the calibration samples, one in so many is enough to compare numbers of bits by
SEARCH_METHOD = "gptq"  # takes less time than ADMM, and loses somewhat more as a rule: the safe side to err on
TYPICAL_BITS = 4  # of a tensor whose bits are not known yet
KERNELS_WEIGHT = 0.04  # part of the whole job's time, for the time left
SEARCH_WEIGHT = 0.5  # likewise, of the search for bits where nothing is trained: about half of what is then done


def run_passes(plan: Plan, run: Run, sample: Mapping[str, np.ndarray]) -> Compression:
    """Run every step of ``plan`` on the module of ``run`` in place, or what is left of them.

    Args:
        plan: what to do.
        run: with the model, its teacher, the data and the time.
        sample: one model input batch, on which kernels are timed.
    """
    shrink = partial(remove_dead, plan, run)
    quant_share = 0.0
    if plan.quantize is not None:
        quant_share = plan.quant_schedule.time_share if plan.prune is not None else 1.0
    run.do(partial(_find_learning_rate, plan, run))
    if plan.prune is not None:
        run.do(partial(_find_costs, plan, run, sample))
        run.do(partial(_try_scores, plan, run))
        phases = prune_pass(plan, run.trainer.teacher, run.done.costs, run.done.scores).phases()
        blends = plan.prune_schedule.blend > 0  # with weights of channels that are dead by then
        for phase in phases:
            run.train(phase, (1 - quant_share) * phase.share)
            if phase.is_final and (phase is phases[-1] or not blends):
                run.do(shrink)  # as soon as the masks are final: what follows trains and times the smaller model
    fold = partial(_fold_lent, run)
    if plan.quantize is None or _has_groups(plan):
        run.do(fold)  # kernels are chosen for what is exported, and those of groups take no normalization in
    choose = partial(_choose_kernels, plan, run, sample)
    if plan.quantize is None:
        run.do(choose, "choose kernels", KERNELS_WEIGHT)
    else:
        run.do(partial(_keep_zeros, run.trainer, plan.quantize.names))
        run.do(partial(_find_bits, plan, run))
        quantize, admm_share = _quantize_pass(plan, run), plan.quant_schedule.admm_share
        run.do(run.keep_floats)
        for phase in quantize.phases():
            run.train(phase, quant_share * admm_share * phase.share)
        run.do(partial(spare_tensors, plan, run, quantize))
        blocks = any(spec.block_size for _, spec in plan.quantize.targets)  # which channels must not leave
        if plan.prune is not None and not blocks:
            run.do(shrink)
        run.do(choose, "choose kernels", KERNELS_WEIGHT)
        learned = plan.quant_schedule.scales == "learned"
        stage = partial(
            FinetuneStage,
            "train in grid",
            refit=on_grids(quantize, run.trainer.module).constraint,
            learns_scales=learned,
            span=(admm_share, 1.0),
        )
        run.train(Phase("train in grid", 1.0, stage, Trainer.settle), quant_share * (1 - admm_share))
        if plan.prune is not None and not blocks:
            run.do(shrink)
        run.do(fold)
        run.do(partial(_round_biases, run))
    return run.done


def _has_groups(plan: Plan) -> bool:
    return plan.prune is not None and any(group.structure.kind == "groups" for group in plan.prune.groups)


def _fold_lent(run: Run) -> None:
    """Fold the normalizations that were lent for training."""
    if run.lent and run.done.refolded_after is None:
        run.trainer.module = refold(run.trainer.module.eval(), run.lent)
        left = {node.name for node in run.trainer.module.graph.nodes}
        run.done.refolded = [name for name in run.lent if name not in left]
        run.done.refolded_after = len(run.done.removed)


def _find_learning_rate(plan: Plan, run: Run) -> None:
    """Find how large steps the model bears, where nobody says and there is time to train.

    What steps do to the answers to real data is not seen on synthetic ones: those of ResNet-32 bear a rate of 2.7e-2,
    a hundred times that which is good for it (``trainers.FIXED_NORM_LEARNING_RATE``).
    """
    real = run.trainer.data.kind != "synthetic"
    if plan.train.learning_rate is None and plan.train.epochs != 0 and real:
        run.trainer.progress.phase("find a learning rate", 0.0)
        steps, seconds = run.deadline.steps, run.deadline.seconds
        allowance = Allowance(
            None if steps is None else round(RATE_SHARE * steps), None if seconds is None else RATE_SHARE * seconds
        )
        run.done.learning_rate = find_learning_rate(run.trainer, allowance)
        if run.done.learning_rate is not None:
            run.trainer.learning_rate = run.done.learning_rate


def _find_costs(plan: Plan, run: Run, sample: Mapping[str, np.ndarray]) -> None:
    """Find what a kept weight of every tensor costs in the unit that the plan compares tensors by."""
    module, unit, budgets = run.trainer.module, plan.prune_schedule.allocate, _budgets(plan)
    if unit == "bytes":  # shapes that shrink have no positions to store: their weights all cost the same
        budgets = tuple(budget for budget in budgets if not budget.structure.by_channel)
    if unit == "auto":  # groups are there to be fast
        budgets = tuple(budget for budget in budgets if budget.structure.kind == "groups")
    if unit == "parameters" or not budgets:
        return
    module.eval()
    layouts = find_layouts(module.graph, find_weights(module.graph))
    if unit == "bytes":
        targets = plan.quantize.targets if plan.quantize is not None else ()
        bits = {name: spec.bits or TYPICAL_BITS for name, spec in targets}
        costs = bit_costs(module.weights(), budgets, layouts, bits)
    else:
        device = module.device
        module.move_to(torch.device("cpu"))  # ONNX Runtime's, whose time it may be
        costs = weight_costs(module, sample, "ms" if unit == "ms" else "flops", plan.export.threads)
        module.move_to(device)
    if unit == "auto":
        costs = balanced_costs(module.weights(), budgets, layouts, costs)
    run.done.costs.update({name: costs[name] for budget in budgets for name in budget.names})


def _budgets(plan: Plan) -> tuple[Budget, ...]:
    groups = plan.prune.groups if plan.prune is not None else ()
    return tuple(Budget(group.names, group.kept, group.structure) for group in groups)


def _cuts(plan: Plan, graph: Graph) -> dict[str, tuple[Cut, ...]]:
    """Return the channels that are pruned, by tensor name."""
    cuts: dict[str, tuple[Cut, ...]] = {}
    for group in plan.prune.groups if plan.prune is not None else ():
        if group.structure.by_channel:
            cuts |= find_prunable(graph, set(group.names)).cuts
    return cuts


def _try_scores(plan: Plan, run: Run) -> None:
    """Try every score for a short while, where the choice is ours and there is time for it."""
    wish, steps = plan.prune_schedule, run.deadline.steps
    if wish.ranking != "auto" or plan.train.epochs == 0:
        return
    if steps is not None and TRIALS_SHARE * steps < LEAST_STEPS * len(SCORES):
        return
    whole = prune_pass(plan, run.trainer.teacher, run.done.costs, {})
    passes = {score: replace(whole, score=score) for score in SCORES}
    run.done.scores.update(try_scores(run.trainer, passes, run.deadline.try_out(TRIALS_SHARE)))


def prune_pass(plan: Plan, original: OnnxModule, costs: Mapping[str, float], tried: Mapping[str, float]) -> Prune:
    """Return the pass that prunes as planned.

    Args:
        plan: what to do.
        original: the model.
        costs: of a kept weight, by tensor name.
        tried: losses that trials of the scores led to.
    """
    schedule, graph = plan.prune_schedule, original.graph
    return Prune(
        budgets=_budgets(plan),
        schedule=_schedule(schedule),
        score=choose_score(tried) if schedule.ranking == "auto" else schedule.ranking,
        start=schedule.progressive_start,
        admm_share=schedule.admm_share,
        regrow_share=schedule.regrow_share,
        layouts=find_layouts(graph, find_weights(graph)),
        dense=original.weights(),
        blend=schedule.blend,
        costs=costs,
        cuts=_cuts(plan, graph),
    )


def _schedule(wish: PruneSchedule) -> Schedule:
    """Return the schedule of that name, with what the recipe changes of it."""
    keys = ("rho", "ramp", "update_every", "updates", "damping", "sharpness")
    changes = {key: getattr(wish, key) for key in keys if getattr(wish, key) is not None}
    if "updates" in changes:
        changes.setdefault("update_every", None)
    return replace(SCHEDULES[wish.schedule], **changes)


def _quantize_pass(plan: Plan, run: Run) -> Quantize:
    wish = plan.quant_schedule
    specs = plan.quantize.grids(run.done.bits) if plan.quantize is not None else {}
    return Quantize(
        targets=_level_targets(run.trainer.module, specs),
        schedule=Schedule(wish.rho, update_every=wish.update_every, path="fixed", snaps=wish.snaps),
        method=wish.rounding,
        samples=wish.samples,
        tell=run.done.notes.append,
        cycle_end=wish.admm_share,
        seconds=ROUNDING_SECONDS * plan.train.pace,
    )


def _level_targets(module: OnnxModule, specs: Mapping[str, QuantSpec]) -> dict[str, LevelTarget]:
    axes = {weight.name: weight.axis for weight in find_weights(module.graph)}
    pruned = {name for name, fmt in module.formats.items() if fmt.mask is not None}
    return {name: level_target(spec, name in pruned, axes[name]) for name, spec in specs.items()}


def _find_bits(plan: Plan, run: Run) -> None:
    """Find how many bits each tensor needs, where that is to be measured."""
    step, trainer, done = plan.quantize, run.trainer, run.done
    names = [name for name, spec in step.targets if spec.kind == "auto"] if step is not None else []
    if step is None or not names:
        return
    trainer.progress.phase("find bits", SEARCH_WEIGHT if plan.train.epochs == 0 else KERNELS_WEIGHT)
    grids = [_level_targets(trainer.module, dict.fromkeys(names, QuantSpec("uniform", bits))) for bits in BITS]
    by_bits = {name: {bits: grid[name] for bits, grid in zip(BITS, grids, strict=True)} for name in names}

    def round_all(assignment: Mapping[str, int]) -> None:
        done.bits = dict(assignment)
        whole = _quantize_pass(plan, run)
        method = whole.method if whole.method == "nearest" else SEARCH_METHOD
        replace(whole, method=method, samples=max(1, whole.samples // SEARCH_PART)).round_as_asked(trainer)

    found = choose_bits(trainer, by_bits, step.max_drop, round_all)
    done.bits = found.bits
    done.notes.append(describe_bits(found, step.max_drop))


def _round_biases(run: Run) -> None:
    """Let biases be what the file adds, and sums rounded as its kernels round them."""
    module, device = run.trainer.module, run.trainer.module.device
    module.move_to(torch.device("cpu"))
    round_biases(module)
    kernels = kernel_names(run.done.kernels)
    move_biases_onto_steps(module, kernels)
    add_rescalings(module, kernels)
    module.move_to(device)


def _keep_zeros(trainer: Trainer, names: tuple[str, ...]) -> None:
    """Give a tensor that comes with many zeros a mask, so that what somebody pruned before stays pruned."""
    module = trainer.module
    for name in names:
        weight = module.tensor(name).detach()
        if name not in module.formats and float((weight == 0).float().mean()) >= SPARSE:
            module.formats[name] = TensorFormat(weight != 0)


def _choose_kernels(plan: Plan, run: Run, sample: Mapping[str, np.ndarray]) -> None:
    """Choose kernels, and give the activations that they want in 8 bits their calibrated grids."""
    trainer = run.trainer
    trainer.progress.phase("choose kernels", KERNELS_WEIGHT)
    module, device = trainer.module, trainer.module.device
    module.eval()
    module.move_to(torch.device("cpu"))  # the runtime that is timed, and the exporter, work there
    watch = Watch(plan.train.pace, lambda done: trainer.progress.update(done, {}))
    found = lower(module, trainer.data, sample, plan.calibration, plan.export, watch)
    run.done.kernels.update(found.kernels)
    run.done.notes.extend(found.notes)
    module.move_to(device)
