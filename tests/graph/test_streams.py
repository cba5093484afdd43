"""Values that sums tie together, through whatever treats all channels alike."""

import onnx.parser
import pytest

from toolchain.graph import load_graph
from toolchain.graph.streams import find_streams

HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y) '
ONES = ", ".join("1" * 16)
CONSTANTS = f"<float[4, 4, 1, 1] v = {{{ONES}}}, float[4, 4, 1, 1] w = {{{ONES}}}, float[1] one = {{1}}> "


def streams(body: str) -> list[set[str]]:
    """Return the values of every stream."""
    found = find_streams(load_graph(onnx.parser.parse_model(HEAD + CONSTANTS + "{ " + body + " }")))
    return [{name for name in found if found[name] == root} for root in dict.fromkeys(found.values())]


def test_what_is_added_is_one_stream_from_sum_to_sum():
    body = "a = Conv (x, v) b = Relu (a) c = Add (b, x) d = Conv (c, w) e = Add (c, d) y = Relu (e)"
    assert streams(body) == [{"x", "a", "b", "c", "d", "e", "y"}]


def test_convolutions_part_streams():
    (found,) = streams("a = Conv (x, v) b = Conv (a, w) y = Add (b, a)")
    assert found == {"a", "b", "y"}


@pytest.mark.parametrize("body", ["a = Conv (x, v) y = Relu (a)", "a = Conv (x, v) y = Add (a, one)"])
def test_without_a_sum_of_two_values_there_is_none(body):
    assert streams(body) == []
