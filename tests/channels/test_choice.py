import numpy as np
import pytest
from channel_cases import channels_of, model_of

from toolchain.channels import channel_norms, weakest


@pytest.mark.parametrize(
    ("fraction", "round_to", "kept"),
    [(0.5, 1, 10), (0.5, 8, 16), (0.61, 8, 8), (0.0, 8, 20), (0.1, 8, 20), (1.0, 1, 1), (1.0, 8, 8), (0.33, 1, 13)],
)
def test_so_many_channels_stay(fraction, round_to, kept):
    assert len(weakest(np.arange(20.0), fraction, round_to)) == 20 - kept


def test_small_groups_stay_whole_where_rounding_asks_for_more():
    assert weakest(np.arange(5.0), 0.5, 8).tolist() == []


def test_the_lowest_go_and_of_equal_ones_the_last():
    assert weakest(np.array([3.0, 1.0, 2.0, 1.0, 1.0]), 0.4).tolist() == [3, 4]
    assert weakest(np.zeros(6), 0.5).tolist() == [3, 4, 5]


def test_norms_are_those_of_what_makes_a_channel():
    graph = model_of(
        "float[N,2,4,4] x", "h = Conv(x, w, b) f = Flatten(h) y = MatMul(f, v)", w=(3, 2, 1, 1), b=(3,), v=(48, 2)
    )
    group = next(group for group in channels_of(graph).groups if group.name == "w")
    arrays = {name: graph.initializers[name] for name in graph.initializers}
    wanted = [np.sqrt((arrays["w"][k] ** 2).sum() + arrays["b"][k] ** 2) for k in range(3)]
    np.testing.assert_allclose(channel_norms(group, arrays), wanted, rtol=1e-6)
