import numpy as np
import pytest

from toolchain.bench.inputs import check_feeds, parse_shape, prepare
from toolchain.errors import DataError
from toolchain.graph import load_graph

FIXED = '<ir_version: 8, opset_import: ["" : 13]> g (float[1,3,8,8] image) => (float[1,3,8,8] y) { y = Relu(image) }'
OPEN = '<ir_version: 8, opset_import: ["" : 13]> g (float[N,3,H,W] image) => (float[N,3,H,W] y) { y = Relu(image) }'
TOKENS = """
<ir_version: 8, opset_import: ["" : 13]>
g (int64[N,length] ids, int64[N,length] mask) => (float[N,length,2] y)
<float[5,2] table = {0,1,2,3,4,5,6,7,8,9}>
{
    rows = Gather(table, ids)
    axes = Constant<value = int64[1] {2}>()
    wide = Unsqueeze(mask, axes)
    kept = Cast<to = 1>(wide)
    y = Mul(rows, kept)
}
"""
STATE = """
<ir_version: 8, opset_import: ["" : 13]>
g (float[N,6] x, float[2,N,4] state, float scale) => (float[N,6] y) { t = Mul(x, scale)  y = Relu(t) }
"""


def prepared(path, batch=None, shapes=None, source=None):
    return prepare(load_graph(path), batch, shapes or {}, source, "model.onnx")


@pytest.mark.parametrize(
    ("text", "name", "dims"),
    [
        ("image=1x3x224x224", "image", (1, 3, 224, 224)),
        ("scalar=", "scalar", ()),
        ("serving:0=a=7", "serving:0=a", (7,)),
    ],
)
def test_a_shape_is_a_name_and_dimensions(text, name, dims):
    assert parse_shape(text) == (name, dims)


@pytest.mark.parametrize("text", ["1x3x224x224", "image=1x3x", "image=1xN", "image=0x3", "=3"])
def test_what_is_no_shape_is_an_error(text):
    with pytest.raises(DataError, match="is not a shape"):
        parse_shape(text)


def test_fixed_dimensions_need_nothing(make_model):
    found = prepared(make_model(FIXED))

    assert (found.batch, found.notes) == (1, ())
    assert (found.feeds["image"].shape, found.feeds["image"].dtype) == ((1, 3, 8, 8), np.float32)
    assert 0.5 < found.feeds["image"].std() < 1.5


def test_open_dimensions_are_assumed_and_said(make_model):
    found = prepared(make_model(OPEN), batch=2)

    assert found.batch == 2
    assert found.feeds["image"].shape == (2, 3, 224, 224)
    assert found.notes == ("input 'image': assumed H = 224, W = 224; --shape sets it",)


def test_a_shape_fills_open_dimensions_also_those_of_other_inputs(make_model):
    assert prepared(make_model(OPEN), shapes={"image": (1, 3, 10, 12)}).feeds["image"].shape == (1, 3, 10, 12)

    found = prepared(make_model(TOKENS), shapes={"ids": (3, 7)})
    assert found.batch == 3
    assert found.feeds["mask"].shape == found.feeds["ids"].shape == (3, 7)
    assert found.notes == ()


def test_the_batch_goes_before_the_first_dimension_of_a_shape(make_model):
    assert prepared(make_model(OPEN), 4, {"image": (1, 3, 10, 12)}).feeds["image"].shape == (4, 3, 10, 12)


def test_ids_stay_inside_their_table_and_masks_are_zeros_and_ones(make_model):
    feeds = prepared(make_model(TOKENS), shapes={"ids": (50, 40)}).feeds

    assert feeds["ids"].dtype == np.int64
    assert (feeds["ids"].min(), feeds["ids"].max()) == (0, 4)
    assert set(np.unique(feeds["mask"])) == {0, 1}
    assert (feeds["mask"][:, :20] == 1).all()


def test_states_and_scalars_are_one_whole_set(make_model):
    found = prepared(make_model(STATE))

    assert {name: array.shape for name, array in found.feeds.items()} == {"x": (1, 6), "state": (2, 1, 4), "scale": ()}


@pytest.mark.parametrize(
    ("text", "batch", "shapes", "message"),
    [
        (FIXED, 8, {}, "--batch 8: model.onnx cannot run it, its batch is fixed to 1"),
        (STATE, 8, {}, "its inputs do not all begin with the batch"),
        (FIXED, None, {"picture": (1,)}, "--shape picture: model.onnx has no such input"),
        (FIXED, None, {"image": (1, 3, 9, 8)}, r"image=1x3x9x8 does not fit .* float32\[1, 3, 8, 8\]"),
        (OPEN, None, {"image": (3, 8, 8)}, r"image=3x8x8 does not fit"),
        (TOKENS, None, {"ids": (1, 7), "mask": (1, 8)}, "'length' as 7 and as 8"),
    ],
)
def test_what_does_not_fit_the_model_is_an_error(make_model, text, batch, shapes, message):
    with pytest.raises(DataError, match=message):
        prepared(make_model(text), batch, shapes)


def test_an_input_that_cannot_be_made_hints_at_a_file(make_model):
    text = '<ir_version: 8, opset_import: ["" : 13]> g (string[N] x) => (string[N] y) { y = Identity(x) }'

    with pytest.raises(DataError, match="cannot be synthesised") as caught:
        prepared(make_model(text))

    assert "--inputs" in caught.value.hint


def test_samples_of_a_file_are_fed_as_they_are(make_model, tmp_path):
    images = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "images.npz", image=images, labels=np.arange(5))
    np.save(tmp_path / "images.npy", images)

    for name in ("images.npz", "images.npy"):
        found = prepared(make_model(OPEN), 2, source=tmp_path / name)

        assert found.batch == 2
        assert (found.feeds["image"] == images[:2]).all()


def test_a_file_with_too_few_samples_or_of_another_kind_is_an_error(make_model, tmp_path):
    np.savez(tmp_path / "few.npz", image=np.zeros((2, 3, 8, 8), np.float32))

    with pytest.raises(DataError, match=r"holds 2 samples, 8 are to run"):
        prepared(make_model(OPEN), 8, source=tmp_path / "few.npz")
    with pytest.raises(DataError, match=r"neither \.npz nor \.npy"):
        prepared(make_model(OPEN), 8, source=tmp_path / "few.csv")


@pytest.mark.parametrize("name", ["nothing.npz", "nothing.npy"])
def test_a_file_that_is_not_there_is_an_error(make_model, tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: there is no such file"):
        prepared(make_model(OPEN), source=tmp_path / name)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (FIXED.replace("image", "picture"), r"other.onnx takes the inputs 'picture', first.onnx takes 'image'"),
        (FIXED.replace("float[", "float16["), r"is float16\[1, 3, 8, 8\], what first.onnx is fed is float32"),
        (FIXED.replace("8,8", "9,9"), r"is float32\[1, 3, 9, 9\], what first.onnx is fed is float32\[1, 3, 8, 8\]"),
    ],
    ids=["name", "type", "shape"],
)
def test_models_with_other_inputs_are_not_compared(make_model, other, message):
    feeds = prepared(make_model(FIXED)).feeds

    with pytest.raises(DataError, match=message):
        check_feeds(feeds, load_graph(make_model(other, "other")), "other.onnx", "first.onnx")


def test_a_model_that_leaves_open_what_another_fixes_takes_the_same_feeds(make_model):
    check_feeds(prepared(make_model(FIXED)).feeds, load_graph(make_model(OPEN, "other")), "other.onnx", "first.onnx")
