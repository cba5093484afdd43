import time
from dataclasses import replace
from functools import partial

import numpy as np
import onnx.parser
import pytest
import torch

from calibration.data import Dataset, Preprocessing
from passes import rate
from passes.allowance import Allowance
from passes.objective import Objective
from passes.rate import LEAST, LEAST_STEPS, MOST, STEPS, find_learning_rate
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

DEEP = f"""
<ir_version: 8, opset_import: ["" : 17]>
deep (float[N, 6] x) => (float[N, 3] y) {{
  h0 = MatMul(x, first)
  {" ".join(f"r{i} = Relu(h{i}) h{i + 1} = MatMul(r{i}, w{i})" for i in range(6))}
  y = MatMul(h6, last)
}}
"""


@pytest.fixture
def deep_trainer(make_trainer):
    return partial(build_deep, make_trainer)


def build_deep(make_trainer):
    """Return what trains a wide perceptron of eight layers, which bears smaller steps than a small one of two."""
    proto = onnx.parser.parse_model(DEEP)
    rng = np.random.default_rng(0)
    shapes = {"first": (6, 64), **{f"w{i}": (64, 64) for i in range(6)}, "last": (64, 3)}
    for name, shape in shapes.items():
        values = rng.normal(0, (2 / shape[0]) ** 0.5, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    graph = load_graph(proto)
    teacher = OnnxModule(graph).eval()
    x = rng.normal(size=(300, 6)).astype(np.float32)
    labels = teacher({"x": x})["y"].argmax(1).numpy().astype(np.int64)
    data = Dataset({"x": x}, labels, Preprocessing(), "task", "random points")
    return replace(make_trainer(), module=OnnxModule(graph), teacher=teacher, data=data, selection=data)


def test_steps_of_the_rate_do_little_harm_and_of_ten_times_the_rate_much(deep_trainer):
    found = find_learning_rate(deep_trainer(), Allowance())
    assert LEAST < found < MOST / 3  # the test has not just come to its end
    harm = {}
    for factor in (0.3, 10):
        tried = deep_trainer()
        optimizer = torch.optim.Adam(tried.module.parameters(), factor * found)
        batches, before = tried.batches(), tried.evaluate().loss
        for _ in range(20):
            optimizer.zero_grad()
            rate.add_gradient(tried, next(batches), 0.0)
            optimizer.step()
        harm[factor] = tried.evaluate().loss - before
    assert harm[10] > 10 * abs(harm[0.3])


def test_without_labels_there_is_nothing_to_find_where_the_original_is_the_best_there_is(deep_trainer):
    trainer = deep_trainer()
    unlabelled = replace(trainer.data, labels=None)
    trainer = replace(trainer, data=unlabelled, objective=Objective(("y",)))
    assert find_learning_rate(trainer, Allowance()) is None


@pytest.mark.parametrize("portion", [1, 8])
def test_a_model_that_insists_on_its_batch_has_the_rate_of_one_that_does_not(make_trainer, portion):
    free, bound = (find_learning_rate(make_trainer(batch=batch), Allowance()) for batch in ("N", portion))
    assert bound == pytest.approx(free, rel=0.3)


def test_a_shorter_test_is_trusted_less_far(make_trainer, monkeypatch):
    def harmless(trainer, *_):
        for weight in trainer.module.parameters():
            weight.grad = torch.ones_like(weight)
        return 0.0

    monkeypatch.setattr(rate, "add_gradient", harmless)
    whole, half = (find_learning_rate(make_trainer(), Allowance(steps=steps)) for steps in (STEPS, STEPS // 2))
    assert MOST / 1.2 < whole <= MOST
    assert 0.6 < half / whole < 0.75


def test_the_model_and_the_order_of_its_batches_are_left_as_they_were(make_trainer):
    trainer = make_trainer()
    before = {key: value.clone() for key, value in trainer.module.state_dict().items()}
    state = trainer.rng.bit_generator.state
    find_learning_rate(trainer, Allowance())
    assert all(torch.equal(value, before[key]) for key, value in trainer.module.state_dict().items())
    assert all(weight.grad is None for weight in trainer.module.parameters())
    assert trainer.rng.bit_generator.state == state


def test_the_same_model_and_data_give_the_same_rate(make_trainer):
    assert find_learning_rate(make_trainer(), Allowance()) == find_learning_rate(make_trainer(), Allowance())


@pytest.mark.parametrize("steps", [0, 1, LEAST_STEPS - 1])
def test_nothing_is_found_in_few_steps(trainer, steps):
    assert find_learning_rate(trainer, Allowance(steps=steps)) is None


def test_nothing_is_looked_for_where_the_first_step_shows_that_there_is_no_time(trainer, monkeypatch):
    slow = rate.add_gradient

    def gradient(*arguments):
        time.sleep(0.05)
        return slow(*arguments)

    monkeypatch.setattr(rate, "add_gradient", gradient)
    started = time.monotonic()
    assert find_learning_rate(trainer, Allowance(seconds=0.2)) is None
    assert time.monotonic() - started < 0.2


def test_an_output_of_integers_beside_the_scores_is_not_asked_for_its_mean(make_trainer):
    found = find_learning_rate(make_trainer(with_class=True), Allowance())
    assert found == pytest.approx(find_learning_rate(make_trainer(), Allowance()))
