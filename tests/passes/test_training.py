import itertools
import math

import numpy as np
import onnx.parser
import pytest
import torch

from calibration.data import Dataset, Preprocessing
from passes.admm_training import Penalty
from passes.base import Constraint
from passes.constraints import Budget, LevelTarget
from passes.finetune import FinetuneStage
from passes.objective import objective_for
from passes.prune import Prune
from passes.quantize import Quantize
from passes.training import Allowance, Score, Trainer, learning_rate_at, train
from toolchain.errors import TrainingError
from toolchain.formats import TensorFormat
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.progress import NullProgress

PERCEPTRON = """
<ir_version: 8, opset_import: ["" : 17]>
mlp (float[N, 6] x) => (float[N, 3] y) <float[16, 6] w1, float[16] b1, float[3, 16] w2> {
  h = Gemm<transB = 1>(x, w1, b1)
  a = Relu(h)
  y = Gemm<transB = 1>(a, w2)
}
"""


@pytest.fixture
def trainer():
    return make_trainer(learning_rate=5e-3)


def make_trainer(learning_rate, batch="N"):
    proto = onnx.parser.parse_model(PERCEPTRON.replace("float[N,", f"float[{batch},"))
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (16, 6), "b1": (16,), "w2": (3, 16)}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(0, 0.6, shape).astype(np.float32), name))
    graph = load_graph(proto)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    teacher = OnnxModule(graph).eval()
    with torch.no_grad():
        labels = OnnxModule(graph)({"x": x})["y"].argmax(1).numpy().astype(np.int64)
    data = Dataset({"x": x}, labels, Preprocessing(), "task", "random points")
    return Trainer(
        module=OnnxModule(graph),
        teacher=teacher,
        data=data.subset(np.arange(300)),
        selection=data.subset(np.arange(300, 400)),
        objective=objective_for(graph, labelled=True),
        batch_size=32,
        learning_rate=learning_rate,
        augment=False,
        moves_normalization=True,
        rng=np.random.default_rng(0),
        progress=NullProgress(),
    )


def count(trainer):
    return sum(int((trainer.module.tensor(name) != 0).sum()) for name in ("w1", "w2"))


def test_pruning_keeps_exactly_what_was_asked_and_most_of_the_accuracy(trainer):
    result = Prune((Budget(("w1", "w2"), 36),), Penalty(update_every=8)).run(trainer, Allowance(steps=800))
    assert count(trainer) == 36
    assert trainer.evaluate().accuracy > 0.85
    assert {entry["phase"] for entry in result.log} == {"prune", "train survivors"}


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_even_a_single_step_ends_pruned(trainer, steps):
    Prune((Budget(("w1", "w2"), 36),), Penalty()).run(trainer, Allowance(steps=steps))
    assert count(trainer) == 36


def test_pruning_without_training_only_projects(trainer):
    before = trainer.module.tensor("b1").clone()
    Prune((Budget(("w1", "w2"), 36),), Penalty()).run(trainer, Allowance(steps=0))
    assert count(trainer) == 36
    assert torch.equal(trainer.module.tensor("b1"), before)


def test_quantizing_after_pruning_keeps_zeros_and_moves_survivors_onto_the_grid(trainer):
    Prune((Budget(("w1", "w2"), 60),), Penalty(update_every=8)).run(trainer, Allowance(steps=150))
    zeros = trainer.module.tensor("w1") == 0
    targets = {"w1": LevelTarget((-2, -1, 1, 2), 0), "w2": LevelTarget((-2, -1, 1, 2), 0)}
    quantize = Quantize(targets, Penalty(update_every=8, settled=0.0))
    quantize.run(trainer, Allowance(steps=150))
    train(trainer, FinetuneStage("train in grid", trainer.module, quantize.constraint), Allowance(steps=150))
    assert count(trainer) == 60
    assert bool((trainer.module.tensor("w1")[zeros] == 0).all())
    for name in targets:
        weight = trainer.module.tensor(name)
        assert torch.equal(trainer.module.formats[name].project(weight), weight)
    assert trainer.evaluate().accuracy > 0.8


def test_the_module_is_left_at_the_best_state_seen(trainer):
    log = train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=60))
    best = max(log, key=lambda entry: (entry["selection_accuracy"], -entry["selection_loss"]))
    assert trainer.evaluate().loss == pytest.approx(best["selection_loss"])


def test_training_never_ends_worse_than_it_began():
    trainer = make_trainer(learning_rate=0.8)
    before = trainer.evaluate()
    train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=40))
    assert not before.better_than(trainer.evaluate())


def test_the_same_seed_gives_the_same_weights():
    results = []
    for _ in range(2):
        trainer = make_trainer(learning_rate=5e-3)
        Prune((Budget(("w1", "w2"), 36),), Penalty(update_every=8)).run(trainer, Allowance(steps=50))
        results.append(trainer.module.tensor("w1").detach().clone())
    assert torch.equal(*results)


def test_a_loss_that_is_not_finite_stops_with_step_and_cause_and_keeps_the_last_good_state():
    trainer = make_trainer(learning_rate=5e-3)
    start = trainer.module.tensor("w1").detach().clone()
    trainer.data.inputs["x"][:] = np.nan
    with pytest.raises(TrainingError, match=r"phase 'finetune' at step 0") as caught:
        train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=10))
    assert "learning_rate" in caught.value.hint
    assert torch.equal(trainer.module.tensor("w1"), start)


def test_a_time_allowance_ends_the_phase(trainer):
    log = train(trainer, FinetuneStage("finetune", trainer.module), Allowance(seconds=0.3))
    assert log[-1]["done"] == 1
    assert log[-1]["step"] > 0


def test_portions_of_a_batch_add_up_to_the_gradient_of_the_whole():
    gradients = []
    for declared in ("N", "8"):
        trainer = make_trainer(learning_rate=5e-3, batch=declared)
        stage = FinetuneStage("finetune", trainer.module)
        train(trainer, stage, Allowance(steps=1))
        gradients.append(trainer.module.tensor("w1").detach().clone())
    assert torch.allclose(*gradients, atol=1e-6)


def test_the_first_limit_reached_ends_a_phase():
    allowance = Allowance(steps=10, seconds=100.0)
    assert allowance.done(5, 10.0) == 0.5
    assert allowance.done(1, 90.0) == 0.9
    assert allowance.share(0.5) == Allowance(5, 50.0)


def test_frozen_masks_are_never_left_while_fine_tuning(trainer):
    mask = torch.rand(16, 6, generator=torch.Generator().manual_seed(1)) < 0.3
    trainer.module.formats["w1"] = TensorFormat(mask)
    with torch.no_grad():
        trainer.module.tensor("w1").mul_(mask)
    train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=30))
    weight = trainer.module.tensor("w1")
    assert bool((weight[~mask] == 0).all())
    assert bool((weight[mask] != 0).all())


def test_every_sample_is_seen_once_an_epoch(trainer):
    batches = itertools.islice(trainer.batches(), trainer.steps_per_epoch)
    seen = np.concatenate([batch.inputs["x"] for batch in batches])
    assert len(np.unique(seen, axis=0)) == len(seen) == 288


def test_accuracy_decides_and_loss_breaks_ties():
    assert Score(0.9, 1.0).better_than(Score(0.8, 0.1))
    assert Score(0.9, 0.1).better_than(Score(0.9, 0.2))
    assert Score(None, 0.1).better_than(Score(None, 0.2))


def test_the_learning_rate_rises_then_falls():
    rates = [learning_rate_at(done / 50) for done in range(51)]
    assert rates.index(max(rates)) == 5
    assert math.isclose(max(rates), 1.0)
    assert rates[-1] == pytest.approx(0.02)


def test_constraints_are_abstract():
    with pytest.raises(TypeError):
        Constraint()
