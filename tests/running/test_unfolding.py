"""A lent normalization changes nothing; it is lent to bare convolutions of deep models alone."""

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

from toolchain.formats import Grid, TensorFormat
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.running.refolding import refold
from toolchain.running.unfolding import FEWEST, bare_convolutions, unfold

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'


def chain(depth, last="y = Relu (c{last})", bias=True):
    """Return a chain of 3x3 convolutions with a Relu after each; odd ones have no bias where ``bias`` is false."""
    rng = np.random.default_rng(0)
    lines, tensors, value = [], [], "x"
    for number in range(depth):
        has_bias = bias or number % 2 == 0
        extra = f", b{number}" if has_bias else ""
        lines.append(f"  [conv{number}] c{number} = Conv <pads = [1, 1, 1, 1]> ({value}, w{number}{extra})")
        lines.append(f"  r{number} = Relu (c{number})")
        tensors.append(numpy_helper.from_array(rng.standard_normal((4, 4, 3, 3), np.float32) / 4, f"w{number}"))
        if has_bias:
            tensors.append(numpy_helper.from_array(rng.standard_normal(4).astype(np.float32), f"b{number}"))
        value = f"r{number}"
    lines.append("  " + last.format(last=depth - 1))
    text = HEADER + "net (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {\n" + "\n".join(lines) + "\n}"
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(tensors)
    return load_graph(proto)


@pytest.fixture
def x():
    return {"x": torch.randn(64, 4, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.5}


def lend(graph, x):
    model = OnnxModule(graph).eval()
    return model, *unfold(model, bare_convolutions(graph), [{"x": part} for part in x["x"].split(32)])


def test_the_unfolded_graph_computes_the_same(x):
    model, graph, names = lend(chain(FEWEST), x)
    assert len(names) == FEWEST == sum(node.op == "BatchNormalization" for node in graph.nodes)
    onnx.checker.check_model(graph.proto, full_check=True)
    assert torch.allclose(OnnxModule(graph).eval()(x)["y"], model(x)["y"], atol=1e-4)


def test_nodes_keep_the_names_that_they_are_known_by(x):
    model, graph, names = lend(chain(FEWEST), x)
    expected = [node.name for node in model.graph.nodes]
    assert [node.name for node in graph.nodes if node.name not in names] == expected
    assert [node.name for node in refold(OnnxModule(graph).eval(), names).graph.nodes] == expected


def test_its_statistics_are_those_of_the_batches_so_that_training_begins_where_the_model_is(x):
    model, graph, _ = lend(chain(FEWEST), x)
    assert torch.allclose(OnnxModule(graph).train()(x)["y"], model(x)["y"], atol=1e-3)


@pytest.mark.parametrize("bias", [True, False])
def test_what_was_trained_with_normalizations_is_folded_exactly(x, bias):
    _, graph, names = lend(chain(FEWEST, bias=bias), x)
    module = OnnxModule(graph).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (*module.weights().values(), *module.buffers_by_name().values()):
            tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=generator))
        weight = module.weights()["w1"]
        weight.mul_(torch.rand(weight.shape, generator=generator) > 0.5)
        module.weights()[module.graph.nodes[1].inputs[1]].neg_()  # a normalization may turn a channel around
    folded = refold(module, names)
    assert [node.op for node in folded.graph.nodes if node.op == "BatchNormalization"] == []
    onnx.checker.check_model(folded.graph.proto, full_check=True)
    expected = module(x)["y"].detach()
    assert torch.allclose(folded(x)["y"], expected, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(folded.weights()["w1"] == 0, weight == 0)
    assert {"w0", "b0"} <= folded.weights().keys()


@pytest.mark.parametrize(
    ("levels", "sign", "folds"),
    [((-1, 0, 1), -1, True), ((-2, -1, 0, 1), 1, True), ((-2, -1, 0, 1), -1, False)],
    ids=["symmetric", "positive", "a negative factor and levels that are not symmetric"],
)
def test_a_grid_takes_the_factors_into_its_scales(x, levels, sign, folds):
    _, graph, names = lend(chain(FEWEST), x)
    module = OnnxModule(graph).eval()
    weight, scale = module.weights()["w1"], torch.rand(4, generator=torch.Generator().manual_seed(2)) + 0.5
    module.formats["w1"] = TensorFormat(None, Grid(levels, scale, axis=0))
    with torch.no_grad():
        weight.copy_(module.formats["w1"].project(weight * 3))
        module.weights()[next(node.inputs[1] for node in graph.nodes if node.name == names[1])].mul_(2 * sign)
    folded = refold(module, names)
    expected = module(x)["y"].detach()
    assert torch.allclose(folded(x)["y"], expected, atol=1e-4 * float(expected.abs().max()))
    now = folded.weights()["w1"]
    assert torch.equal(folded.formats["w1"].project(now), now)
    assert any(node.op == "BatchNormalization" for node in folded.graph.nodes) != folds
    assert torch.equal(folded.formats["w1"].grid.scale, scale) != folds


def test_only_the_named_normalizations_are_folded(x):
    _, graph, names = lend(chain(FEWEST), x)
    folded = refold(OnnxModule(graph).eval(), names[:2])
    assert sum(node.op == "BatchNormalization" for node in folded.graph.nodes) == FEWEST - 2


def test_few_convolutions_train_as_they_are():
    assert bare_convolutions(chain(FEWEST - 1)) == []


def test_a_convolution_that_makes_an_output_is_left_alone():
    assert bare_convolutions(chain(FEWEST, last="y = Relu (x)")) != []
    graph = chain(FEWEST)
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("c0", onnx.TensorProto.FLOAT, ["N", 4, 6, 6]))
    assert bare_convolutions(load_graph(proto)) == []


def test_a_normalised_convolution_is_not_bare(x):
    _, graph, _ = lend(chain(FEWEST), x)
    assert bare_convolutions(graph) == []


def test_a_shared_weight_is_not_folded():
    proto = onnx.ModelProto()
    proto.CopyFrom(chain(FEWEST + 1).proto)
    proto.graph.node[2].input[1] = "w0"
    assert [node.name for node in bare_convolutions(load_graph(proto))] == []
    proto.CopyFrom(chain(FEWEST + 2).proto)
    proto.graph.node[2].input[1] = "w0"
    assert len(bare_convolutions(load_graph(proto))) == FEWEST
