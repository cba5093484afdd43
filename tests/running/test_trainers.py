import numpy as np
import onnx.parser
import pytest
import torch

from calibration.data import Dataset, Preprocessing, Split
from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.planning.plan import TrainOptions
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan
from toolchain.progress import NullProgress
from toolchain.running.trainers import lend_normalization, make_trainer
from toolchain.running.workload import Workload

LINEAR = """
<ir_version: 8, opset_import: ["" : 17]>
linear (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }
"""
NORMALISED = """
<ir_version: 8, opset_import: ["" : 17]>
normalised (float[N, 2] x) => (float[N, 2] y)
<float[2] scale = {1, 1}, float[2] bias = {0, 0}, float[2] mean = {0, 0}, float[2] var = {1, 1}>
{ y = BatchNormalization(x, scale, bias, mean, var) }
"""
WHOLE = """
<ir_version: 8, opset_import: ["" : 17]>
whole (float[N, 2] x) => (int64[N] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }
"""


def trainer_for(text, kind="task", rows=None, **options):
    graph = load_graph(onnx.parser.parse_model(text))
    if rows is None:
        rows = np.zeros((8, *(size for size in graph.inputs[0].shape if isinstance(size, int))), np.float32)
    rows = Dataset({"x": rows}, None, Preprocessing(), kind, "rows")
    workload = Workload(Split(rows, rows, rows, ""), None, ())
    return make_trainer(TrainOptions(**options), OnnxModule(graph), OnnxModule(graph).eval(), workload, NullProgress())


DEEP = """
<ir_version: 8, opset_import: ["" : 17]>
deep (float[N, 1, 2] x) => (%s)
<float[2, 1, 1] v = {2, -1}, float[1, 2, 1] w = {3, 1}> { h = Conv(x, v)  a = Relu(h)  k = Conv(a, w)  b = Relu(k)  %s }
"""
SCORES = DEEP % ("float[N, 2] y", "y = Flatten(b)")
MAP = DEEP % ("float[N, 1, 2] y", "y = Relu(b)")


def lend(trainer, **asked):
    recipe = Request(**{"prune": "2x", "epochs": 1, **asked})
    return lend_normalization(make_plan(trainer.module.graph, read_request(recipe)).train, trainer)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr("toolchain.running.unfolding.FEWEST", 2)


@pytest.mark.usefixtures("few")
def test_normalizations_are_lent_for_training_and_change_nothing():
    trainer = trainer_for(SCORES)
    before, x = trainer.module, np.random.default_rng(0).standard_normal((4, 1, 2)).astype(np.float32)
    names = lend(trainer)
    added = [node for node in trainer.module.graph.nodes if node.op == "BatchNormalization"]
    assert tuple(node.name for node in added) == names
    assert len(names) == 2
    assert torch.allclose(trainer.module.eval()({"x": x})["y"], before({"x": x})["y"], atol=1e-5)


@pytest.mark.usefixtures("few")
def test_the_statistics_of_what_is_lent_are_those_of_all_data_whatever_their_order(monkeypatch):
    monkeypatch.setattr("toolchain.running.trainers.MOMENT_SAMPLES", 16)
    x = np.sort(np.random.default_rng(0).standard_normal((400, 1, 2)).astype(np.float32), axis=0)
    trainer = trainer_for(SCORES, rows=x, batch_size=8)
    lend(trainer)
    first = next(node for node in trainer.module.graph.nodes if node.op == "BatchNormalization")
    mean = trainer.module.tensor(first.inputs[3])
    assert mean.tolist() == pytest.approx([2 * x.mean(), -x.mean()], abs=0.2)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("text", "kind", "asked"),
    [
        (SCORES, "synthetic", {}),
        (MAP, "task", {}),
        (SCORES, "task", {"epochs": 0}),
    ],
    ids=["synthetic", "map", "no training"],
)
def test_none_are_lent_where_they_would_mislead_or_nothing_is_trained(text, kind, asked):
    trainer = trainer_for(text, kind)
    before = trainer.module
    assert lend(trainer, **asked) == ()
    assert trainer.module is before


@pytest.mark.usefixtures("few")
def test_none_are_lent_where_a_recipe_says_never(tmp_path):
    (tmp_path / "r.toml").write_text('[train]\nrenormalize = "never"\n')
    assert lend(trainer_for(SCORES), recipe=tmp_path / "r.toml") == ()


def test_the_learning_rate_is_as_asked_or_fits_the_model_and_the_data():
    assert trainer_for(LINEAR, learning_rate=0.5).learning_rate == 0.5
    assert trainer_for(LINEAR, "synthetic").learning_rate == trainer_for(NORMALISED).learning_rate
    assert trainer_for(NORMALISED, "synthetic").learning_rate < trainer_for(NORMALISED).learning_rate


@pytest.mark.parametrize("batch", ["N", "4"])
def test_errors_are_in_units_of_what_the_outputs_vary_by_over_all_data(batch):
    rows = np.repeat(np.arange(16, dtype=np.float32), 2).reshape(16, 2)  # in order, as classes may lie
    trainer = trainer_for(LINEAR.replace("float[N,", f"float[{batch},"), rows=rows)
    expected = (rows @ np.array([[1, 2], [3, 4]], np.float32)).var()
    assert trainer.objective.spreads == {"y": pytest.approx(expected, rel=1e-5)}


def test_the_statistics_of_normalization_stay_on_synthetic_inputs():
    assert trainer_for(NORMALISED).moves_normalization
    assert not trainer_for(NORMALISED, "synthetic").moves_normalization


def test_the_precision_is_as_asked():
    assert trainer_for(LINEAR).precision is torch.float32
    assert trainer_for(LINEAR, precision="bfloat16").precision is torch.bfloat16


def test_a_model_without_a_float_output_cannot_be_trained():
    with pytest.raises(ModelError, match=r"outputs y is a float tensor"):
        trainer_for(WHOLE)
    assert trainer_for(WHOLE, epochs=0).objective.outputs == ()
