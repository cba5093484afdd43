"""The step of a run that lets tensors stay float whose rounding alone makes the outputs meaningless."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from passes.quantize import Quantize
from passes.snapshot import Snapshot
from passes.sparing import SECONDS, describe_spared, spare
from passes.trainer import Trainer
from toolchain.module import OnnxModule
from toolchain.planning.plan import Plan
from toolchain.running.run import Run


def spare_tensors(plan: Plan, run: Run, quantize: Quantize) -> None:
    """Let tensors stay float that destroy the outputs, and note it.

    After ADMM they take their values of before it, and the training on the grid that follows has the others make up for
    it. Where nothing was trained, the others are rounded again. Where training is yet to begin, nothing is settled.

    Args:
        plan: what to do.
        run: with its tensors on grids, and what they were before.
        quantize: what rounded them.
    """
    before, run.floats = run.floats, None
    if before is None or (plan.train.epochs != 0 and plan.quant_schedule.admm_share == 0):
        return
    told: list[str] = []
    trained = run.done.phases[-1].steps > 0
    put_back = partial(_put_back, run.trainer, before)
    round_again = partial(_round_again, run.trainer, before, quantize, told)
    without = put_back if trained else round_again
    found = spare(run.trainer, before, quantize.targets, without, SECONDS * plan.train.pace)
    if found.losses and not trained and quantize.method != "nearest":
        run.done.notes[-1:] = told  # what was said of rounding all
    run.done.notes.extend(describe_spared(found, quantize.targets, run.trainer.module))


def on_grids(quantize: Quantize, module: OnnxModule) -> Quantize:
    """Return the pass for those of its targets that are on a grid."""
    found = {name for name, tensor_format in module.formats.items() if tensor_format.grid is not None}
    return replace(quantize, targets={name: target for name, target in quantize.targets.items() if name in found})


def _put_back(trainer: Trainer, before: Snapshot, names: Sequence[str]) -> None:
    """Let the named tensors be what they were ``before``."""
    before.put_back(trainer.module, names)
    trainer.settle()


def _round_again(trainer: Trainer, before: Snapshot, quantize: Quantize, told: list[str], names: Sequence[str]) -> None:
    """Round all but the named tensors without training; ``told`` is then what came of it."""
    before.restore(trainer.module)
    told.clear()
    rest = {name: target for name, target in quantize.targets.items() if name not in names}
    if rest:
        for phase in replace(quantize, targets=rest, tell=told.append).phases():
            phase.at_once(trainer)
