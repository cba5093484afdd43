import numpy as np
import pytest
from channel_cases import model_of

from toolchain.errors import RecipeError
from toolchain.planning.prunable import find_prunable
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan

IMAGE = "float[N,4,6,6] x"
BODY = "h = Conv(x, w, b) n = BatchNormalization(h, s, t, m, v) r = Relu(n) y = Conv(r, u)"
SHAPES = {"w": (16, 4, 3, 3), "b": (16,), "s": (16,), "t": (16,), "m": (16,), "u": (3, 16, 1, 1)}
SHAPES["v"] = np.ones(16, np.float32)


def graph():
    return model_of(IMAGE, BODY, **SHAPES)


def plan_of(model, **request):
    return make_plan(model, read_request(Request(**request)))


def test_tensors_that_share_channels_are_cut_together():
    found = find_prunable(graph(), {"w", "u"})
    assert {name: [(cut.group, cut.axis) for cut in cuts] for name, cuts in found.cuts.items()} == {
        "w": [(0, 0)],
        "u": [(0, 1)],
    }
    assert found.reasons == {}
    assert found.least("w", (16, 4, 3, 3), 4) == 4 * 36


def test_channels_stay_that_a_tensor_shares_which_is_not_pruned_by_channel():
    found = find_prunable(graph(), {"w"})
    assert found.cuts == {}
    assert found.reasons == {"w": "'u' shares its channels and is not pruned the same way"}


def test_channels_stay_that_do_not_vanish_with_their_weights():
    body = (
        "a = MatMul(x, w) p = Add(a, b) c = MatMul(x, u) q = Add(c, b) k = Transpose<perm=[0,2,1]>(q) y = MatMul(p, k)"
    )
    model = model_of("float[N,5,6] x", body, w=(6, 8), u=(6, 8), b=(8,))
    found = find_prunable(model, {"w", "u"})
    assert set(found.reasons.values()) == {"what is left of its channels without weights is read by no pruned tensor"}


def test_a_plan_says_which_tensors_stay_whole_and_why():
    model = model_of(IMAGE, "h = Conv(x, w) r = Relu(h) g = Conv(r, u) f = GlobalAveragePool(g) y = Softmax<axis=1>(f)",
                     w=(16, 4, 3, 3), u=(16, 16, 1, 1))  # fmt: skip
    step = plan_of(model, prune="1.5x", structure="channel").prune
    assert step.names == ("w", "u")
    alone = model_of(IMAGE, "h = Conv(x, w) y = Softmax<axis=1>(h)", w=(16, 4, 3, 3))
    with pytest.raises(RecipeError, match="nothing can be pruned by channel: w"):
        plan_of(alone, prune="2x", structure="channel")


def test_a_ratio_that_cannot_be_reached_names_the_largest_that_can():
    with pytest.raises(RecipeError, match="cannot be reached") as caught:
        plan_of(graph(), prune="3x", structure="channel")
    assert caught.value.hint == "the largest ratio that can be reached is 2.00x; channel4 can keep fewer channels"


def test_a_tensor_cannot_have_a_target_of_its_own(tmp_path):
    (tmp_path / "r.toml").write_text('structure = "channel"\n[[tensor]]\nmatch = "w"\nprune = "2x"\n')
    with pytest.raises(RecipeError, match="'w' cannot be pruned to a target of its own by channel"):
        plan_of(graph(), recipe=tmp_path / "r.toml")


def test_an_excluded_tensor_keeps_its_shape(tmp_path):
    (tmp_path / "r.toml").write_text('structure = "channel"\nexclude = ["u"]\nprune = "1.5x"\n')
    with pytest.raises(RecipeError, match=r"w \('u' shares its channels"):
        plan_of(graph(), recipe=tmp_path / "r.toml")


def test_a_model_whose_channels_cannot_be_found_is_an_error():
    model = model_of("float[N,4,M,7] x", "h = Reshape(x, s) y = Conv(h, w)", s=np.array([0, 4, 3, 7]), w=(8, 4, 1, 1))
    with pytest.raises(RecipeError, match="the channels of the model cannot be found"):
        find_prunable(model, {"w"})
