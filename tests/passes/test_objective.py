import onnx.parser
import pytest
import torch

from passes.objective import Distribution, Objective, correct, find_spreads, objective_for
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
    losses = []
    for scale in (1, 100):
        answers = {"y": scale * teacher}
        objective = Objective(("y",), spreads=find_spreads([answers], ["y"]))
        losses.append(float(objective.loss({"y": scale * student}, answers, None)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_spreads_are_over_all_samples_however_they_come():
    values = 5 + torch.randn(12, 3)
    whole = find_spreads([{"y": values}], ["y"])
    assert whole["y"] == pytest.approx(float(values.var(correction=0)), rel=1e-5)
    assert find_spreads(({"y": row} for row in values.split(1)), ["y"])["y"] == pytest.approx(whole["y"])


@pytest.mark.parametrize(("value", "expected"), [(0.0, 1.0), (3.0, 9.0)])
def test_an_output_that_never_changes_is_measured_by_its_size(value, expected):
    assert find_spreads([{"y": torch.full((4, 1), value)}], ["y"]) == {"y": pytest.approx(expected)}


def test_samples_weigh_alike_in_batches_of_any_size():
    teacher = torch.randn(9, 1)
    student = teacher + 0.1
    objective = Objective(("y",), spreads=find_spreads([{"y": teacher}], ["y"]))
    parts = zip(student.split(4), teacher.split(4), strict=True)  # the last of a single number, which has no variance
    losses = [float(objective.loss({"y": one}, {"y": other}, None)) for one, other in parts]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)


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
