import numpy as np
import onnx
import pytest

from calibration.dataset import Preprocessing
from calibration.fit import check_variety, fit_arrays, model_layout
from toolchain.errors import DataError
from toolchain.graph import load_graph

SCALED = Preprocessing(1 / 255)


def graph(inputs, body="y = Identity(x)", output="float[N, D] y"):
    text = f'<ir_version: 8, opset_import: ["": 17]> g ({inputs}) => ({output}) {{ {body} }}'
    return load_graph(onnx.parser.parse_model(text))


def fit(array, inputs="float[N, 3, 8, 6] x", preprocessing=SCALED, labels=None, **names):
    return fit_arrays({"x": array, **names}, labels, graph(inputs), preprocessing, "data.npz")


def bytes_of(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_arrays_in_the_models_order_pass_as_they_are():
    pixels = bytes_of(5, 3, 8, 6)
    assert np.shares_memory(fit(pixels).dataset.inputs["x"], pixels)


def test_channels_last_data_are_turned_without_a_copy():
    pixels = bytes_of(5, 8, 6, 3)
    data = fit(pixels).dataset
    assert np.shares_memory(data.inputs["x"], pixels)
    batch = data.batch(np.arange(5)).inputs["x"]
    assert batch.flags.c_contiguous
    np.testing.assert_allclose(batch, pixels.transpose(0, 3, 1, 2) / 255, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 8, 6), (5, 48), (5, 8, 6, 1), (5, 1, 8, 6)])
def test_grey_images_get_the_channel_axis_of_the_model(shape):
    pixels = bytes_of(*shape)
    data = fit(pixels, "float[N, 1, 8, 6] x").dataset
    np.testing.assert_array_equal(data.inputs["x"], pixels.reshape(5, 1, 8, 6))


def test_grey_images_are_flattened_for_a_model_of_plain_layers():
    assert fit(bytes_of(5, 8, 6), "float[N, 48] x").dataset.inputs["x"].shape == (5, 48)


def test_a_model_that_transposes_its_input_wants_channels_last():
    nhwc = graph("float[N, 8, 6, 3] x", "y = Transpose<perm = [0, 3, 1, 2]>(x)", "float[N, 3, 8, 6] y")
    assert model_layout(nhwc, nhwc.inputs[0]) == "nhwc"
    preprocessing = Preprocessing(mean=(1.0, 2.0, 3.0))
    data = fit_arrays({"x": bytes_of(5, 3, 8, 6)}, None, nhwc, preprocessing, "data.npz").dataset
    assert data.inputs["x"].shape == (5, 8, 6, 3)
    assert data.feeds["x"].channel_axis == 3


def test_a_shape_that_fits_both_layouts_must_be_told_apart():
    with pytest.raises(DataError, match="as nchw and as nhwc") as caught:
        fit(bytes_of(5, 3, 3, 3), "float[N, 3, 3, 3] x")
    assert "--layout" in caught.value.hint
    pixels = bytes_of(5, 3, 3, 3)
    told = fit(pixels, "float[N, 3, 3, 3] x", Preprocessing(1 / 255, layout="nhwc")).dataset
    np.testing.assert_array_equal(told.inputs["x"], pixels.transpose(0, 3, 1, 2))


def test_a_layout_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="read as nhwc, expected float32"):
        fit(bytes_of(5, 3, 8, 6), preprocessing=Preprocessing(layout="nhwc"))


@pytest.mark.parametrize("shape", [(5, 3, 8, 7), (5, 4, 8, 6), (5, 8, 6), (5,)])
def test_a_wrong_shape_is_named_with_what_was_expected(shape):
    with pytest.raises(DataError, match=r"'x' has shape .*, expected float32\[N, 3, 8, 6\]"):
        fit(bytes_of(*shape))


def test_missing_and_unknown_names_come_with_the_nearest():
    with pytest.raises(DataError, match="no array for model input 'x'; it has 'xs'") as caught:
        fit_arrays({"xs": bytes_of(2, 4)}, None, graph("float[N, 4] x"), SCALED, "data.npz")
    assert "did you mean xs?" in caught.value.hint or "xs" in caught.value.hint
    with pytest.raises(DataError, match="array 'extra' is no input of the model"):
        fit(bytes_of(5, 3, 8, 6), extra=bytes_of(5, 1))


def test_token_ids_are_fed_in_the_models_dtype_without_preprocessing():
    data = fit(np.array([[1, 2], [3, 4]], np.int32), "int64[N, S] x").dataset
    batch = data.batch(np.arange(2)).inputs["x"]
    assert batch.dtype == np.int64
    assert batch.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("array", "kind", "message"),
    [
        (np.zeros((2, 4), np.float32), "int64", "is float32, expected int64"),
        (np.array([[1, 300]]), "uint8", "holds 1 to 300, which uint8 cannot hold"),
        (np.zeros((2, 4), np.int64), "bool", "is int64, expected bool"),
        (np.full((2, 4), "a"), "float", "expected float32"),
        (np.zeros((2, 4), complex), "float", "is complex128, expected float32"),
    ],
)
def test_a_type_that_cannot_be_cast_safely_is_refused(array, kind, message):
    with pytest.raises(DataError, match=message):
        fit(array, f"{kind}[N, D] x")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_found(bad):
    array = np.zeros((5000, 3), np.float32)
    array[4500, 1] = bad
    with pytest.raises(DataError, match=r"at index \[4500, 1\]"):
        fit(array, "float[N, 3] x")


@pytest.mark.parametrize("array", [np.zeros((64, 3), np.float32), np.full((64, 3), 255, np.uint8)])
def test_data_of_one_value_are_refused(array):
    data = fit(array, "float[N, 3] x").dataset
    with pytest.raises(DataError, match=r"^data.npz: .* its 64 samples: input 'x' is (0.0|255) throughout$") as caught:
        check_variety(data, graph("float[N, 3] x"))
    assert "as the model meets them in use" in caught.value.hint


def test_every_constant_input_of_floats_is_named():
    arrays = {"x": np.zeros((4, 2), np.float32), "mask": np.ones((4, 2), np.float32), "ids": np.ones((4, 2), np.int64)}
    model = graph("float[N, 2] x, float[N, 2] mask, int64[N, 2] ids")
    data = fit_arrays(arrays, None, model, Preprocessing(), "data.npz").dataset
    with pytest.raises(DataError, match=r"input 'x' is 0\.0 throughout, input 'mask' is 1\.0 throughout$"):
        check_variety(data, model)


@pytest.mark.parametrize(
    ("inputs", "arrays"),
    [
        ("float[N, 2] x, float[N, 2] mask", {"x": np.eye(4, 2, dtype="f"), "mask": np.ones((4, 2), "f")}),
        ("int64[N, 2] x, float[N, 2] mask", {"x": np.arange(8).reshape(4, 2), "mask": np.ones((4, 2), "f")}),
        ("float[1, 2] x, float rate", {"x": np.eye(4, 2, dtype="f")[:, None], "rate": np.full(4, 16_000, "f")}),
        ("int64[N, 2] x", {"x": np.zeros((4, 2), np.int64)}),
        ("float[N, 1] x", {"x": np.zeros((1, 1), np.float32)}),
    ],
)
def test_a_constant_beside_what_varies_and_a_constant_of_integers_pass(inputs, arrays):
    data = fit_arrays(arrays, None, graph(inputs), Preprocessing(), "data.npz").dataset
    check_variety(data, graph(inputs))


def test_one_other_value_in_the_last_of_many_samples_is_variety():
    array = np.zeros((5000, 3), np.float32)
    array[-1, 0] = 1
    check_variety(fit(array, "float[N, 3] x").dataset, graph("float[N, 3] x"))


def test_raw_bytes_without_preprocessing_are_noted_and_not_guessed():
    fitted = fit(bytes_of(5, 3, 8, 6), preprocessing=Preprocessing())
    assert "--scale" in fitted.notes[0]
    assert fitted.dataset.batch(np.arange(5)).inputs["x"].max() > 1
    assert fit(bytes_of(5, 3, 8, 6)).notes == ()


def test_preprocessing_of_another_channel_count_is_refused():
    with pytest.raises(DataError, match=r"--mean has 2 values, .* has 3 channels"):
        fit(bytes_of(5, 3, 8, 6), preprocessing=Preprocessing(mean=(0.1, 0.2)))


def test_preprocessing_spares_the_other_inputs_of_an_image_model():
    model = graph("float[N, 3, 8, 6] x, float[N, 2] extra")
    arrays = {"x": bytes_of(4, 3, 8, 6), "extra": np.ones((4, 2), np.float32)}
    batch = fit_arrays(arrays, None, model, SCALED, "data.npz").dataset.batch(np.arange(4))
    assert (batch.inputs["extra"] == 1).all()
    assert batch.inputs["x"].max() <= 1


def test_whole_sets_have_the_shape_of_the_input_after_the_sample_dimension():
    model = graph("float[1, 3, 8, 6] x, float[2, batch, 4] state, float threshold")
    arrays = {"x": bytes_of(5, 1, 3, 8, 6), "state": np.ones((5, 2, 1, 4), "f"), "threshold": np.arange(5, dtype="f")}
    data = fit_arrays(arrays, np.arange(5), model, SCALED, "data.npz").dataset
    batch = data.batch(np.array([3]))
    assert {name: array.shape for name, array in batch.feeds.items()} == {
        "x": (1, 3, 8, 6), "state": (2, 1, 4), "threshold": (),
    }  # fmt: skip
    assert (batch.feeds["threshold"], len(batch), batch.labels) == (3, 1, [3])
    assert batch.feeds["x"].max() <= 1 == batch.feeds["state"].max()


@pytest.mark.parametrize(
    ("signature", "axis"), [("float[1, 3, 8, 6] x", 2), ("float[1, 8, 6] x", 2), ("float[8] x", None)]
)
def test_channels_of_whole_sets_are_one_dimension_further(signature, axis):
    model = graph(f"{signature}, float threshold")
    arrays = {"x": np.ones((4, *model.inputs[0].shape), np.float32), "threshold": np.arange(4, dtype=np.float32)}
    data = fit_arrays(arrays, None, model, Preprocessing(), "data.npz").dataset
    assert data.feeds["x"].channel_axis == axis
    assert not data.feeds["threshold"].normalise


@pytest.mark.parametrize(
    ("shape", "threshold"), [((5, 8), (5,)), ((5, 1, 9), (5,)), ((5, 1, 8), (5, 1)), ((5, 1, 8), ())]
)
def test_whole_sets_of_other_shapes_are_refused_with_the_expected_one(shape, threshold):
    arrays = {"x": np.ones(shape, np.float32), "threshold": np.ones(threshold, np.float32)}
    with pytest.raises(DataError, match=r"expected float32\[N(, 1, 8)?\]") as caught:
        fit_arrays(arrays, None, graph("float[1, 8] x, float threshold"), Preprocessing(), "data.npz")
    assert "one whole set of inputs" in caught.value.hint


def test_labels_make_a_task():
    assert fit(bytes_of(2, 3, 8, 6), labels=np.array([0, 1])).dataset.kind == "task"
    assert fit(bytes_of(2, 3, 8, 6)).dataset.kind == "unlabelled"
