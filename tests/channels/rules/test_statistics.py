import numpy as np
import pytest
from channel_cases import blocked, channels_of, check, ints, model_of, parts, removable

ENDS = {"w": (6, 4, 1, 1), "v": (3, 6, 1, 1)}
IMAGE = "float[N,4,6,6] x"


def between(body, opset=18, **constants):
    return model_of(IMAGE, f"h = Conv(x, w) {body} y = Conv(r, v)", opset, **ENDS, **constants)


def test_batch_normalization_goes_along():
    channels = check(
        between(
            "r = BatchNormalization(h, s, b, m, q)", s=(6,), b=(6,), m=(6,), q=np.linspace(1, 2, 6, dtype=np.float32)
        )
    )
    assert [tensor for tensor, _, _ in parts(channels, "w")] == ["w", "s", "b", "m", "q", "v"]
    roles = {part.tensor: part.role for group in channels.groups if group.name == "w" for part in group.slices}
    assert roles == {"w": "makes", "s": "makes", "b": "makes", "m": "rides", "q": "rides", "v": "reads"}


def test_instance_normalization_goes_along():
    channels = check(between("r = InstanceNormalization(h, s, b)", s=(6,), b=(6,)))
    assert ("s", 0, [0]) in parts(channels, "w")


def test_groups_of_group_normalization_go_as_a_whole():
    channels = check(between("r = GroupNormalization<num_groups=3>(h, s, b)", 21, s=(6,), b=(6,)))
    assert removable(channels) == {"w": 3}
    assert parts(channels, "w")[0] == ("w", 0, [0, 1])


def test_group_normalization_as_exported_goes_by_whole_groups():
    channels = check(
        between(
            "g = Reshape(h, t) i = InstanceNormalization(g, o, z) k = Reshape(i, e) m = Mul(k, s) r = Add(m, b)",
            t=ints(0, 3, -1),
            o=np.ones(3, np.float32),
            z=np.zeros(3, np.float32),
            e=ints(0, 6, 6, 6),
            s=(6, 1, 1),
            b=(6, 1, 1),
        )
    )
    assert removable(channels) == {"w": 3}
    assert ("o", 0, [0]) in parts(channels, "w")


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("t = Transpose<perm=[0,2,3,1]>(h) l = LayerNormalization(t, s) r = Transpose<perm=[0,3,1,2]>(l)", {"s": (6,)}),
        ("r = LRN<size=3>(h)", {}),
        ("r = Softmax<axis=1>(h)", {}),
        ("m = ReduceMean(h, a) r = Sub(h, m)", {"a": ints(1)}),
        ("m = ReduceMax(h, a) r = Sub(h, m)", {"a": ints(1)}),
        ("e = Sigmoid(h) m = ReduceSum(e, a) r = Div(h, m)", {"a": ints(1)}),
        ("a = Constant<value_int=1>() r = CumSum(h, a)", {}),
        ("k = Constant<value_ints=[6]>() r, i = TopK<axis=1>(h, k)", {}),
        ("r, i = MaxPool<kernel_shape=[2,2]>(h) f = Cast<to=1>(i)", {}),
    ],
)
def test_what_mixes_channels_keeps_them(body, constants):
    assert (
        "needs the dimension as it is" in blocked(channels_of(between(body, **constants)))["w"]
        or "sums it up" in (blocked(channels_of(between(body, **constants)))["w"])
    )


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("r = Softmax<axis=2>(h)", {}),
        ("r = LpNormalization<axis=1>(h)", {}),
        ("m = ReduceL2(h, a) r = Div(h, m)", {"a": ints(1)}),
        ("m = ReduceSum(h, a) t = Tanh(m) r = Mul(h, t)", {"a": ints(1)}),
        ("m = ReduceMean(h, a) r = Sub(h, m)", {"a": ints(2, 3)}),
        ("m = ReduceMax<keepdims=0>(h, a) u = Unsqueeze(m, a) r = Add(h, u)", {"a": ints(2)}),
        ("a = Constant<value_int=3>() r = CumSum(h, a)", {}),
        ("r = MaxPool<kernel_shape=[2,2],strides=[2,2]>(h)", {}),
        ("r = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(h)", {}),
        ("r = GlobalMaxPool(h)", {}),
    ],
)
def test_what_leaves_channels_apart_loses_them(body, constants):
    assert removable(check(between(body, **constants))) == {"w": 6}


def test_softmax_of_old_works_over_all_later_dimensions():
    graph = model_of(IMAGE, "h = Conv(x, w) r = Softmax<axis=1>(h) y = Conv(r, v)", 11, **ENDS)
    assert "w" in blocked(channels_of(graph))
    graph = model_of(IMAGE, "h = Conv(x, w) r = Softmax<axis=2>(h) y = Conv(r, v)", 11, **ENDS)
    assert removable(check(graph)) == {"w": 6}


def test_axes_may_be_attributes():
    graph = model_of(IMAGE, "h = Conv(x, w) m = ReduceMean<axes=[2,3]>(h) r = Sub(h, m) y = Conv(r, v)", 13, **ENDS)
    assert removable(check(graph)) == {"w": 6}
