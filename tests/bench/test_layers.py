import pytest

from toolchain.bench.layers import busiest, family, match_layers, plain_name


def nodes(*items):
    return [{"name": name, "op": op, "provider": "CPUExecutionProvider", "ms": ms} for name, op, ms in items]


def pairs(rows):
    return [(row["name"], row["original_ms"], row["compressed_ms"]) for row in rows]


@pytest.mark.parametrize(
    ("runtime", "plain"),
    [
        ("/conv1/Conv", "/conv1/Conv"),
        ("/conv1/Conv_output_0_nchwc", "/conv1/Conv"),
        ("fused /fc1/Gemm", "/fc1/Gemm"),
        ("ReorderOutput_token_6", "ReorderOutput"),
        ("/fc1/Gemm_quant", "/fc1/Gemm"),
    ],
)
def test_what_the_optimizer_adds_to_a_name_is_taken_off(runtime, plain):
    assert plain_name(runtime) == plain


@pytest.mark.parametrize(
    ("op", "kind"),
    [("QLinearConv", "Conv"), ("FusedGemm", "MatMul"), ("MatMulNBits", "MatMul"), ("NhwcMaxPool", "MaxPool")],
)
def test_an_operator_in_another_type_or_layout_is_of_the_same_kind(op, kind):
    assert family(op) == kind


def test_nodes_are_matched_by_name_and_keep_their_order():
    rows = match_layers(
        nodes(("a", "Conv", 1.0), ("r", "Relu", 0.5), ("fused b", "FusedGemm", 2.0)),
        nodes(("a_quant", "QLinearConv", 0.25), ("b", "MatMulNBits", 0.5)),
    )

    assert pairs(rows) == [("a", 1.0, 0.25), ("r", 0.5, None), ("b", 2.0, 0.5)]
    assert rows[0]["op"] == "Conv -> QLinearConv"


def test_what_only_the_compressed_model_has_is_there_without_a_time_of_the_original():
    rows = match_layers(nodes(("a", "Conv", 1.0)), nodes(("q", "QuantizeLinear", 0.1), ("a", "QLinearConv", 0.25)))

    assert pairs(rows) == [("q", None, 0.1), ("a", 1.0, 0.25)]


def test_nodes_with_shortened_names_are_matched_by_kind_between_those_with_a_name():
    rows = match_layers(
        nodes(("conv1", "Conv", 3.0), ("anchor", "Softmax", 0.1), ("conv2", "Conv", 4.0)),
        nodes(("n0", "QLinearConv", 1.0), ("anchor", "Softmax", 0.1), ("n1", "QLinearConv", 2.0)),
    )

    assert pairs(rows) == [("conv1", 3.0, 1.0), ("anchor", 0.1, 0.1), ("conv2", 4.0, 2.0)]


def test_every_node_is_in_exactly_one_row():
    original = nodes(("a", "Conv", 1.0), ("b", "Relu", 1.0), ("c", "Conv", 1.0), ("d", "Gemm", 1.0), ("e", "Relu", 1.0))
    compressed = nodes(("f", "Cast", 2.0), ("g", "Conv", 2.0), ("h", "Conv", 2.0), ("i", "Mul", 2.0))

    rows = match_layers(original, compressed)

    assert sum(row["original_ms"] or 0 for row in rows) == 5.0
    assert sum(row["compressed_ms"] or 0 for row in rows) == 8.0


def test_a_model_alone_has_rows_without_a_counterpart():
    assert pairs(match_layers(nodes(("a", "Conv", 1.0)), [])) == [("a", 1.0, None)]


def test_the_busiest_rows_on_either_side_come_first():
    rows = match_layers(nodes(("a", "Conv", 1.0), ("b", "Relu", 2.0)), nodes(("b", "Relu", 0.5), ("c", "Resize", 9.0)))

    assert [row["name"] for row in busiest(rows)] == ["c", "b", "a"]
