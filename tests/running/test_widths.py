import numpy as np
import onnx.parser
import pytest
import torch

from passes.constraints.levels import fit_grid, level_target
from toolchain.amounts import parse_quant
from toolchain.export import write_model
from toolchain.export.kernels import KERNELS
from toolchain.formats import TensorFormat
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.planning.plan import Plan, PruneStep, QuantizeStep
from toolchain.running.run import Compression
from toolchain.running.widths import Width, describe_widths, width_notes

PRODUCTS = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 64] x) => (float[N, 32] y) <float[64, 48] v, float[48, 32] w> {
  h = MatMul(x, v)
  y = MatMul(h, w)
}
"""


def quantized(specs):
    """Return a module of two products whose weights lie on the grids of ``specs``, by name."""
    proto = onnx.parser.parse_model(PRODUCTS)
    rng = np.random.default_rng(0)
    for info in proto.graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype("f"), info.name))
    del proto.graph.value_info[:]
    module = OnnxModule(load_graph(proto)).eval()
    with torch.no_grad():
        for name, spec in specs.items():
            weight = module.tensor(name)
            module.formats[name] = TensorFormat(grid=fit_grid(weight, None, level_target(spec, False, 1)))
            weight.copy_(module.formats[name].project(weight))
    return module


def notes(asked, kernels, bits=None):
    """Return what is said of the file of a module; ``bits`` are those that were found."""
    specs = {name: parse_quant(text) for name, text in asked.items()}
    step = QuantizeStep(tuple(specs.items()))
    module = quantized(step.grids(bits or {}))
    nodes = {node.inputs[1]: node.name for node in module.graph.nodes}
    written = write_model(module, {nodes[name]: kernel for name, kernel in kernels.items()})
    plan = Plan((step,))
    return width_notes(plan, Compression(bits=bits or {}), module, written.tensors)


def test_bits_without_a_kernel_are_told_with_what_file_and_memory_hold():
    (note,) = notes({"v": "3bit", "w": "3bit"}, {"v": "nbits", "w": "nbits"})
    assert note.startswith("3-bit weights of 2 tensors run as 4-bit integers, by the kernel 'nbits': each takes ")
    assert note.endswith(" bits of the file, with what decodes it, and 4 of memory while a session runs.")
    assert 3 <= float(note.split("each takes ")[1].split()[0]) < 5  # of small tensors, whose scales count


def test_every_kernel_has_a_sentence():
    first, second = notes({"v": "5bit", "w": "5bit"}, {"v": "dynamic", "w": "float"})
    assert first.startswith("5-bit weights of 1 tensor run as 8-bit integers, by the kernel 'dynamic'")
    assert second.startswith("5-bit weights of 1 tensor run as 32-bit floats, by the kernel 'float'")


@pytest.mark.parametrize(("asked", "kernel"), [("8bit", "dynamic"), ("4bit", "nbits"), ("ternary", "nbits")])
def test_nothing_is_said_where_bits_have_a_kernel(asked, kernel):
    assert notes({"v": asked}, {"v": kernel}) == ()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("2bit", "2-bit weights of 1 tensor run as 4-bit"),  # -3, -1, 1 and 3
        ("binary", "Binary weights of 1 tensor run as 2-bit"),
        ("4bit,power", "4-bit weights of 1 tensor run as 8-bit"),  # up to 64
    ],
)
def test_the_levels_decide_how_many_bits_a_matrix_of_few_bits_takes(asked, said):
    (note,) = notes({"v": asked}, {"v": "nbits"})
    assert note.startswith(said)


def test_bits_that_were_found_are_those_that_count():
    (note,) = notes({"v": "auto", "w": "auto"}, {"v": "dynamic", "w": "dynamic"}, {"v": 6, "w": 8})
    assert note.startswith("6-bit weights of 1 tensor run as 8-bit")


def test_nothing_is_said_where_nothing_is_quantized():
    assert width_notes(Plan((PruneStep((), 0),)), Compression(), quantized({}), {}) == ()


def test_tensors_of_the_same_bits_and_kernel_are_counted_together():
    spec = parse_quant("6bit")
    widths = [Width(spec, "int8", 8, 1000, 700), Width(spec, "int8", 8, 3000, 2300)]
    assert describe_widths(widths) == (
        "6-bit weights of 2 tensors run as 8-bit integers, by the kernel 'int8': each takes 6 bits of the file, with "
        "what decodes it, and 8 of memory while a session runs.",
    )


def test_every_kernel_says_what_it_holds_or_leaves_it_to_the_levels():
    assert {name for name, kernel in KERNELS.items() if kernel.bits is None} == {"nbits"}
    assert {kernel.bits for kernel in KERNELS.values()} == {None, 8, 32}
