from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.constraints import SCORES, Budget, TopK, progressive
from passes.constraints.largest import keep_largest
from toolchain.formats import TensorFormat

SHAPES = st.lists(st.integers(1, 12), min_size=1, max_size=4)


def tensors(sizes, seed, tied):
    generator = torch.Generator().manual_seed(seed)
    if tied:
        return {f"w{i}": torch.randint(-1, 2, (n,), generator=generator).float() for i, n in enumerate(sizes)}
    return {f"w{i}": torch.randn(n, generator=generator) for i, n in enumerate(sizes)}


@settings(deadline=None)
@given(SHAPES, st.data(), st.booleans(), st.sampled_from(sorted(SCORES)))
def test_the_asked_number_of_weights_is_kept_exactly_whatever_the_ties(sizes, data, tied, score):
    weights = tensors(sizes, data.draw(st.integers(0, 99)), tied)
    kept = data.draw(st.integers(len(sizes), sum(sizes)))
    formats = TopK((Budget(tuple(weights), kept),), score).fit(weights, {}, {})
    assert sum(int(fmt.mask.sum()) for fmt in formats.values()) == kept
    assert all(int(fmt.mask.sum()) >= 1 for fmt in formats.values())


@settings(deadline=None)
@given(st.integers(2, 9), st.data())
def test_magnitude_top_k_is_the_euclidean_projection(size, data):
    weight = tensors([size], data.draw(st.integers(0, 99)), tied=False)["w0"]
    kept = data.draw(st.integers(1, size))
    projected = TopK((Budget(("w",), kept),)).fit({"w": weight}, {}, {})["w"].project(weight)
    error = float((projected - weight).square().sum())
    best = min(
        float(weight.square().sum() - weight[list(support)].square().sum())
        for support in combinations(range(size), kept)
    )
    assert error == pytest.approx(best, abs=1e-5)


def test_projecting_twice_changes_nothing():
    weight = torch.randn(6, 5)
    constraint = TopK((Budget(("w",), 7),))
    once = constraint.fit({"w": weight}, {}, {})["w"].project(weight)
    again = constraint.fit({"w": once}, {}, {})["w"].project(once)
    assert torch.equal(once, again)


def test_weights_that_an_earlier_pass_pruned_stay_pruned():
    weight = torch.arange(1.0, 11.0)
    earlier = TensorFormat(mask=weight < 6)
    fmt = TopK((Budget(("w",), 3),)).fit({"w": weight}, {"w": earlier}, {})["w"]
    assert fmt.mask.nonzero().flatten().tolist() == [2, 3, 4]


def test_curvature_keeps_the_weight_that_moves_the_loss_more():
    weights = {"w": torch.tensor([1.0, 1.1])}
    fmt = TopK((Budget(("w",), 1),), "curvature").fit(weights, {}, {"w": torch.tensor([1.0, 0.01])})["w"]
    assert fmt.mask.tolist() == [True, False]


def test_groups_have_budgets_of_their_own():
    weights = {"a": torch.full((10,), 5.0), "b": torch.full((10,), 0.1)}
    formats = TopK((Budget(("a",), 2), Budget(("b",), 9))).fit(weights, {}, {})
    assert [int(formats[name].mask.sum()) for name in "ab"] == [2, 9]


def test_fewer_weights_than_tensors_cannot_be_kept():
    with pytest.raises(ValueError, match="cannot keep 1 of 2 weights in 2 tensors"):
        keep_largest([torch.ones(1), torch.ones(1)], 1)


def test_progressive_targets_tighten_from_the_start_to_exactly_the_target():
    budget, sizes = (Budget(("w",), 10),), {"w": 1000}
    counts = [progressive(budget, sizes, 5.0, done)[0].kept for done in (0.0, 0.5, 1.0)]
    assert counts == [200, round(1000 / (5 * 20**0.5)), 10]


def test_progressive_targets_start_no_tighter_than_the_target():
    assert progressive((Budget(("w",), 500),), {"w": 1000}, 5.0, 0.0)[0].kept == 500


def test_without_a_start_the_targets_begin_near_the_ratio():
    counts = [progressive((Budget(("w",), 100),), {"w": 10000}, None, done)[0].kept for done in (0.0, 0.5, 1.0)]
    assert counts == [316, 178, 100]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.integers(1, 400), st.sampled_from([1, 3, 2**22]))
def test_any_number_of_chunks_gives_the_largest_in_the_order_of_their_positions(seed, kept, chunk):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (400,), generator=generator) * torch.rand(1, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passes.constraints.largest.CHUNK", chunk)
        mask = keep_largest([scores.view(20, 20)], kept)[0]
    best = scores.argsort(descending=True, stable=True)[:kept]
    assert torch.equal(mask.flatten().nonzero()[:, 0], best.sort().values)


def test_scores_of_all_magnitudes_are_told_apart():
    scores = torch.cat([torch.logspace(-44, 38, 999), torch.tensor([0.0, 1e-45, torch.inf])])
    mask = keep_largest([scores], 500)[0]
    assert torch.equal(mask.nonzero()[:, 0], scores.argsort(descending=True)[:500].sort().values)


def test_a_weight_that_costs_more_to_keep_must_be_worth_more():
    weights = {"cheap": torch.full((4, 4), 1.0), "dear": torch.full((4, 4), 1.5)}
    constraint = TopK((Budget(("cheap", "dear"), 17),), costs={"cheap": 1.0, "dear": 3.0})
    kept = {name: int(found.mask.sum()) for name, found in constraint.fit(weights, {}, {}).items()}
    assert kept == {"cheap": 16, "dear": 1}
