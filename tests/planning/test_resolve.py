import json
import re
import tempfile
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.amounts import QuantSpec, parse_prune
from toolchain.errors import RecipeError
from toolchain.graph import load_graph
from toolchain.planning.plan import PruneGroup
from toolchain.planning.pruning import largest_ratio
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan
from toolchain.structures import parse_structure


def chain(*sizes):
    """Return a graph of MatMuls whose constant weights are ``[1, size]``, named w0, w1, ..."""
    nodes = "\n".join(f"y{i} = MatMul(x, w{i})" for i in range(len(sizes)))
    weights = ", ".join(f"float[1, {size}] w{i}" for i, size in enumerate(sizes))
    outputs = ", ".join(f"float[1, {size}] y{i}" for i, size in enumerate(sizes))
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[1, 1] x) => ({outputs}) <{weights}> {{ {nodes} }}'
    return load_graph(filled(text))


def filled(text):
    """Return the model of ``text`` with zeros for the tensors that it only declares."""
    model = onnx.parser.parse_model(text)
    for info in model.graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), info.name))
    del model.graph.value_info[:]
    return model


@pytest.fixture(scope="module")
def cnn():
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        cnn (float[1, 1, 8, 8] image) => (float[1, 10] logits)
        <float[4, 1, 3, 3] "conv1.weight", float[4] "conv1.bias", float[8, 4, 3, 3] "conv2.weight",
         float[128, 10] "fc.weight", float[10] "fc.bias", float[1] half>
        {
            a = Conv<kernel_shape = [3, 3]>(image, "conv1.weight", "conv1.bias")
            b = Conv<kernel_shape = [3, 3]>(a, "conv2.weight")
            c = Mul(b, half)
            d = Flatten(c)
            logits = Gemm(d, "fc.weight", "fc.bias")
        }
    """
    return load_graph(filled(text))


CONV1, CONV2, FC = 36, 288, 1280
TOTAL = CONV1 + CONV2 + FC


def plan_of(graph, tmp_path, text="", prune=None, quant=None):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return make_plan(graph, read_request(Request(prune=prune, quant=quant, recipe=path)))


def test_one_target_makes_one_group_over_every_prunable_tensor(cnn):
    plan = make_plan(cnn, read_request(Request(prune="36x", quant="2bit")))
    names = ("conv1.weight", "conv2.weight", "fc.weight")
    assert plan.prune.groups == (PruneGroup(names, round(TOTAL / 36), TOTAL),)
    assert (plan.prune.total, plan.prune.kept, plan.prune.names) == (TOTAL, round(TOTAL / 36), names)
    assert plan.quantize.targets == tuple((name, QuantSpec("uniform", 2)) for name in names)


def test_prune_alone_and_quant_alone_make_one_step(cnn):
    assert make_plan(cnn, read_request(Request(prune="50%"))).quantize is None
    assert make_plan(cnn, read_request(Request(quant="ternary"))).prune is None


def test_excluded_tensors_count_as_dense_and_the_rest_absorbs(cnn, tmp_path):
    plan = plan_of(cnn, tmp_path, 'exclude = ["conv1.*"]', prune="4x", quant="8bit")
    (group,) = plan.prune.groups
    assert group == PruneGroup(("conv2.weight", "fc.weight"), TOTAL // 4 - CONV1, CONV2 + FC)
    assert plan.prune.kept == TOTAL // 4
    assert plan.quantize.names == ("conv2.weight", "fc.weight")


def test_tensors_with_their_own_target_form_their_own_groups(cnn, tmp_path):
    plan = plan_of(cnn, tmp_path, '[[tensor]]\nop = "Conv"\nprune = "2x"', prune="4x")
    conv1, conv2, rest = plan.prune.groups
    assert conv1 == PruneGroup(("conv1.weight",), CONV1 // 2, CONV1)
    assert conv2 == PruneGroup(("conv2.weight",), CONV2 // 2, CONV2)
    assert rest == PruneGroup(("fc.weight",), TOTAL // 4 - CONV1 // 2 - CONV2 // 2, FC)
    assert plan.prune.kept == TOTAL // 4


def test_without_an_overall_target_the_other_tensors_stay_dense(cnn, tmp_path):
    plan = plan_of(cnn, tmp_path, '[[tensor]]\nmatch = "fc.weight"\nprune = "10x"')
    assert plan.prune.groups == (PruneGroup(("fc.weight",), FC // 10, FC),)
    assert plan.prune.kept == TOTAL - FC + FC // 10


def test_later_rules_win_and_each_says_only_what_it_names(cnn, tmp_path):
    text = """
        exclude = ["*"]
        [[tensor]]
        op = "Conv"
        quant = "8bit"
        [[tensor]]
        match = "conv2.weight"
        quant = "4bit"
        prune = "2x"
    """
    plan = plan_of(cnn, tmp_path, text)
    assert plan.quantize.targets == (
        ("conv1.weight", QuantSpec("uniform", 8)),
        ("conv2.weight", QuantSpec("uniform", 4)),
    )
    assert plan.prune.names == ("conv2.weight",)


def test_false_keeps_a_tensor_dense_or_float(cnn, tmp_path):
    text = '[[tensor]]\nmatch = "conv1.*"\nprune = false\n[[tensor]]\nmatch = "fc.*"\nquant = false'
    plan = plan_of(cnn, tmp_path, text, prune="2x", quant="4bit")
    assert plan.prune.names == ("conv2.weight", "fc.weight")
    assert plan.quantize.names == ("conv1.weight", "conv2.weight")


def test_a_glob_may_also_touch_tensors_that_cannot_be_pruned(cnn, tmp_path):
    assert plan_of(cnn, tmp_path, '[[tensor]]\nmatch = "fc.*"\nprune = "2x"').prune.names == ("fc.weight",)


def test_excluding_what_is_never_touched_is_no_mistake(cnn, tmp_path):
    assert plan_of(cnn, tmp_path, 'exclude = ["*.bias"]', quant="8bit").quantize is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('exclude = ["conv1.wieght"]', "exclude: no tensor matches 'conv1.wieght'; did you mean conv1.weight"),
        ('[[tensor]]\nmatch = "cnv*"\nprune = "2x"', "number 1: no tensor matches 'cnv*'"),
        ('[[tensor]]\nop = "Conv"\nmatch = "fc.*"\nprune = "2x"', "no tensor of Conv matches 'fc.*'"),
        ('[[tensor]]\nop = "Cnv"\nprune = "2x"', "no operator 'Cnv' with a constant tensor; did you mean Conv"),
        ('[[tensor]]\nmatch = "*.bias"\nprune = "2x"', "conv1.bias (bias), fc.bias (bias)"),
        ('[[tensor]]\nop = "Mul"\nprune = "2x"', "half (elementwise operand of Mul)"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(cnn, tmp_path, text, message):
    with pytest.raises(RecipeError) as caught:
        plan_of(cnn, tmp_path, text, prune="2x")
    assert message in str(caught.value)


def test_brackets_in_a_tensor_name_match_themselves(tmp_path):
    graph = chain(10)
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    proto.graph.initializer[0].name = proto.graph.node[0].input[1] = "w[0]"
    assert plan_of(load_graph(proto), tmp_path, '[[tensor]]\nmatch = "w[0]"\nprune = "2x"').prune.names == ("w[0]",)


def test_a_graph_with_nothing_to_prune_is_an_error_with_the_reasons():
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) <float[2] b = {1, 2}> { y = Add(x, b) }'
    )
    with pytest.raises(RecipeError, match=r"nothing to prune or quantize: b \(elementwise operand of Add\)"):
        make_plan(load_graph(onnx.parser.parse_model(text)), read_request(Request(prune="2x")))


def test_a_graph_without_constants_is_an_error():
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    with pytest.raises(RecipeError, match="the graph has no constant tensors"):
        make_plan(load_graph(onnx.parser.parse_model(text)), read_request(Request(quant="2bit")))


def test_excluding_everything_leaves_nothing_to_quantize(cnn, tmp_path):
    with pytest.raises(RecipeError, match="nothing to quantize"):
        plan_of(cnn, tmp_path, 'exclude = ["*"]', quant="2bit")


def test_an_unreachable_ratio_names_the_largest_that_is(cnn):
    with pytest.raises(RecipeError, match=r"prune 1000x cannot be reached: it leaves 2 of 1,604 weights") as caught:
        make_plan(cnn, read_request(Request(prune="1000x")))
    assert caught.value.hint == "the largest ratio that can be reached is 534.66x"
    assert make_plan(cnn, read_request(Request(prune="534.66x"))).prune.kept == 3


def test_excluded_tensors_bound_the_reachable_ratio(cnn, tmp_path):
    with pytest.raises(RecipeError, match="1,280 stay in any case: excluded, skipped, or of a target") as caught:
        plan_of(cnn, tmp_path, 'exclude = ["fc.*"]', prune="36x")
    assert "1.25x" in caught.value.hint


def test_a_single_tensor_cannot_be_emptied(cnn, tmp_path):
    with pytest.raises(RecipeError, match=r"'conv1.weight' has 36 weights and cannot be pruned 100x") as caught:
        plan_of(cnn, tmp_path, '[[tensor]]\nmatch = "conv1.weight"\nprune = "100x"')
    assert "36.00x" in caught.value.hint


def test_single_targets_that_prune_more_than_the_whole_are_an_error(cnn, tmp_path):
    with pytest.raises(RecipeError, match=r"keeps 802 of 1,604 weights.* leave only 452"):
        plan_of(cnn, tmp_path, '[[tensor]]\nmatch = "fc.weight"\nprune = "10x"', prune="2x")


def test_the_plan_is_plain_json(cnn, tmp_path):
    plan = plan_of(cnn, tmp_path, 'exclude = ["conv1.*"]', prune="4x", quant="8bit")
    assert json.loads(json.dumps(asdict(plan)))["steps"][0]["total"] == TOTAL


COLUMN, TWO_OF_FOUR, PATTERN = (parse_structure(name) for name in ("column", "2:4", "pattern"))


def structured(graph, structure, **request):
    return make_plan(graph, read_request(Request(structure=structure, **request))).prune


def test_a_structure_goes_with_the_group(cnn):
    (group,) = structured(cnn, "column", prune="4x").groups
    assert (group.structure, group.kept, len(group.names)) == (COLUMN, TOTAL // 4, 3)


def test_tensors_that_cannot_have_the_structure_stay_dense_and_the_rest_absorbs(cnn):
    step = structured(cnn, "pattern", prune="1.13x")
    (group,) = step.groups
    assert group == PruneGroup(
        ("conv1.weight", "conv2.weight"), round(TOTAL / Fraction("1.13")) - FC, CONV1 + CONV2, PATTERN
    )
    assert step.skipped == (("fc.weight", "it has no 3x3 kernels"),)
    assert step.kept == round(TOTAL / Fraction("1.13"))


def test_a_structure_that_fits_no_tensor_is_an_error_with_the_reasons(cnn):
    with pytest.raises(RecipeError, match=r"by groups: conv1.weight, conv2.weight, fc.weight \(fewer"):
        structured(cnn, "groups", prune="2x")


def test_groups_that_cannot_prune_so_far_say_what_can():
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        wide (float[1, 64] x) => (float[1, 256] y) <float[64, 256] w> { y = MatMul(x, w) }
    """
    graph = load_graph(filled(text))
    assert structured(graph, "groups", prune="4x").kept == 64 * 64
    with pytest.raises(RecipeError, match="one unit of its structure") as caught:
        structured(graph, "groups", prune="8x")
    assert caught.value.hint == "the largest ratio that can be reached is 4.00x; groups8 can keep fewer channels"
    assert structured(graph, "groups8", prune="8x").kept == 32 * 64


def test_n_of_m_says_how_much_by_itself(cnn):
    step = structured(cnn, "2:4")
    assert step.groups == (
        PruneGroup(("conv2.weight",), CONV2 // 2, CONV2, TWO_OF_FOUR),
        PruneGroup(("fc.weight",), FC // 2, FC, TWO_OF_FOUR),
    )
    assert step.skipped == (("conv1.weight", "its 1 inputs are no multiple of 4"),)


def test_n_of_m_against_another_ratio_is_an_error(cnn, tmp_path):
    with pytest.raises(RecipeError, match=r"prune 4x cannot be reached") as caught:
        structured(cnn, "2:4", prune="4x")
    assert caught.value.hint.startswith("leave prune out: structures and single targets alone keep 820 weights, 1.956x")
    assert structured(cnn, "2:4").kept == 820
    with pytest.raises(RecipeError, match=r"'fc.weight': 2:4 keeps 640 of 1,280 weights, not 320"):
        plan_of(cnn, tmp_path, '[[tensor]]\nmatch = "fc.*"\nprune = "4x"\nstructure = "2:4"')


def test_a_ratio_that_a_structure_cannot_reach_names_the_largest_it_can(cnn):
    least = 4 + 8 + 10  # one column of each
    with pytest.raises(RecipeError, match=r"keeps at least one unit of its structure") as caught:
        structured(cnn, "column", prune="100x")
    assert caught.value.hint == f"the largest ratio that can be reached is {TOTAL / least - 0.005:.2f}x"


@pytest.mark.parametrize("structure", ["unstructured", "filter1", "column", "block4x1", "pattern"])
@pytest.mark.parametrize("ratio", ["1.0001x", "1.05x", "1500x"])
def test_a_ratio_that_an_error_names_is_accepted(cnn, structure, ratio):
    try:
        structured(cnn, structure, prune=ratio)
    except RecipeError as error:
        (named,) = re.findall(r"[\d.]+x", error.hint)
        assert structured(cnn, structure, prune=named).kept < TOTAL
    else:
        assert ratio != "1500x"


@pytest.mark.parametrize("before", ['exclude = ["fc.*"]', '[[tensor]]\nmatch = "fc.*"\nprune = false'])
def test_n_of_m_says_how_much_and_wins_over_an_earlier_exclusion(cnn, tmp_path, before):
    step = plan_of(cnn, tmp_path, f'{before}\n[[tensor]]\nmatch = "fc.*"\nstructure = "2:4"').prune
    assert step.groups == (PruneGroup(("fc.weight",), FC // 2, FC, TWO_OF_FOUR),)


def test_a_structure_that_says_no_amount_leaves_excluded_tensors_alone(cnn, tmp_path):
    text = 'prune = "1.2x"\nexclude = ["fc.*"]\n[[tensor]]\nmatch = "*"\nstructure = "column"'
    assert "fc.weight" not in plan_of(cnn, tmp_path, text).prune.names


def test_a_ratio_that_a_structure_prunes_beyond_is_an_error(cnn, tmp_path):
    with pytest.raises(RecipeError, match=r"pattern keeps at most 128 of 288 weights, not 144") as caught:
        plan_of(cnn, tmp_path, '[[tensor]]\nmatch = "conv2.*"\nprune = "2x"\nstructure = "pattern"')
    assert "2.25x" in caught.value.hint


def test_what_a_fixed_ratio_leaves_goes_to_the_others(cnn, tmp_path):
    step = plan_of(cnn, tmp_path, 'structure = "column"\n[[tensor]]\nop = "Gemm"\nstructure = "2:4"', prune="2x").prune
    assert {str(group.structure): group.kept for group in step.groups} == {"2:4": FC // 2, "column": (TOTAL - FC) // 2}


def test_two_structures_of_one_target_share_it_exactly(cnn, tmp_path):
    text = 'structure = "column"\n[[tensor]]\nop = "Gemm"\nstructure = "unstructured"'
    step = plan_of(cnn, tmp_path, text, prune="4x").prune
    assert {str(group.structure): group.kept for group in step.groups} == {"column": 81, "unstructured": 320}
    assert step.kept == TOTAL // 4


def test_a_structure_without_an_amount_is_an_error(cnn):
    with pytest.raises(RecipeError, match="not how much") as caught:
        structured(cnn, "column")
    assert "--prune" in caught.value.hint


SIZES = st.lists(st.integers(2, 60), min_size=1, max_size=5)
PERCENT = st.integers(1, 99)


@given(SIZES, PERCENT, st.data())
def test_counts_are_exact_whatever_is_excluded_or_has_its_own_target(sizes, percent, data):
    roles = data.draw(st.lists(st.sampled_from(["rest", "own", "dense"]), min_size=len(sizes), max_size=len(sizes)))
    rules = [
        f'[[tensor]]\nmatch = "w{i}"\nprune = {"false" if role == "dense" else "0.5"}'
        for i, role in enumerate(roles)
        if role != "rest"
    ]
    total, asked = sum(sizes), parse_prune(f"{percent}%").kept(sum(sizes))
    own = {i: size - round(size * Fraction(1, 2)) for i, size in enumerate(sizes) if roles[i] == "own"}
    rest = [size for size, role in zip(sizes, roles, strict=True) if role == "rest"]
    fixed = sum(own.values()) + sum(size for size, role in zip(sizes, roles, strict=True) if role == "dense")
    reachable = all(own.values()) and fixed + len(rest) <= asked <= fixed + sum(rest)
    try:
        plan = plan_from("\n".join(rules), chain(*sizes), f"{percent}%")
    except RecipeError:
        assert not reachable
        return
    assert reachable
    assert (plan.prune.total, plan.prune.kept) == (total, asked)
    names = plan.prune.names
    assert len(set(names)) == len(names)
    assert all(len(group.names) <= group.kept <= group.size for group in plan.prune.groups)


def plan_from(text, graph, prune):
    with tempfile.TemporaryDirectory() as folder:
        return plan_of(graph, Path(folder), text, prune=prune)


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_the_largest_ratio_named_can_really_be_reached(weights, least):
    ratio = largest_ratio(weights, min(least, weights))
    if ratio > 1:
        assert parse_prune(f"{ratio:.2f}x").kept(weights) >= min(least, weights)


SEQUENCE = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1, 4] x) => (float[1, 4] d) <float[4, 4] w0, float[4, 4] w1, float[4, 4] w2> {
  a = MatMul(x, w0)
  b = MatMul(a, w1)
  d = MatMul(b, w2)
}
"""


@pytest.mark.parametrize(
    ("first_last", "expected"),
    [
        (None, {"w0": "2bit", "w1": "2bit", "w2": "2bit"}),
        ("8bit", {"w0": "8bit", "w1": "2bit", "w2": "8bit"}),
        ("float", {"w1": "2bit"}),
    ],
)
def test_the_first_and_last_tensors_may_have_a_grid_of_their_own(first_last, expected):
    plan = make_plan(load_graph(filled(SEQUENCE)), read_request(Request(quant="2bit", first_last=first_last)))
    assert {name: str(spec) for name, spec in plan.quantize.targets} == expected


def test_a_table_wins_over_first_last(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('quant = "2bit"\nfirst_last = false\n[[tensor]]\nmatch = "w0"\nquant = "4bit,block32"\n')
    plan = make_plan(load_graph(filled(SEQUENCE)), read_request(Request(recipe=recipe)))
    assert {name: str(spec) for name, spec in plan.quantize.targets} == {"w0": "4bit,block32", "w1": "2bit"}


def test_first_last_needs_a_grid_that_it_differs_from():
    with pytest.raises(RecipeError, match="first_last"):
        read_request(Request(prune="2x", first_last="8bit"))
    with pytest.raises(RecipeError, match="auto"):
        read_request(Request(quant="2bit", first_last="auto"))
