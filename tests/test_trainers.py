import numpy as np
import onnx.parser
import pytest
import torch

from calibration.data import Dataset, Preprocessing, Split
from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.plan import TrainOptions
from toolchain.progress import NullProgress
from toolchain.trainers import make_trainer
from toolchain.workload import Workload

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


def trainer_for(text, kind="task", **options):
    graph = load_graph(onnx.parser.parse_model(text))
    rows = Dataset({"x": np.zeros((8, 2), np.float32)}, None, Preprocessing(), kind, "zeros")
    workload = Workload(Split(rows, rows, rows, ""), None, ())
    return make_trainer(TrainOptions(**options), OnnxModule(graph), OnnxModule(graph), workload, NullProgress())


def test_the_learning_rate_is_as_asked_or_fits_the_model_and_the_data():
    assert trainer_for(LINEAR, learning_rate=0.5).learning_rate == 0.5
    assert trainer_for(LINEAR, "synthetic").learning_rate == trainer_for(NORMALISED).learning_rate
    assert trainer_for(NORMALISED, "synthetic").learning_rate < trainer_for(NORMALISED).learning_rate


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
