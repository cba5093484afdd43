import numpy as np
import pytest
from channel_cases import blocked, channels_of, check, ints, model_of, parts, removable

ENDS = {"w": (6, 4, 1, 1), "v": (3, 6, 1, 1)}
IMAGE = "float[N,4,6,6] x"


def between(body, opset=18, inputs=IMAGE, **constants):
    return model_of(inputs, f"h = Conv(x, w) {body} y = Conv(r, v)", opset, **(ENDS | constants))


def test_channels_of_concatenated_maps_stay_apart():
    channels = check(
        model_of(
            IMAGE,
            "h = Conv(x, w) g = Conv(x, u) c = Concat<axis=1>(h, g, h) y = Conv(c, v)",
            w=(6, 4, 1, 1),
            u=(2, 4, 1, 1),
            v=(3, 14, 1, 1),
        )
    )
    assert removable(channels) == {"w": 6, "u": 2}
    assert parts(channels, "w") == [("w", 0, [0]), ("v", 1, [0, 8])]
    assert parts(channels, "u") == [("u", 0, [0]), ("v", 1, [6])]


@pytest.mark.parametrize(
    ("opset", "op", "constants"),
    [
        (11, "Split<axis=1,split=[2,4]>(h)", {}),
        (13, "Split<axis=1>(h, s)", {"s": ints(2, 4)}),
        (18, "Split<axis=-3>(h, s)", {"s": ints(2, 4)}),
    ],
)
def test_each_part_of_a_split_keeps_a_channel(opset, op, constants):
    body = f"h = Conv(x, w) a, b = {op} c = Relu(a) d = Conv(c, v) e = Conv(b, u) y = Add(d, e)"
    channels = check(model_of(IMAGE, body, opset, w=(6, 4, 1, 1), v=(3, 2, 1, 1), u=(3, 4, 1, 1), **constants))
    assert removable(channels) == {"w": 2, "w:2": 4}
    assert parts(channels, "w:2") == [("w", 0, [2]), ("u", 1, [0])]


@pytest.mark.parametrize("op", ["Split<axis=1>(h)", "Split<axis=1,num_outputs=2>(h)"])
def test_a_split_in_equal_parts_may_become_one_in_others(op):
    opset = 18 if "num" in op else 13
    body = f"h = Conv(x, w) a, b = {op} d = Conv(a, v) e = Conv(b, u) y = Add(d, e)"
    channels = check(model_of(IMAGE, body, opset, w=(6, 4, 1, 1), v=(3, 3, 1, 1), u=(3, 3, 1, 1)))
    assert removable(channels) == {"w": 3, "w:2": 3}


@pytest.mark.parametrize(
    ("opset", "op", "constants"),
    [
        (9, "Slice<axes=[1],starts=[1],ends=[-1]>(h)", {}),
        (18, "Slice(h, s, e, a)", {"s": ints(1), "e": ints(5), "a": ints(1)}),
        (18, "Slice(h, s, e)", {"s": ints(0, -5), "e": ints(2**62, -1)}),
        (18, "Slice(h, s, e, a, t)", {"s": ints(1, 1), "e": ints(5, 6), "a": ints(1, 3), "t": ints(1, 2)}),
    ],
)
def test_a_slice_of_the_channels_is_cut_anew(opset, op, constants):
    body = f"h = Conv(x, w) p = {op} d = Conv(p, v) g = GlobalMaxPool(h) k = Conv(g, u) y = Add(d, k)"
    channels = check(model_of(IMAGE, body, opset, w=(6, 4, 1, 1), v=(3, 4, 1, 1), u=(3, 6, 1, 1), **constants))
    assert removable(channels) == {"w": 2, "w:2": 4}
    assert parts(channels, "w:2") == [("w", 0, [1]), ("v", 1, [0]), ("u", 1, [1])]


def test_every_second_channel_cannot_be_taken_anew():
    constants = {"s": ints(0), "e": ints(6), "a": ints(1), "t": ints(2), "v": (3, 3, 1, 1)}
    assert "Slice node" in blocked(channels_of(between("r = Slice(h, s, e, a, t)", **constants)))["w"]


def test_channels_that_are_gathered_are_numbered_anew():
    channels = check(between("r = Gather<axis=1>(h, i)", i=ints(5, 0, 0, -4), v=(3, 4, 1, 1)))
    assert sorted(removable(channels).values()) == [1, 2, 3]  # read twice, once, and not at all
    assert any(("v", 1, [1, 2]) in parts(channels, name) for name in removable(channels))


def test_one_channel_that_is_taken_out_keeps_all():
    body = "h = Conv(x, w) g = Gather<axis=1>(h, i) y = MatMul(g, v)"
    assert "Gather node" in blocked(channels_of(model_of(IMAGE, body, w=(6, 4, 1, 1), v=(6, 2), i=np.int64(2))))["w"]


def test_an_embedding_loses_features_and_no_entries():
    channels = check(model_of("int64[N,5] x", "e = Gather(t, x) r = Relu(e) y = MatMul(r, v)", t=(7, 6), v=(6, 3)))
    assert removable(channels) == {"t": 6}
    assert parts(channels, "t") == [("t", 1, [0]), ("v", 0, [0])]


@pytest.mark.parametrize(
    ("opset", "op", "constants"),
    [
        (9, "Pad<pads=[0,1,0,0,0,2,0,0]>(h)", {}),
        (13, "Pad(h, p)", {"p": ints(0, 1, 0, 0, 0, 2, 0, 0)}),
        (18, "Pad(h, p, , a)", {"p": ints(1, 2), "a": ints(1)}),
        (18, "Pad(h, p, c, a)", {"p": ints(1, 2), "a": ints(-3), "c": np.float32(3)}),
    ],
)
def test_padded_channels_shrink_with_what_is_added_to_them(opset, op, constants):
    body = f"h = Conv(x, w) p_ = {op} g = Conv(x, u) s = Add(p_, g) y = Conv(s, v)"
    channels = check(model_of(IMAGE, body, opset, w=(6, 4, 1, 1), u=(9, 4, 1, 1), v=(3, 9, 1, 1), **constants))
    assert sorted(removable(channels).values()) == [3, 6]
    assert any(("u", 0, [1]) in parts(channels, name) for name in removable(channels))


@pytest.mark.parametrize("op", ['Pad<mode="reflect">(h, p)', 'Pad<mode="edge">(h, p)'])
def test_copies_of_channels_at_the_edge_keep_them(op):
    graph = between(f"r = {op}", p=ints(0, 1, 0, 0, 0, 0, 0, 0), v=(3, 7, 1, 1))
    assert "Pad node" in blocked(channels_of(graph))["w"]


def test_a_map_padded_with_another_value_is_not_zero():
    channels = check(between("r = Pad(h, p, c)", p=ints(0, 0, 1, 1, 0, 0, 1, 1), c=np.float32(2)))
    assert (
        next(group.leak for group in channels.groups if group.name == "w")
        == "'r' is not zero where it is made of zeros"
    )


@pytest.mark.parametrize(
    ("opset", "op", "constants"),
    [
        (9, "Upsample(h, s)", {"s": np.array([1, 1, 2, 2], np.float32)}),
        (10, "Resize(h, s)", {"s": np.array([1, 1, 2, 2], np.float32)}),
        (13, 'Resize<mode="linear">(h, , s)', {"s": np.array([1, 1, 2, 2], np.float32)}),
        (18, "Resize<axes=[2,3]>(h, , , z)", {"z": ints(9, 9)}),
    ],
)
def test_enlarged_maps_keep_their_channels(opset, op, constants):
    assert removable(check(between(f"r = {op}", opset, **constants))) == {"w": 6}


def test_sizes_for_resize_name_the_new_number_of_channels():
    graph = between("r = Resize(h, , , z)", inputs="float[2,4,6,6] x", z=ints(2, 6, 12, 12))
    assert removable(check(graph, batches=(2,))) == {"w": 6}
    computed = "s = Shape<end=2>(h) l = Constant<value_ints=[9,9]>() z = Concat<axis=0>(s, l) r = Resize(h, , , z)"
    assert removable(check(between(computed))) == {"w": 6}


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceL2(h, a) s = Shape(h) e = Expand(m, s) r = Div(h, e)",
        "m = ReduceSum(h, a) l = Constant<value_ints=[1,6,6,6]>() e = Expand(m, l) r = Add(h, e)",
        "n = Constant<value_int=0>() s = Shape(h) b = Gather<axis=0>(s, n) u = Unsqueeze(b, n) m = ReduceSum(h, a) "
        "l = Constant<value_ints=[6,6,6]>() c = Concat<axis=0>(u, l) e = Expand(m, c) r = Add(h, e)",
        "s = Shape(h) e = ConstantOfShape(s) r = Add(h, e)",
        "t = Constant<value_ints=[1,6,1,1]>() e = ConstantOfShape<value = float[1] {2.0}>(t) r = Mul(h, e)",
    ],
)
def test_copies_are_as_many_as_what_they_are_for(body):
    assert removable(check(between(body, a=ints(1)))) == {"w": 6}


def test_arithmetic_with_the_number_of_channels_keeps_them():
    body = "s = Shape<start=1,end=2>(h) f = Cast<to=1>(s) r = Div(h, f)"
    assert blocked(channels_of(between(body)))["w"].endswith("computes with its size")


def test_repeated_dimensions_stay_and_others_do_not():
    assert removable(check(between("r = Tile(h, t)", t=ints(1, 1, 2, 1)))) == {"w": 6}
    graph = between("r = Tile(h, t)", t=ints(1, 2, 1, 1), v=(3, 12, 1, 1))
    assert "Tile node" in blocked(channels_of(graph))["w"]


@pytest.mark.parametrize(("mode", "tied"), [("DCR", [0, 2, 4, 6]), ("CRD", [0, 1, 2, 3])])
def test_channels_that_become_pixels_go_together(mode, tied):
    body = f'h = Conv(x, w) r = DepthToSpace<blocksize=2,mode="{mode}">(h) y = Conv(r, v)'
    channels = check(model_of(IMAGE, body, w=(8, 4, 1, 1), v=(3, 2, 1, 1)))
    assert parts(channels, "w")[0] == ("w", 0, tied)


def test_pixels_that_become_channels_go_together():
    channels = check(between("r = SpaceToDepth<blocksize=2>(h)", v=(3, 24, 1, 1)))
    assert parts(channels, "w") == [("w", 0, [0]), ("v", 1, [0, 6, 12, 18])]


def test_an_operator_without_a_rule_keeps_what_it_touches():
    graph = between("r = Trilu(h)")
    assert blocked(channels_of(graph))["w"].endswith("is an operator without a rule for channels")
