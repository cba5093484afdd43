"""``compress()``: load, plan, passes, export, verify, measure, report."""

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.data import Batch, Dataset, Preprocessing
from toolchain.checkpoint import Checkpoint
from toolchain.errors import RecipeError, TrainingError
from toolchain.export import Parity, WrittenModel, check_export, kernel_names, shorten, write_model
from toolchain.gates.judge import Outcome, judge
from toolchain.gates.limits import Gates
from toolchain.graph import Graph, save_proto
from toolchain.hints import Original, try_alternatives
from toolchain.measure import (
    Measurements,
    build_report,
    describe_dead,
    measure_latency,
    quality_section,
    size_section,
    weights_section,
    write_report,
)
from toolchain.module import OnnxModule
from toolchain.outputs import check_output, default_checkpoint, default_output, default_report
from toolchain.planning.description import announce, describe_plan
from toolchain.planning.plan import Allocate, Device, EncodingName, Objective, Precision, TargetName
from toolchain.planning.quantized import quantized_note
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan
from toolchain.progress import NullProgress, Progress
from toolchain.running.compression import run_passes
from toolchain.running.deadline import deadline_for, overrun
from toolchain.running.notes import frozen_note, tell, training_notes, ways
from toolchain.running.resume import can_resume, identify
from toolchain.running.run import Compression, Run
from toolchain.running.source import load_source
from toolchain.running.storage import write_encoded
from toolchain.running.trainers import lend_normalization, make_trainer
from toolchain.running.widths import width_notes
from toolchain.running.workload import load_workload

# Parts of the whole job's time, for the time left; the rest is training.
LOAD_WEIGHT, EXPORT_WEIGHT, MEASURE_WEIGHT = 0.02, 0.03, 0.06

RESERVE = 0.12  # part of a time budget kept for choosing kernels, export and measuring
LEAST_RESERVE, LONGEST_RESERVE = 9.0, 90.0  # seconds; a small model is exported and measured in the first


@dataclass(frozen=True)
class CompressResult:
    """What ``compress`` returns.

    Attributes:
        path: the compressed model.
        report: the report, as in ``report.json``.
        report_path: the HTML report.
        gates: what became of the gates that were asked for.
    """

    path: Path
    report: Mapping[str, Any]
    report_path: Path
    gates: tuple[Outcome, ...] = ()


def compress(  # noqa: PLR0913 - every argument is an option of the command
    model: str | os.PathLike[str],
    *,
    prune: str | float | None = None,
    structure: str | None = None,
    round_to: int | None = None,
    quant: str | None = None,
    first_last: str | None = None,
    data: str | None = None,
    evaluation: str | None = None,
    output: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    epochs: int | None = None,
    budget: str | float | None = None,
    device: Device = "auto",
    seed: int = 0,
    recipe: str | os.PathLike[str] | None = None,
    preprocessing: Preprocessing | None = None,
    resume: bool = False,
    augment: str | None = None,
    learning_rate: float | None = None,
    precision: Precision | None = None,
    allocate: Allocate | None = None,
    target: TargetName | None = None,
    objective: Objective | None = None,
    encoding: EncodingName | None = None,
    gates: Gates | Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> CompressResult:
    """Compress an ONNX model into a smaller one that stock ONNX Runtime runs, and measure both.

    Args:
        model: path of the ONNX file; never written.
        prune: ``"36x"``, ``"97%"`` or a fraction of zeros, over all prunable weights together.
        structure: which weights are pruned together: ``"groups"``, ``"filter"``, ``"column"``, ``"2:4"``,
            ``"block4x1"``, ``"pattern"`` or ``"channel"``; None prunes single weights.
        round_to: what numbers of channels are kept in multiples of, with ``"channel"``, ``"filter"`` or ``"groups"``.
        quant: ``"8bit"``, ``"6bit"``, ``"5bit"``, ``"4bit"``, ``"3bit"``, ``"2bit"``, ``"ternary"``, ``"binary"``, or
            ``"auto"``; behind it ``,asymmetric``, ``,power``, ``,tensor`` or ``,block32``.
        first_last: the grid of the first and last tensors where they are to have another, or ``"float"``.
        data: ``.npz``, ``.npy``, a folder of class folders of images, or ``package.module:function``; None synthesises
            inputs, and accuracy on real data is then not measured.
        evaluation: data to measure on; None takes the data's own test part or holds a part out.
        output: where the compressed model goes; None puts ``NAME.compressed.onnx`` beside the model.
        report: folder of the report; None puts it beside the output.
        epochs: passes over the data in all; 0 only calibrates and projects.
        budget: time that everything is fitted into, such as ``"10m"``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        seed: of every random choice.
        recipe: a ``recipe.toml`` with everything else.
        preprocessing: what turns the data into the model's inputs.
        resume: go on from the checkpoint beside the output, which a run leaves there when it is interrupted; with the
            same model, data and options the result is the one that the run would have had. Without a checkpoint the run
            begins from the start.
        learning_rate: of Adam, at its peak; None lets the model and the data decide.
        precision: in which training multiplies, ``"float32"`` or ``"bfloat16"``; the rest is float32 in any case.
        augment: how training images are varied: ``"none"``, or names such as ``"shift4,flip"``; None, as ``"auto"``,
            shifts images by up to one pixel where that changes nothing that they show.
        allocate: what is compared over tensors when one ratio is given for all: what their weights are worth by
            ``"parameters"``, ``"bytes"``, ``"flops"`` or measured ``"ms"``; None, as ``"auto"``, takes
            parameters, and for gathered groups flops beside them: products become fewer by a quarter more than weights
            where they can.
        target: where the file is to run: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, or ``"portable"``, which has standard
            operators up to opset 18 alone; None takes the CPU.
        objective: whether kernels are chosen for ``"latency"`` or for ``"size"``; None takes latency.
        encoding: how tensors are stored: ``"dense"``, ``"sparse"``, ``"packed"``, or by the fewest bytes, ``"auto"``.
        gates: thresholds that the result is judged by, such as ``{"max_drop": 0.5, "max_size": "2MB"}``; they win over
            those of the recipe; None leaves it to that. The files are written whatever becomes of them.
        progress: is told what happens.

    Raises:
        ToolchainError: anything that the user can mend; nothing is left half-written.
    """
    started = time.monotonic()
    request = read_request(
        Request(
            prune=prune,
            quant=quant,
            first_last=first_last,
            epochs=epochs,
            budget=budget,
            device=device,
            seed=seed,
            recipe=recipe,
            structure=structure,
            augment=augment,
            allocate=allocate,
            target=target,
            objective=objective,
            encoding=encoding,
            learning_rate=learning_rate,
            precision=precision,
            round_to=round_to,
            gates=gates,
        )
    )
    source = Path(model)
    path = Path(output) if output is not None else default_output(source)
    folder = Path(report) if report is not None else default_report(path)
    check_output(source, path, folder, [Path(name) for name in (recipe, data, evaluation) if name is not None])
    told = progress or NullProgress()
    resumed = can_resume(default_checkpoint(path), path, resume, told.note)

    told.phase("load", LOAD_WEIGHT)
    graph, note = load_source(source)
    plan = make_plan(graph, request)
    told.note(announce(plan))
    torch.manual_seed(plan.train.seed)
    teacher = OnnxModule(graph).to(_device(plan.train.device)).eval()
    workload = load_workload(teacher, data, evaluation, preprocessing or Preprocessing(), plan.train.seed)
    trainer = make_trainer(plan.train, OnnxModule(graph).to(teacher.device), teacher, workload, told)
    lent = lend_normalization(plan.train, trainer)
    notes = [
        *tell(told, note, quantized_note(graph), frozen_note(teacher), *workload.notes),
        *tell(told, *ways(trainer, plan, lent, resumed)),
    ]
    loaded = time.monotonic()

    until = None if plan.train.budget_s is None else started + plan.train.budget_s - _reserve(plan.train.budget_s)
    sample = _first(workload.split.evaluation, graph, 1)
    checkpoint = Checkpoint(default_checkpoint(path), identify(source, plan, workload), told.note)
    run = Run(
        trainer,
        deadline_for(plan, trainer.steps_per_epoch, until),
        checkpoint if plan.train.epochs != 0 else None,
        lent,
    )
    run.begin(checkpoint.read() if resumed else None)
    try:
        done = run_passes(plan, run, sample.feeds)
    except TrainingError as error:
        checkpoint.remove()  # the same error would follow from it
        raise _with_rescued(error, trainer.module, path) from error
    trained = time.monotonic()

    told.phase("export and verify", EXPORT_WEIGHT)
    written, parity, note = _export(trainer.module, done, workload.split.evaluation, path, plan.export.encoding)
    told.phase("measure", MEASURE_WEIGHT)
    weights = weights_section(graph, trainer.module, written.tensors, done.kernels, done.dead)
    latency = measure_latency(source, path, sample, plan.export.threads)
    measured = Measurements(
        original=source,
        compressed=path,
        plan=describe_plan(replace(plan, train=replace(plan.train, learning_rate=trainer.learning_rate))),
        seed=plan.train.seed,
        size=size_section(source, path),
        weights=weights,
        quality=quality_section(source, path, workload.split.evaluation, classes=workload.classes),
        latency=latency,
        trials=try_alternatives(Original(source, graph, teacher, workload), plan, sample, latency),
        parity=asdict(parity),
        timings={
            "load_s": loaded - started,
            "train_s": trained - loaded + done.earlier_s,
            "total_s": time.monotonic() - started + done.earlier_s,
        },
        convergence=done.log,
        phases=[asdict(row) for row in done.phases],
        notes=[
            *notes,
            *tell(told, describe_dead(weights), note),
            *tell(told, *width_notes(plan, done, trainer.module, written.tensors)),
            *tell(told, *training_notes(plan, done)),
        ],
    )
    document = build_report(
        replace(measured, notes=[*measured.notes, *tell(told, overrun(plan.train.budget_s, measured.timings))])
    )
    page = write_report(document, folder)
    checkpoint.remove()
    return CompressResult(path, document, page, tuple(judge(document, request.gates)))


def _with_rescued(error: TrainingError, module: OnnxModule, target: Path) -> TrainingError:
    """Write what an earlier phase had reached, if anything, beside the target; return the error that says so."""
    module.move_to(torch.device("cpu"))
    for name in [name for name in module.formats if name not in module.weights()]:
        del module.formats[name]  # of activations that no kernel rounds here
    if not module.formats:
        return error
    rescued = target.with_name(f"{target.stem}.last-good.onnx")
    save_proto(write_model(module, {}).proto, rescued)
    return TrainingError(str(error), hint=f"{error.hint}; the last good state is in {rescued}")


def _device(name: Device) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device cuda was asked for, but torch finds none", hint="use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _reserve(budget: float) -> float:
    """Return the seconds of a time budget that are kept for what comes after training."""
    return min(LONGEST_RESERVE, max(RESERVE * budget, min(LEAST_RESERVE, budget / 2)))


def _first(data: Dataset, graph: Graph, count: int) -> Batch:
    """Return the first samples as one batch: ``count`` of them, or what the model's fixed batch dimension says."""
    return data.batch(np.arange(min(len(data), graph.batch_size or count)))


def _export(
    module: OnnxModule, done: Compression, data: Dataset, target: Path, encoding: EncodingName
) -> tuple[WrittenModel, Parity, str]:
    """Write the compressed model to ``target`` once ONNX Runtime has shown that it computes what the module does.

    Returns:
        What was written, how near it comes to the module, and a sentence about it where there is something to say.
    """
    module.move_to(torch.device("cpu"))
    module.eval()
    written = write_encoded(module, kernel_names(done.kernels), encoding)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / target.name
        save_proto(written.proto, draft)
        parity = check_export(draft, module, data)
    short, note = shorten(written.proto, _first(data, module.graph, 1).feeds)
    save_proto(short, target)
    return replace(written, proto=short), parity, note
