import pytest
from channel_cases import HEADS, blocked, channels_of, check, ints, model_of, parts, removable

IMAGE = "float[N,4,5,5] x"
TOKENS = "float[N,5,8] x"


@pytest.mark.parametrize(
    ("flatten", "constants"),
    [("Flatten(h)", {}), ("Reshape(h, s)", {"s": ints(0, -1)}), ("Reshape(h, s)", {"s": ints(-1, 150)})],
)
def test_a_flattened_channel_is_a_run_of_inputs(flatten, constants):
    body = f"h = Conv(x, w) f = {flatten} y = Gemm<transB=1>(f, v)"
    channels = check(model_of(IMAGE, body, w=(6, 4, 1, 1), v=(3, 150), **constants))
    assert parts(channels, "w") == [("w", 0, [0]), ("v", 1, list(range(25)))]


def test_channels_last_are_flattened_in_strides():
    body = "h = Conv(x, w) t = Transpose<perm=[0,2,3,1]>(h) f = Flatten(t) y = Gemm<transB=1>(f, v)"
    channels = check(model_of(IMAGE, body, w=(6, 4, 1, 1), v=(3, 150)))
    assert parts(channels, "w") == [("w", 0, [0]), ("v", 1, list(range(0, 150, 6)))]


def test_a_vector_becomes_an_image():
    body = "h = Gemm(x, w, b) i = Reshape(h, s) y = ConvTranspose(i, v)"
    channels = check(model_of("float[N,4] x", body, w=(4, 24), b=(24,), s=ints(-1, 6, 2, 2), v=(6, 3, 2, 2)))
    assert parts(channels, "w") == [("w", 1, [0, 1, 2, 3]), ("b", 0, [0, 1, 2, 3]), ("v", 0, [0])]


def test_dimensions_of_one_come_and_go():
    body = "h = Conv(x, w) g = GlobalAveragePool(h) s = Squeeze(g, a) u = Unsqueeze(s, a) y = Conv(u, v)"
    assert removable(check(model_of(IMAGE, body, w=(6, 4, 1, 1), v=(3, 6, 1, 1), a=ints(2, 3)))) == {"w": 6}


@pytest.mark.parametrize("width", [3, 6])  # of a head: less and more than there are heads
def test_attention_loses_whole_heads(width):
    all_heads = 4 * width
    weights = {"wq": (8, all_heads), "wk": (8, all_heads), "wv": (8, all_heads), "wo": (all_heads, 8)}
    channels = check(model_of(TOKENS, HEADS, s=ints(0, 0, 4, width), e=ints(0, 0, all_heads), **weights))
    assert removable(channels) == {"wq": 4}
    head = list(range(width))
    assert parts(channels, "wq") == [("wq", 1, head), ("wk", 1, head), ("wv", 1, head), ("wo", 0, head)]


def test_heads_of_a_joint_projection_are_found():
    body = (
        "j = MatMul(x, w) b = Add(j, c) r = Reshape(b, s) t = Transpose<perm=[2,0,3,1,4]>(r) "
        "q = Gather<axis=0>(t, i) k = Gather<axis=0>(t, l) v = Gather<axis=0>(t, n) "
        "kt = Transpose<perm=[0,1,3,2]>(k) a = MatMul(q, kt) p = Softmax<axis=-1>(a) o = MatMul(p, v) "
        "ot = Transpose<perm=[0,2,1,3]>(o) m = Reshape(ot, e) y = MatMul(m, u)"
    )
    numbers = {"i": ints(0)[0], "l": ints(1)[0], "n": ints(2)[0]}
    shapes = {"s": ints(0, 0, 3, 2, 6), "e": ints(0, 0, 12)}
    channels = check(model_of(TOKENS, body, w=(8, 36), c=(36,), u=(12, 8), **numbers, **shapes))
    head = [*range(6), *range(12, 18), *range(24, 30)]
    assert parts(channels, "w") == [("w", 1, head), ("c", 0, head), ("u", 0, list(range(6)))]


@pytest.mark.parametrize("groups", [2, 3])
def test_shuffled_channels_go_with_those_at_their_place(groups):
    body = (
        "h = Conv(x, w) a = Reshape(h, s) t = Transpose<perm=[0,2,1,3,4]>(a) b = Reshape(t, e) "
        "d = Conv<group=12>(b, u) y = Conv(d, v)"
    )
    shapes = {"s": ints(0, groups, 12 // groups, 5, 5), "e": ints(0, 12, 5, 5)}
    channels = check(model_of(IMAGE, body, w=(12, 4, 1, 1), u=(12, 1, 1, 1), v=(3, 12, 1, 1), **shapes))
    assert removable(channels) == {"w": 12 // groups}
    assert parts(channels, "w")[0] == ("w", 0, list(range(0, 12, 12 // groups)))


def test_pixels_out_of_channels_as_exported():
    body = "h = Conv(x, w) a = Reshape(h, s) t = Transpose<perm=[0,1,4,2,5,3]>(a) b = Reshape(t, e) y = Conv(b, v)"
    shapes = {"s": ints(-1, 3, 2, 2, 5, 5), "e": ints(-1, 3, 10, 10)}
    channels = check(model_of(IMAGE, body, w=(12, 4, 1, 1), v=(2, 3, 1, 1), **shapes))
    assert parts(channels, "w") == [("w", 0, [0, 1, 2, 3]), ("v", 1, [0])]


def test_entries_of_computed_shapes_are_replaced_when_the_model_runs():
    body = (
        "h = MatMul(x, w) z = Shape<end=2>(x) s = Concat<axis=0>(z, l) r = Reshape(h, s) "
        "t = Transpose<perm=[0,2,1,3]>(r) a = Softmax(t) o = Transpose<perm=[0,2,1,3]>(a) "
        "e = Concat<axis=0>(z, n) m = Reshape(o, e) y = MatMul(m, v)"
    )
    channels = check(model_of(TOKENS, body, l=ints(4, 6), n=ints(24), w=(8, 24), v=(24, 3)))
    assert removable(channels) == {"w": 4}


def test_sizes_of_maps_that_shrink_are_right_by_themselves():
    body = "h = Conv(x, w) z = Shape<end=2>(h) s = Concat<axis=0>(z, l) r = Reshape(h, s) y = MatMul(v, r)"
    channels = check(model_of(IMAGE, body, l=ints(-1), w=(6, 4, 1, 1), v=(3, 6)))
    assert removable(channels) == {"w": 6}


def test_computed_sizes_keep_what_they_are_the_sizes_of():
    body = (
        "h = MatMul(x, w) z = Shape<end=1>(x) k = Mul(z, f) s = Concat<axis=0>(k, l) r = Reshape(h, s) "
        "t = Softmax(r) e = Shape(h) m = Reshape(t, e) y = MatMul(m, v)"
    )
    graph = model_of("float[N,8] x", body, f=ints(4), l=ints(6), w=(8, 24), v=(24, 3))
    assert blocked(channels_of(graph))["w"].startswith(("its size in 'r' is computed", "it is of the graph input"))


def test_heads_that_lie_among_samples_are_told_from_them():
    split = "{0}r = Reshape({0}, s) {0}t = Transpose<perm=[1,0,2]>({0}r) {0}u = Reshape({0}t, e) "
    body = "".join(f"{name} = MatMul(x, w{name}) " + split.format(name) for name in "qkv")
    body += (
        "kx = Transpose<perm=[0,1,3,2]>(ku) a = MatMul(qu, kx) p = Softmax<axis=-1>(a) o = MatMul(p, vu) "
        "ot = Transpose<perm=[2,0,1,3]>(o) m = Reshape(ot, f) y = MatMul(m, u)"
    )
    shapes = {"s": ints(5, 8, 6), "e": ints(2, 4, 5, 6), "f": ints(5, 2, 24)}
    channels = check(
        model_of("float[5,2,8] x", body, wq=(8, 24), wk=(8, 24), wv=(8, 24), u=(24, 8), **shapes), batches=(2,)
    )
    assert removable(channels) == {"wq": 4}


def test_shapes_without_common_factors_keep_channels():
    body = "h = Conv(x, w) r = Reshape(h, s) y = MatMul(r, v)"
    graph = model_of("float[N,4,5,4] x", body, w=(6, 4, 1, 1), v=(10, 2), s=ints(0, 12, 10))
    assert "Reshape node" in blocked(channels_of(graph))["w"]
