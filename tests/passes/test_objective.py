import onnx.parser
import pytest
import torch

from passes.objective import Distribution, Objective, correct, objective_for
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
    objective = objective_for(load_graph(onnx.parser.parse_model(TWO_OUTPUTS)), None)
    assert objective.outputs == ("p", "z")
    assert objective.normalised == {"p": Distribution(-1)}
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


def test_class_scores_with_trailing_ones_have_the_loss_and_accuracy_of_a_matrix():
    student, teacher, labels = torch.randn(6, 4), torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    objective = Objective(("y",), "y")
    flat = objective.loss({"y": student}, {"y": teacher}, labels)
    mapped = objective.loss({"y": student[..., None, None]}, {"y": teacher[..., None, None]}, labels)
    assert float(mapped) == pytest.approx(float(flat))
    assert correct(student[..., None, None], labels) == correct(student, labels)


@pytest.mark.parametrize(
    ("opset", "axis", "expected"),
    [(13, 1, Distribution(1)), (17, -2, Distribution(-2)), (11, 1, Distribution(1, flattened=True))],
)
def test_a_softmax_keeps_its_dimension_as_its_opset_means_it(opset, axis, expected):
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N, 4, 5] x) => (float[N, 4, 5] p) {{ p = Softmax<axis = {axis}>(x) }}"""
    assert objective_for(load_graph(onnx.parser.parse_model(text)), None).normalised == {"p": expected}


@pytest.mark.parametrize(("distribution", "count"), [(Distribution(1), 15), (Distribution(1, flattened=True), 3)])
def test_the_divergence_runs_over_the_dimension_of_the_softmax(distribution, count):
    logits = torch.randn(3, 4, 5)
    teacher = logits.softmax(1) if not distribution.flattened else logits.flatten(1).softmax(1).reshape(3, 4, 5)
    rows = distribution.rows(teacher)
    assert rows.shape[0] == count
    assert torch.allclose(rows.sum(1), torch.ones(count))
    student = torch.full_like(teacher, 1 / rows.shape[1])
    loss = Objective(("p",), normalised={"p": distribution}).loss({"p": student}, {"p": teacher}, None)
    # By the definition: rows of probabilities softened by the temperature 3, in units of its square.
    q = (rows ** (1 / 3)) / (rows ** (1 / 3)).sum(1, keepdim=True)
    assert float(loss) == pytest.approx(float(9 * (q * (q * rows.shape[1]).log()).sum(1).mean()), rel=1e-4)


def test_correct_counts_rows_with_the_largest_score_at_the_label():
    assert correct(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([1, 1])) == 1
