import pytest
from channel_cases import blocked, channels_of, check, model_of, parts, removable

IMAGE = "float[N,4,8,8] x"


def test_a_channel_is_a_filter_its_bias_and_what_reads_it():
    channels = check(
        model_of(IMAGE, "h = Conv(x, w, b) y = Conv(h, v)", w=(6, 4, 3, 3), b=(6,), v=(5, 6, 3, 3)),
    )
    assert removable(channels) == {"w": 6}
    assert parts(channels, "w") == [("w", 0, [0]), ("b", 0, [0]), ("v", 1, [0])]
    assert blocked(channels) == {"w (read)": "it is of the graph input 'x'", "v": "it is of the graph output 'y'"}


def test_maps_that_are_added_lose_the_same_channels():
    channels = check(
        model_of(
            IMAGE,
            "s = Conv(x, w) a = Conv(s, v) t = Add(s, a) y = Conv(t, u)",
            w=(6, 4, 1, 1),
            v=(6, 6, 1, 1),
            u=(2, 6, 1, 1),
        ),
    )
    assert parts(channels, "w") == [("w", 0, [0]), ("v", 0, [0]), ("v", 1, [0]), ("u", 1, [0])]


def test_depthwise_filters_go_with_their_channel():
    channels = check(
        model_of(
            IMAGE,
            "h = Conv(x, w) d = Conv<group=6>(h, v, b) y = Conv(d, u)",
            w=(6, 4, 1, 1),
            v=(12, 1, 3, 3),
            b=(12,),
            u=(3, 12, 1, 1),
        ),
    )
    assert parts(channels, "w") == [("w", 0, [0]), ("v", 0, [0, 1]), ("b", 0, [0, 1]), ("u", 1, [0, 1])]


def test_few_large_groups_lose_the_same_channels_each():
    channels = check(
        model_of(
            IMAGE,
            "h = Conv(x, w) d = Conv<group=2>(h, v) y = Conv(d, u)",
            w=(8, 4, 1, 1),
            v=(6, 4, 3, 3),
            u=(3, 6, 1, 1),
        ),
    )
    assert removable(channels) == {"w": 4, "v": 3}
    assert parts(channels, "w") == [("w", 0, [0, 4]), ("v", 1, [0])]
    assert parts(channels, "v") == [("v", 0, [0, 3]), ("u", 1, [0, 3])]


def test_many_small_groups_go_as_a_whole():
    channels = check(
        model_of(
            IMAGE,
            "h = Conv(x, w) d = Conv<group=4>(h, v) y = Conv(d, u)",
            w=(8, 4, 1, 1),
            v=(12, 2, 3, 3),
            u=(3, 12, 1, 1),
        ),
    )
    assert removable(channels) == {"w": 4}
    assert parts(channels, "w") == [("w", 0, [0, 1]), ("v", 0, [0, 1, 2]), ("u", 1, [0, 1, 2])]


@pytest.mark.parametrize(("group", "shape"), [(1, (6, 5, 2, 2)), (2, (6, 3, 2, 2)), (6, (6, 2, 2, 2))])
def test_transposed_convolutions_make_the_second_dimension_of_their_weights(group, shape):
    made = group * shape[1]
    check(
        model_of(
            IMAGE,
            f"h = Conv(x, w) d = ConvTranspose<group={group}>(h, v, b) y = Conv(d, u)",
            w=(6, 4, 1, 1),
            v=shape,
            b=(made,),
            u=(3, made, 1, 1),
        ),
    )


def test_a_fused_convolution_adds_a_map():
    channels = check(
        model_of(
            IMAGE,
            's = Conv(x, w) h = com.microsoft.FusedConv<activation="Relu">(x, v, b, s) y = Conv(h, u)',
            w=(6, 4, 1, 1),
            v=(6, 4, 1, 1),
            b=(6,),
            u=(2, 6, 1, 1),
        ),
    )
    assert ("v", 0, [0]) in parts(channels, "w")


@pytest.mark.parametrize("flags", ["transB=1", "transB=0"])
def test_chains_of_matrices_lose_rows_and_columns(flags):
    v = (3, 6) if flags.endswith("1") else (6, 3)
    channels = check(
        model_of(
            "float[N,4] x",
            f"h = Gemm<transB=1>(x, w, b) r = Relu(h) y = Gemm<{flags}>(r, v, c)",
            w=(6, 4),
            b=(6,),
            v=v,
            c=(3,),
        ),
    )
    assert removable(channels) == {"w": 6}


def test_a_matrix_and_its_bias_apart():
    channels = check(
        model_of(
            "float[N,5,4] x", "m = MatMul(x, w) h = Add(b, m) r = Relu(h) y = MatMul(r, v)", w=(4, 6), b=(6,), v=(6, 3)
        ),
    )
    assert parts(channels, "w") == [("w", 1, [0]), ("b", 0, [0]), ("v", 0, [0])]


def test_a_constant_matrix_on_the_left_makes_rows():
    check(model_of("float[4,5] x", "m = MatMul(w, x) r = Relu(m) y = MatMul(v, r)", w=(6, 4), v=(3, 6)))


def test_vectors_have_no_rows_or_columns():
    check(model_of("float[4] x", "m = MatMul(x, w) r = Relu(m) y = MatMul(r, v)", w=(4, 6), v=(6,)))


def test_a_product_of_two_made_values_needs_zeros():
    body = "q = MatMul(x, w) {} t = Transpose<perm=[0,2,1]>(k) s = MatMul(q, t) y = Relu(s)"
    ends = {"w": (4, 6), "v": (4, 6)}
    channels = check(model_of("float[N,5,4] x", body.format("k = MatMul(x, v)"), **ends))
    assert removable(channels) == {"w": 6}
    loud = "p = MatMul(x, v) k = Sigmoid(p)"  # q alone is zero, which is enough
    assert removable(check(model_of("float[N,5,4] x", body.format(loud), **ends))) == {"w": 6}
    both = "p = MatMul(x, v) k = Sigmoid(p)", "q = MatMul(x, w)", "o = MatMul(x, w) q = Sigmoid(o)"
    graph = model_of("float[N,5,4] x", body.format(both[0]).replace(both[1], both[2]), **ends)
    assert "sums it up" in blocked(channels_of(graph))["w"]


def test_named_dimensions_of_einsum():
    channels = check(
        model_of(
            "float[N,5,4] x",
            'h = Einsum<equation="btc,cd->btd">(x, w) r = Relu(h) y = Einsum<equation="btd,de->bte">(r, v)',
            w=(4, 6),
            v=(6, 3),
        ),
    )
    assert removable(channels) == {"w": 6}


def test_a_weight_that_is_used_twice_is_cut_once_for_both():
    channels = check(
        model_of(
            "float[N,3] x",
            "i = MatMul(x, u) a = MatMul(i, w) r = Relu(a) b = MatMul(r, w) s = Tanh(b) y = MatMul(s, v)",
            u=(3, 4),
            w=(4, 4),
            v=(4, 2),
        ),
    )
    assert removable(channels) == {"u": 4}


def test_a_weight_behind_transpose_is_cut_where_it_lies():
    channels = check(
        model_of("float[N,4] x", "t = Transpose(w) h = MatMul(x, t) r = Relu(h) y = MatMul(r, v)", w=(6, 4), v=(6, 2)),
    )
    assert parts(channels, "w") == [("w", 0, [0]), ("v", 0, [0])]
