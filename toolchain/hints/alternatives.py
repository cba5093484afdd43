"""Builds, without training, what other options of the command would make of a model: enough to time it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch

from calibration.collect import Sampling, collect_grids
from calibration.dataset import Dataset
from toolchain.errors import RecipeError
from toolchain.execution.trainable import usable_weights
from toolchain.export import Wish, activation_formats, activation_values, choose_kernels, kernel_names, write_model
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import Graph
from toolchain.module import OnnxModule
from toolchain.planning.plan import ExportOptions, Plan
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan
from toolchain.progress import NullProgress
from toolchain.running.compression import run_passes
from toolchain.running.deadline import deadline_for
from toolchain.running.run import Run
from toolchain.running.trainers import make_trainer
from toolchain.running.workload import Workload

SAMPLES = 4  # for activation ranges and shapes, which is all that data matter for here
# Most first: of each structure the first ratio that the model can reach, and that is not above what was asked for.
RATIOS = {"groups": (8, 4, 2), "channel": (4, 2)}
LEVELS = tuple(range(-127, 128))


@dataclass(frozen=True)
class Original:
    """The model that was compressed.

    Attributes:
        path: its file.
        graph: as it was.
        teacher: the module of it, in evaluation mode.
        workload: of the run.
    """

    path: Path
    graph: Graph
    teacher: OnnxModule
    workload: Workload

    @property
    def few(self) -> Dataset:
        """A few samples, as many as the model insists on at least."""
        data = self.workload.split.evaluation
        return data.subset(np.arange(min(len(data), self.graph.batch_size or SAMPLES)))


@dataclass(frozen=True)
class Alternative:
    """Other options of the command.

    Attributes:
        options: as they are typed.
        build: makes the model; None where the options do not fit it.
        why: they do not; empty where they do.
    """

    options: str
    build: Callable[[], onnx.ModelProto] | None
    why: str = ""


def alternatives(original: Original, plan: Plan) -> Iterator[Alternative]:
    """Return what else could be asked of the model, the most promising first; options in use are left out."""
    groups = plan.prune.groups if plan.prune is not None else ()
    used = {"channel" if group.structure.by_channel else group.structure.kind for group in groups}
    asked = plan.prune.total / plan.prune.kept if plan.prune is not None else max(RATIOS["groups"])
    for structure, ratios in RATIOS.items():
        if structure not in used:
            fitting = [ratio for ratio in ratios if ratio <= asked] or ratios[-1:]
            yield _structured(original, structure, fitting)
    if plan.quantize is None:
        yield Alternative("--quant 8bit", partial(_in_8_bits, original))


def _structured(original: Original, structure: str, ratios: Iterable[int]) -> Alternative:
    """Return the alternative with the first of the ratios that the model can reach."""
    options, why = f"--structure {structure}", ""
    for ratio in ratios:
        options = f"--prune {ratio}x --structure {structure}"
        try:
            plan = _plan(original.graph, ratio, structure)
        except RecipeError as error:
            why = str(error)
        else:
            return Alternative(options, partial(_pruned, original, plan))
    return Alternative(options, None, why)


def _plan(graph: Graph, ratio: int, structure: str) -> Plan:
    recipe = read_request(Request(prune=f"{ratio}x", structure=structure, epochs=0, device="cpu"))
    kernel = ExportOptions(kernel="gathered" if structure == "groups" else "float")
    return make_plan(graph, replace(recipe, export=kernel))


def _pruned(original: Original, plan: Plan) -> onnx.ModelProto:
    """Return what ``compress --epochs 0`` makes of the plan, its kernels as given."""
    few, workload = original.few, original.workload
    parts = replace(workload.split, train=few, selection=few, evaluation=few)
    module = OnnxModule(original.graph)
    trainer = make_trainer(plan.train, module, original.teacher, replace(workload, split=parts), NullProgress())
    run = Run(trainer, deadline_for(plan, trainer.steps_per_epoch, None), None)
    run.begin(None)
    done = run_passes(plan, run, few.batch(np.arange(original.graph.batch_size or 1)).feeds)
    trainer.module.eval()
    return write_model(trainer.module, kernel_names(done.kernels)).proto


@torch.no_grad()
def _in_8_bits(original: Original) -> onnx.ModelProto:
    """Return the model with every layer in integers that can be, by the plainest grids: speed is the same by all."""
    module = OnnxModule(original.graph).eval()
    for weight in usable_weights(original.graph):
        if not weight.reason:
            values = module.tensor(weight.name)
            module.formats[weight.name] = TensorFormat(grid=_largest_grid(values, weight.axis))
            values.copy_(module.formats[weight.name].project(values))
    few = original.few
    sample = few.batch(np.arange(original.graph.batch_size or 1)).feeds
    choices = choose_kernels(module, sample, Wish("int8"))  # which is not timed
    kernels = kernel_names(choices)
    if "int8" not in kernels.values():
        raise RecipeError("no layer of the model can run in 8-bit integers")
    names = activation_values(module.graph, kernels)
    sampling = Sampling(original.graph.batch_size or SAMPLES, len(few))
    grids = collect_grids(module, names, few, sampling=sampling)
    module.formats.update(activation_formats(module, kernels, grids))
    return write_model(module, kernels).proto


def _largest_grid(values: torch.Tensor, axis: int | None) -> Grid:
    """Return the 8-bit grid that the largest value spans, of every output channel where there are such."""
    largest = values.abs().max() if axis is None else values.abs().movedim(axis, 0).flatten(1).max(1).values
    return Grid(LEVELS, largest.clamp(min=1e-8) / LEVELS[-1], axis=axis)
