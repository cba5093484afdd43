"""What tests of whole runs of passes share: a trainer on random inputs, and the plan of a recipe carried out."""

import numpy as np
import torch

from calibration.data import Dataset, Preprocessing
from passes.objective import Objective
from passes.trainer import Trainer
from toolchain.augmentation import NONE
from toolchain.module import OnnxModule
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan
from toolchain.progress import NullProgress
from toolchain.running.compression import run_passes
from toolchain.running.deadline import deadline_for
from toolchain.running.run import Run


def trainer_for(graph, samples=300):
    """Return what trains a graph from x to y on four fifths of so many random inputs, judged on the others."""
    x = np.random.default_rng(1).normal(size=(samples, *graph.inputs[0].shape[1:])).astype(np.float32)
    rows = np.split(np.arange(samples), [4 * samples // 5])
    data = Dataset({"x": x}, None, Preprocessing(), "unlabelled", "random points")
    return Trainer(
        module=OnnxModule(graph),
        teacher=OnnxModule(graph).eval(),
        data=data.subset(rows[0]),
        selection=data.subset(rows[1]),
        objective=Objective(("y",)),
        batch_size=16,
        learning_rate=5e-3,
        precision=torch.float32,
        augmentation=NONE,
        moves_normalization=True,
        rng=np.random.default_rng(0),
        progress=NullProgress(),
    )


def run(graph, recipe, folder, epochs=4, **request):
    """Run the passes of a recipe, with float kernels; return the trainer and what was done."""
    path = folder / "recipe.toml"
    path.write_text('[export]\nkernel = "float"\n' + recipe)
    plan = make_plan(graph, read_request(Request(recipe=path, epochs=epochs, **request)))
    trainer = trainer_for(graph)
    passes = Run(trainer, deadline_for(plan, trainer.steps_per_epoch, None), None)
    return trainer, run_passes(plan, passes, {"x": trainer.data.inputs["x"][:1]})
