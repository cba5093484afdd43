import onnx.parser
import pytest

from toolchain.graph import load_graph


def graph_of(signature):
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({signature}) => (float y) {{ y = ReduceSum<keepdims = 0>(x) }}'
    return load_graph(onnx.parser.parse_model(text))


@pytest.mark.parametrize(
    ("signature", "batch_size"),
    [
        ("float[N, 3, 8, 8] x", None),
        ("float[N, N] x", None),
        ("float[unk__1, 3] x, float[unk__2, 64] state", None),
        ("float[batch, S, 4] x, int64[batch, S] mask, float[batch, heads, S, 4] past", None),
        ("float[1, 3] x, float[N, 4] other", 1),
        ("float[4, 3] x, float[4, 5] other", 4),
    ],
)
def test_the_first_dimension_counts_samples_where_all_inputs_agree(signature, batch_size):
    graph = graph_of(signature)
    assert (graph.takes_sets, graph.batch_size) == (False, batch_size)


@pytest.mark.parametrize(
    "signature",
    [
        "float x",
        "float[N, 32] x, float threshold",
        "float[1, 257, 1, 2] x, float[2, 1, 16, 16, 33] cache",
        "float[batch, S] x, float[2, batch, 128] state",
        "float[batch, S] x, float[1, batch, 128] state",
        "float[time, batch, 4] x, float[batch, 4] state",
        "float[N, 3] x, float[2] size",
    ],
)
def test_inputs_that_disagree_about_the_first_dimension_make_a_sample_together(signature):
    graph = graph_of(signature)
    assert (graph.takes_sets, graph.batch_size) == (True, 1)
