import numpy as np
import pytest

from calibration.signature import read_signature
from toolchain.errors import DataError


def only(graph):
    (signal,) = read_signature(graph)
    return signal


def test_fixed_dimensions_are_taken_without_the_batch(graph_of):
    signal = only(graph_of("g (float[N, 3, 8, 6] x) => (float[N, D] y) { y = Flatten(x) }"))
    assert (signal.shape, signal.meaning, signal.spatial, signal.free) == ((3, 8, 6), "image", (2, 3), ())


def test_open_image_sizes_are_assumed_and_said(graph_of):
    signal = only(graph_of("g (float[N, 3, height, width] x) => (float[N, D] y) { y = Flatten(x) }"))
    assert signal.shape == (3, 224, 224)
    assert signal.free == ("height = 224", "width = 224")


def test_weights_of_the_first_layer_settle_open_channels_and_features(graph_of):
    conv = only(
        graph_of("g (float[N, C, 8, 8] x) => (float[N, 4, 8, 8] y) { y = Conv(x, w) }", w=np.zeros((4, 5, 1, 1), "f"))
    )
    matmul = only(graph_of("g (float[N, D] x) => (float[N, 2] y) { y = MatMul(x, w) }", w=np.zeros((7, 2), "f")))
    gemm = only(
        graph_of("g (float[N, D] x) => (float[N, 2] y) { y = Gemm<transB = 1>(x, w) }", w=np.zeros((2, 9), "f"))
    )
    assert (conv.shape, matmul.shape, gemm.shape) == ((5, 8, 8), (7,), (9,))
    assert (conv.free, matmul.meaning) == ((), "noise")


def test_channels_last_images_extend_over_the_middle_dimensions(graph_of):
    signal = only(
        graph_of("g (float[N, H, W, 3] x) => (float[N, 3, H, W] y) { y = Transpose<perm = [0, 3, 1, 2]>(x) }")
    )
    assert (signal.shape, signal.spatial) == ((224, 224, 3), (1, 2))


def test_a_symbol_has_one_size_in_all_inputs(graph_of):
    signals = read_signature(
        graph_of(
            "g (float[N, S, 4] features, int64[N, S] attention_mask) => (float[N, S, 4] y) { y = Identity(features) }"
        )
    )
    assert [signal.shape for signal in signals] == [(32, 4), (32,)]
    assert signals[1].meaning == "mask"
    assert signals[1].free == ()


def test_ids_stay_within_the_smallest_table_that_they_index(graph_of):
    graph = graph_of(
        """g (int32[N, S] tokens) => (float[N, S, 4] y) {
            wide = Cast<to = 7>(tokens)
            a = Gather(large, wide)
            b = Gather(small, wide)
            y = Add(a, b)
        }""",
        large=np.zeros((50, 4), np.float32),
        small=np.zeros((11, 4), np.float32),
    )
    signal = only(graph)
    assert (signal.meaning, signal.high) == ("ids", 11)


def test_bytes_of_an_image_model_are_images(graph_of):
    signal = only(graph_of("g (uint8[N, 8, 8, 3] x) => (float[N, 8, 8, 3] y) { y = Cast<to = 1>(x) }"))
    assert signal.meaning == "image"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g (string[N, 2] x) => (string[N, 2] y) { y = Identity(x) }", "'x' is object"),
    ],
)
def test_what_cannot_be_synthesised_is_refused(graph_of, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_signature(graph_of(text))
    assert "--data" in caught.value.hint


def test_whole_sets_keep_all_rows_and_an_open_batch_is_one_wherever_it_stands(graph_of):
    state, sound, rate = read_signature(
        graph_of(
            "g (float[2, batch, 8] state, float[batch, 16] sound, int64 rate) => (float[batch, 16] y) "
            "{ y = Identity(sound) }"
        )
    )
    assert [signal.sample for signal in (state, sound, rate)] == [(2, 1, 8), (1, 16), ()]
    assert (state.free, sound.free, rate.meaning) == ((), ("batch = 1",), "scalar")
