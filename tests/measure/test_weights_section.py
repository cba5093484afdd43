from dataclasses import dataclass

import pytest
import torch

from toolchain.export import KernelChoice
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import load_graph
from toolchain.measure.weights import describe_dead, weights_section
from toolchain.module import OnnxModule


@dataclass(frozen=True)
class Stored:
    encoding: str
    kernel: str
    bytes: int


@pytest.fixture
def module(make_models):
    return OnnxModule(load_graph(make_models()[0]))


def test_zeros_are_counted_from_values_and_not_from_masks(module):
    weight = module.weights()["first_weight"]
    module.formats["first_weight"] = TensorFormat(mask=torch.ones(16, 6, dtype=torch.bool))
    with torch.no_grad():
        weight.view(-1)[:90] = 0

    section = weights_section(module.graph, module, {})

    assert section["tensors"][0]["nonzero"] == sum(section["tensors"][0]["histogram"]["compressed"]) == 6
    assert sum(section["tensors"][0]["histogram"]["original"]) == 96
    assert (section["total"], section["nonzero"], section["nonzero_original"]) == (160, 70, 160)
    assert section["ratio"] == 160 / 70


def test_bits_come_from_the_grid_and_bytes_from_the_exporter(module):
    module.formats["first_weight"] = TensorFormat(grid=Grid((-2, -1, 1, 2), torch.tensor(0.5)))
    stored = {"first_weight": Stored("packed", "int8", 24), "second_weight": Stored("dense", "float", 256)}

    section = weights_section(module.graph, module, stored)

    first, second = section["tensors"]
    assert (first["bits"], first["encoding"], first["kernel"], first["bytes"]) == (2, "packed", "int8", 24)
    assert (second["bits"], second["shape"], second["op"]) == (32, [4, 16], "Gemm")
    assert section["bits_per_weight"] == 8 * (24 + 256) / 160


def test_a_tensor_that_the_exporter_left_alone_is_dense_float(module):
    row = weights_section(module.graph, module, {})["tensors"][1]

    assert (row["encoding"], row["kernel"], row["bytes"]) == ("dense", "float", 4 * 64)
    assert row["original_bytes"] == 4 * 64


def test_a_model_whose_weights_are_all_zero_has_no_ratio(module):
    with torch.no_grad():
        for weight in module.weights().values():
            weight.zero_()

    assert weights_section(module.graph, module, {})["ratio"] is None


def test_a_row_says_why_its_node_has_its_kernel(module):
    choice = KernelChoice("int8", "int8 2x faster than float", {"int8": 1.0, "float": 2.0})

    first, second = weights_section(module.graph, module, {}, {module.graph.nodes[0].name: choice})["tensors"]

    assert (first["kernel_reason"], second["kernel_reason"]) == ("int8 2x faster than float", "")
    assert first["kernel_ms"] == {"int8": 1.0, "float": 2.0}
    assert "kernel_ms" not in second


def test_kept_weights_that_went_out_with_dead_channels_are_told(module):
    section = weights_section(module.graph, module, {}, dead={"second_weight": 1200})

    assert (section["dead"], [row["dead"] for row in section["tensors"]]) == (1200, [0, 1200])
    assert describe_dead(section) == (
        "160 weights are nonzero; 1,200 more were kept on channels that no output depended on, and went out with these."
    )
    assert not describe_dead(weights_section(module.graph, module, {}))
