import numpy as np
import onnxruntime as ort
import pytest

from toolchain.hints.alternatives import alternatives
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan


def found(original, **asked):
    plan = make_plan(original.graph, read_request(Request(**asked)))
    return {item.options: item for item in alternatives(original, plan)}


def ran(original, proto):
    """The operators that the runtime executes, once the model has run on a sample."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    sample = original.few.batch(np.arange(original.graph.batch_size or 1)).feeds
    (output,) = session.run(None, sample)
    assert np.isfinite(output).all()
    return [node.op_type for node in proto.graph.node]


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (
            {"prune": "36x"},
            ["--prune 4x --structure groups", "--prune 4x --structure channel", "--quant 8bit"],
        ),
        (
            {"prune": "3x"},
            ["--prune 2x --structure groups", "--prune 2x --structure channel", "--quant 8bit"],
        ),
        ({"prune": "2x", "structure": "groups"}, ["--prune 2x --structure channel", "--quant 8bit"]),
        ({"prune": "2x", "structure": "channel", "quant": "8bit"}, ["--prune 2x --structure groups"]),
        ({"prune": "2x", "structure": "filter", "quant": "8bit"}, ["--prune 2x --structure groups"]),
        ({"quant": "2bit"}, ["--prune 4x --structure groups", "--prune 4x --structure channel"]),
        ({"prune": "1.5x"}, ["--prune 2x --structure groups", "--prune 2x --structure channel", "--quant 8bit"]),
    ],
)
def test_what_is_not_in_use_is_offered_at_no_more_than_was_asked_and_can_be_reached(wide, asked, options):
    """8x in groups cannot be reached: 16 of 128 channels stay at least, and the last layer is too narrow."""
    assert list(found(wide, **asked)) == options


def test_groups_become_gathered_channels(wide):
    proto = found(wide, prune="4x")["--prune 4x --structure groups"].build()
    assert ran(wide, proto).count("Gather") >= 2
    groups = [a.i for node in proto.graph.node if node.op_type == "Conv" for a in node.attribute if a.name == "group"]
    assert groups == [4, 4]


def test_channels_leave_smaller_shapes(wide):
    proto = found(wide, prune="4x")["--prune 4x --structure channel"].build()
    shapes = {item.name: list(item.dims) for item in proto.graph.initializer}
    kept = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert "Gather" not in ran(wide, proto)
    assert len(kept) == 2
    assert sum(np.prod(shape) for shape in shapes.values()) <= 2 * 128 * 128 * 9 / 4 + 10 * 128


def test_8_bits_put_every_layer_into_integers(wide):
    proto = found(wide, prune="4x")["--quant 8bit"].build()
    operators = ran(wide, proto)
    assert operators.count("QuantizeLinear") >= 3
    assert operators.count("DequantizeLinear") >= 6


def test_building_leaves_the_original_as_it_was(wide):
    before = {name: weight.detach().clone() for name, weight in wide.teacher.weights().items()}
    for item in found(wide, prune="4x").values():
        item.build()
    for name, weight in wide.teacher.weights().items():
        assert weight.equal(before[name])
        assert (wide.graph.initializers[name] == before[name].numpy()).all()


def test_options_that_do_not_fit_say_why(narrow):
    offered = found(narrow, prune="2x")
    groups = offered["--prune 2x --structure groups"]
    assert groups.build is None
    assert "too few for groups" in groups.why
