"""The plan as the report holds it: plain JSON, with a sentence for people per step."""

from toolchain.planning.plan import (
    DEFAULT_EPOCHS,
    DEFAULT_SECONDS,
    Plan,
    PruneSchedule,
    PruneStep,
    QuantizeStep,
    TrainOptions,
)
from toolchain.planning.pruning import list_skipped
from toolchain.structures import UNSTRUCTURED

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


def describe_plan(plan: Plan) -> list[dict[str, Json]]:
    """Return the ``plan`` part of the report: one entry per step, each with a ``says`` sentence for people."""
    entries: list[dict[str, Json]] = []
    if plan.prune is not None:
        entries.append(_describe_prune(plan.prune, plan.prune_schedule))
    if plan.quantize is not None:
        entries.append(_describe_quantize(plan.quantize))
    entries.append(_describe_training(plan.train))
    return entries


def announce(plan: Plan) -> str:
    """Return what will be done, as a person is told of it before it begins."""
    return f"Plan: {'; then '.join(str(entry['says']) for entry in describe_plan(plan))}."


def _describe_prune(step: PruneStep, schedule: PruneSchedule) -> dict[str, Json]:
    ratio = step.total / step.kept
    return {
        "step": "prune",
        "says": f"prune {_tensors(step)} to {step.kept:,} of {step.total:,} weights ({ratio:.4g}x){_left_dense(step)}",
        "total": step.total,
        "kept": step.kept,
        "ratio": ratio,
        "schedule": schedule.schedule,
        "score": schedule.ranking,
        "allocate": schedule.allocate,
        "groups": [
            {
                "names": list(group.names),
                "kept": group.kept,
                "size": group.size,
                "ratio": group.size / group.kept,
                "structure": str(group.structure),
            }
            for group in step.groups
        ],
        "skipped": [{"name": name, "reason": reason} for name, reason in step.skipped],
    }


def _tensors(step: PruneStep) -> str:
    """Say how many tensors are pruned, and in which structures if any has one."""
    pruned = len(step.names)
    counts: dict[str, int] = {}
    for group in step.groups:
        counts[str(group.structure)] = counts.get(str(group.structure), 0) + len(group.names)
    plural = f"{pruned} tensor{'s' * (pruned != 1)}"
    if set(counts) <= {str(UNSTRUCTURED)}:
        return plural
    return f"{plural} ({', '.join(f'{count} {name}' for name, count in counts.items())})"


def _left_dense(step: PruneStep) -> str:
    if not step.skipped:
        return ""
    return f"; {len(step.skipped)} stay dense: {list_skipped(step.skipped)}"


def _describe_quantize(step: QuantizeStep) -> dict[str, Json]:
    counts: dict[str, int] = {}
    for _, spec in step.targets:
        counts[str(spec)] = counts.get(str(spec), 0) + 1
    parts = ", ".join(f"{count} tensor{'s' * (count != 1)} to {spec}" for spec, count in counts.items())
    limit = f", to lose at most {step.max_drop:g} points" if step.max_drop else ""
    return {
        "step": "quantize",
        "says": f"quantize {parts}{limit}",
        "targets": [{"name": name, "kind": spec.kind, "bits": spec.bits} for name, spec in step.targets],
    }


def _describe_training(train: TrainOptions) -> dict[str, Json]:
    if train.epochs == 0:
        says = "no training: calibrate and project only"
    elif train.epochs is not None:
        says = f"train for {train.epochs} epoch{'s' * (train.epochs != 1)}"
    elif train.budget_s is not None:
        says = f"train within {train.budget_s:,.0f} s"
    else:
        says = f"train for {DEFAULT_EPOCHS} epochs or {DEFAULT_SECONDS / 60:.0f} minutes, whichever ends first"
    return {
        "step": "train",
        "says": f"{says}, batches of {train.batch_size}" if train.epochs != 0 else says,
        "epochs": train.epochs,
        "budget_s": train.budget_s,
        "batch_size": train.batch_size,
        "learning_rate": train.learning_rate,
        "precision": train.precision,
        "augment": None if train.augment is None else str(train.augment),
        "seed": train.seed,
        "device": train.device,
    }
