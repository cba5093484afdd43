import numpy as np
import pytest
import torch

from toolchain.ops import selection
from toolchain.ops.selection import compress, non_max_suppression, unique


def boxes(images, number, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.random((images, number, 2))
    found = np.concatenate([first, first + rng.uniform(-0.3, 0.4, (images, number, 2))], -1)
    return np.round(found * 16).astype(np.float32) / 16  # coarse, so that some overlap exactly at the threshold


def scores(images, classes, number, seed=1):
    found = np.random.default_rng(seed).random((images, classes, number))
    return np.round(found * 8).astype(np.float32) / 8  # coarse, so that some are equal


@pytest.mark.parametrize("center_point_box", [0, 1])
@pytest.mark.parametrize("limit", [0, 1, 5, 1 << 40])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_the_same_boxes_are_kept_in_the_same_order(agree, threshold, limit, center_point_box):
    inputs = {
        "boxes": boxes(2, 60),
        "scores": scores(2, 3, 60),
        "limit": np.array([limit]),
        "iou": np.array([threshold], np.float32),
    }
    keys = {"constants": ["limit", "iou"], "opset": 11, "center_point_box": center_point_box}
    agree("NonMaxSuppression", inputs, **keys)
    for least in (0.3, 2.0):
        with_least = inputs | {"least": np.array([least], np.float32)}
        agree("NonMaxSuppression", with_least, **keys)


@pytest.mark.parametrize("opset", [10, 11])
def test_thresholds_that_are_left_out_have_the_same_defaults(agree, opset):
    inputs = {"boxes": boxes(1, 20), "scores": scores(1, 2, 20)}
    assert len(agree("NonMaxSuppression", inputs, opset=opset)[0]) == 0
    inputs["limit"] = np.array([9])
    assert len(agree("NonMaxSuppression", inputs, constants=["limit"], opset=opset)[0])
    inputs |= {"iou": None, "least": np.array([0.5], np.float32)}
    agree("NonMaxSuppression", inputs, constants=["limit", "least"], opset=opset)


def test_boxes_in_small_blocks_are_kept_the_same(monkeypatch):
    arguments = torch.from_numpy(boxes(2, 200)), torch.from_numpy(scores(2, 3, 200)), [40], [0.4], [0.1]
    whole = non_max_suppression(*arguments)
    monkeypatch.setattr(selection, "_PAIRS", 1)
    assert torch.equal(non_max_suppression(*arguments), whole)


def test_no_boxes_are_none_kept():
    assert non_max_suppression(torch.zeros(1, 0, 4), torch.zeros(1, 2, 0), [5]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(), (0,), (4,), (3, 2, 2)])
@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_])
def test_what_is_not_zero_is_found(agree, kind, shape):
    x = np.array(np.random.default_rng(0).integers(0, 2, shape)).astype(kind)
    agree("NonZero", {"x": x})


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_conditions_shorter_than_the_axis_select_the_same(agree, axis):
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    keys = {} if axis is None else {"axis": axis}
    agree("Compress", {"x": x, "c": np.array([False, True, True])}, opset=11, **keys)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("in_order", [0, 1])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int8, np.int64])
def test_different_elements_and_slices_agree(agree, kind, in_order, axis):
    x = np.random.default_rng(0).integers(-1, 2, (6, 2, 3) if axis == 0 else (4, 5)).astype(kind)
    keys = {} if axis is None else {"axis": axis}
    agree("Unique", {"x": x}, outputs=4, opset=11, sorted=in_order, **keys)


def test_scattering_of_an_old_file_agrees(agree):
    inputs = {
        "x": np.zeros((3, 4), np.float32),
        "i": np.array([[1, -1], [0, 2]]),
        "u": np.array([[1, 2], [3, 4]], np.float32),
    }
    for axis in (0, 1):
        agree("Scatter", inputs, opset=9, axis=axis)


def test_what_is_selected_carries_the_gradient():
    x = torch.tensor([[3.0, 1.0], [2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor([True, False])
    assert torch.autograd.gradcheck(lambda t: compress(t, chosen, axis=1), [x])
    unique(x, sorted=0)[0].sum().backward()
    assert x.grad.tolist() == [[1, 1], [1, 0]]
