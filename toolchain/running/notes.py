"""What a run says of itself, in the terminal and in the report."""

from collections.abc import Sequence

from passes.score_choice import USUAL, describe_trials
from passes.trainer import Trainer
from toolchain.module import OnnxModule
from toolchain.planning.plan import Plan
from toolchain.progress import Progress
from toolchain.running.deadline import shortage
from toolchain.running.run import Compression

RESUMED = "The run was interrupted and went on from a checkpoint; its times are those of all its parts together."


def tell(progress: Progress, *texts: str) -> list[str]:
    """Tell those texts that are not empty, and return them."""
    notes = [text for text in texts if text]
    for text in notes:
        progress.note(text)
    return notes


def training_notes(plan: Plan, done: Compression) -> tuple[str, ...]:
    """Return what the report says of how training went."""
    late = shortage(done.phases) if plan.train.epochs is None else ""
    untried = plan.prune is not None and plan.prune_schedule.ranking == "auto" and not done.scores
    usual = f"There was no time to try scores: weights were ranked by {USUAL}." if untried else ""
    return describe_trials(done.scores), usual, *done.notes, late


def ways(trainer: Trainer, plan: Plan, lent: Sequence[str], resumed: bool) -> tuple[str, ...]:
    """Return what there is to say of how training will go; ``lent`` names normalizations for the time of training."""
    again = RESUMED if resumed else ""
    if plan.train.epochs == 0:
        return (again,)
    many = f"{len(lent)} convolutions have a BatchNormalization again while they train"
    return trainer.augmentation.says, f"{many}; it is folded back into them, as it was." if lent else "", again


def frozen_note(module: OnnxModule) -> str:
    """Return which nodes cannot be trained through; nothing where all can."""
    nodes = [node for island in module.program.islands for node in island.nodes]
    operators = ", ".join(dict.fromkeys(f"{node.domain}.{node.op}" if node.domain else node.op for node in nodes))
    return f"left to ONNX Runtime, frozen, no gradient passes them ({len(nodes)}): {operators}" if nodes else ""
