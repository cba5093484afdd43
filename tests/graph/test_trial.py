"""Two graphs are held against each other on the same inputs."""

import numpy as np
import onnx.parser
import pytest

from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.graph.trial import TOLERANCE, largest_difference, random_feeds, run


def graph(body, inputs="float[N, 3] x", outputs="float[N, 3] y"):
    return load_graph(
        onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> g ({inputs}) => ({outputs}) {body}')
    )


FEEDS = {"x": np.array([[-1.0, 0.5, 2.0]], np.float32)}


@pytest.mark.parametrize(
    ("body", "difference"),
    [
        ("{ y = Relu (x) }", 0.0),
        ("<float t = {1.5}> { r = Relu (x) y = Mul (r, t) }", 0.5),
        ("{ r = Relu (x) y = Concat <axis = 1> (r, r) }", np.inf),
    ],
)
def test_the_difference_is_relative_to_the_largest_value(body, difference):
    assert largest_difference(graph("{ y = Relu (x) }"), graph(body), FEEDS) == pytest.approx(difference)


def test_an_output_that_becomes_nan_is_never_near():
    before = graph("{ y = Relu (x) z = Neg (x) }", outputs="float[N, 3] y, float[N, 3] z")
    after = graph("{ z = Neg (x) y = Sqrt (x) }", outputs="float[N, 3] y, float[N, 3] z")
    assert not largest_difference(before, after, FEEDS) <= TOLERANCE
    assert largest_difference(after, after, FEEDS) == 0.0  # what was NaN may stay so


def test_open_dimensions_have_size_1_and_integers_are_indices():
    feeds = random_feeds(graph("{ y = Gather (x, i) }", inputs="float[N, 3] x, int64[K] i", outputs="float[K, 3] y"))
    assert feeds["x"].shape == (1, 3)
    assert feeds["i"].dtype == np.int64
    assert set(feeds["i"]) <= {0, 1}


def test_what_the_runtime_raises_becomes_a_typed_error():
    with pytest.raises(ModelError, match="Invalid rank"):
        run(graph("{ y = Relu (x) }").proto, ["y"], {"x": np.zeros(3, np.float32)})
