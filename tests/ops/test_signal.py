import numpy as np
import pytest
import torch

from toolchain.ops.signal import dft, mel_weight_matrix, stft

FLOAT, DOUBLE, HALF, UINT8, INT32, INT64 = 1, 11, 10, 2, 6, 7


def noise(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("length", [None, 6, 11], ids=["whole", "cut", "padded"])
def test_transform_agrees(agree, dtype, parts, inverse, length):
    x = noise(2, 9, 3, parts, dtype=dtype)
    steps = None if length is None else np.array(length)
    tolerance = 1e-2 if dtype == np.float16 else 1e-4
    agree("DFT", {"x": x, "n": steps}, opset=17, inverse=inverse, rtol=tolerance, atol=tolerance)
    inputs = {"x": x, "n": steps, "axis": np.array(-3)}
    agree("DFT", inputs, opset=20, inverse=inverse, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("axis", [0, 1, 2, -2, -4])
def test_transform_along_any_axis_agrees(agree, axis):
    x = noise(2, 5, 3, 2)
    agree("DFT", {"x": x}, opset=17, axis=axis, rtol=1e-4, atol=1e-5)
    agree("DFT", {"x": x, "n": None, "axis": np.array(axis)}, opset=20, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [None, 6, 11], ids=["whole", "cut", "padded"])
def test_one_sided_transform_of_a_real_signal_agrees(agree, length):
    steps = None if length is None else np.array(length)
    agree("DFT", {"x": noise(2, 8, 3, 1), "n": steps}, opset=17, onesided=1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [None, 8, 9], ids=["default", "even", "odd"])
def test_one_sided_transform_back_to_a_real_signal_agrees(agree, length):
    steps = None if length is None else np.array(length)
    inputs = {"x": noise(2, 5, 2), "n": steps}
    agree("DFT", inputs, opset=20, onesided=1, inverse=1, rtol=1e-4, atol=1e-5)


def test_last_axis_is_not_transformed():
    with pytest.raises(ValueError, match="real and imaginary"):
        dft(torch.zeros(3, 4, 2), None, [-1])


@pytest.mark.parametrize(("parts", "inverse"), [(2, 0), (1, 1)])
def test_one_sided_transform_raises_on_the_wrong_kind_of_signal(parts, inverse):
    with pytest.raises(ValueError, match="one-sided"):
        dft(torch.zeros(3, 4, parts), onesided=1, inverse=inverse)


@pytest.mark.parametrize("length", [4, 5, 10])
def test_part_of_half_a_spectrum_raises(length):
    with pytest.raises(ValueError, match="half the spectrum"):
        dft(torch.zeros(1, 5, 2), [length], onesided=1, inverse=1)


@pytest.mark.parametrize("shape", [(2, 32), (2, 32, 1), (2, 32, 2)], ids=str)
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("length", [8, 9])
@pytest.mark.parametrize("given", ["window", "length", "both"])
def test_transform_of_frames_agrees(agree, shape, onesided, length, given):
    inputs = {
        "x": noise(*shape),
        "step": np.array(3),
        "window": None if given == "length" else np.hanning(length).astype(np.float32),
        "length": None if given == "window" else np.array(length),
    }
    agree("STFT", inputs, opset=17, onesided=onesided, rtol=1e-4, atol=1e-4)


def test_window_of_another_length_than_the_frames_raises():
    with pytest.raises(ValueError, match="a window of 1 steps for frames of 8"):
        stft(torch.zeros(1, 32, 1), [4], torch.ones(1), [8])


def test_a_frame_is_the_whole_signal_by_default():
    x = torch.from_numpy(noise(2, 9, 1))
    torch.testing.assert_close(stft(x, [1]), dft(x, onesided=1).unsqueeze(1))


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        (1, {}),
        (2, {}),
        (1, {"inverse": 1}),
        (2, {"inverse": 1}),
        (1, {"onesided": 1}),
        (2, {"inverse": 1, "onesided": 1}),
    ],
    ids=str,
)
def test_gradients_are_those_of_the_transform(parts, options):
    x = torch.from_numpy(noise(2, 5, parts, dtype=np.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dft(x, **options), x)


@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_are_those_of_the_transform_of_frames(parts):
    x = torch.from_numpy(noise(1, 12, parts, dtype=np.float64)).requires_grad_()
    window = torch.hann_window(6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, window: stft(x, [2], window), (x, window))


WINDOWS = [
    (size, periodic, kind)
    for size in (0, 1, 2, 7, 400)
    for periodic in (0, 1)
    for kind in (FLOAT, DOUBLE, HALF, UINT8, INT32)
    if (size, periodic) != (1, 0) or kind not in (UINT8, INT32)  # which would be not a number as an integer
]


@pytest.mark.parametrize("operator", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize(("size", "periodic", "kind"), WINDOWS)
def test_window_agrees(agree, operator, size, periodic, kind):
    # ONNX Runtime expands the window in half precision, and computes in it.
    tolerance = 2e-3 if kind == HALF else 1e-7
    agree(
        operator,
        {"size": np.array(size)},
        opset=17,
        periodic=periodic,
        output_datatype=kind,
        rtol=tolerance,
        atol=tolerance,
    )


@pytest.mark.parametrize("kind", [FLOAT, DOUBLE, INT64], ids=["float", "double", "int64"])
@pytest.mark.parametrize(
    "values",
    [(8, 64, 16000, 0, 8000), (80, 400, 16000, 20, 7600), (128, 512, 44100, 0, 22050), (40, 2048, 22050, 300, 8000)],
)
def test_mel_filters_agree(agree, kind, values):
    names, kinds = ("bins", "length", "rate", "low", "high"), (np.int64, np.int64, np.int64, np.float32, np.float32)
    inputs = {name: np.array(value, dtype) for name, value, dtype in zip(names, values, kinds, strict=True)}
    weights = agree("MelWeightMatrix", inputs, opset=17, output_datatype=kind)[0]
    assert weights.shape == (values[1] // 2 + 1, values[0])


@pytest.mark.parametrize(("low", "high"), [(0.0, 16000.0), (4000.0, 100.0)])
def test_mel_filters_outside_the_spectrum_raise(low, high):
    with pytest.raises(ValueError, match="filters from"):
        mel_weight_matrix([8], [64], [16000], [low], [high])
