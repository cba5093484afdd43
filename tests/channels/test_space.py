import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toolchain.channels.space import connect


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=60))
def test_connected_positions_have_the_lowest_of_them_as_root(pairs):
    groups = [{position} for position in range(30)]
    for one, other in pairs:
        joined = groups[one] | groups[other]
        for position in joined:
            groups[position] = joined
    edges = np.array(pairs, int).reshape(-1, 2)
    halves = np.array_split(edges, 2)  # joining may go on from an earlier result
    roots = np.arange(30)
    for half in halves:
        roots = connect(roots, half[:, 0], half[:, 1])
    assert roots.tolist() == [min(group) for group in groups]


def test_a_long_chain_is_one():
    order = np.random.default_rng(0).permutation(10_000)
    assert not connect(np.arange(10_000), order[1:], order[:-1]).any()
