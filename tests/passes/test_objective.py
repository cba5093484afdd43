import onnx.parser
import pytest
import torch

from passes.objective import Objective, class_output, correct, objective_for
from toolchain.graph import load_graph

TWO_OUTPUTS = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x) => (float[N, 4] p, float[N, 4, 1] z, int64[N] i) {
  p = Softmax(x)
  axis = Constant<value_ints: ints = [2]>()
  z = Unsqueeze(x, axis)
  i = ArgMax<axis = 1, keepdims = 0>(x)
}
"""


def test_the_loss_covers_every_float_output():
    objective = objective_for(load_graph(onnx.parser.parse_model(TWO_OUTPUTS)), labelled=False)
    assert objective.outputs == ("p", "z")
    assert objective.normalised == {"p"}
    teacher = {"p": torch.tensor([[0.7, 0.3]]), "z": torch.tensor([[1.0, 2.0]])}
    same = objective.loss(teacher, teacher, None)
    worse_p = objective.loss({**teacher, "p": torch.tensor([[0.5, 0.5]])}, teacher, None)
    worse_z = objective.loss({**teacher, "z": torch.tensor([[1.0, 3.0]])}, teacher, None)
    assert float(same) == pytest.approx(0, abs=1e-6)
    assert worse_p > same
    assert worse_z > same


def test_labels_add_a_cross_entropy_on_the_class_output():
    objective = Objective(("y",), "y")
    logits = {"y": torch.tensor([[4.0, 0.0]])}
    right = objective.loss(logits, logits, torch.tensor([0]))
    wrong = objective.loss(logits, logits, torch.tensor([1]))
    assert wrong > right


def test_the_scale_of_an_output_does_not_change_its_loss():
    student, teacher = torch.randn(8, 3), torch.randn(8, 3)
    objective = Objective(("y",))
    small = objective.loss({"y": student}, {"y": teacher}, None)
    large = objective.loss({"y": 100 * student}, {"y": 100 * teacher}, None)
    assert float(small) == pytest.approx(float(large), rel=1e-4)


def test_the_class_output_is_the_first_matrix_of_floats():
    assert class_output(load_graph(onnx.parser.parse_model(TWO_OUTPUTS))) == "p"


def test_correct_counts_rows_with_the_largest_score_at_the_label():
    assert correct(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([1, 1])) == 1
