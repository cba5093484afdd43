import numpy as np
import pytest
import torch
from onnx import helper

from toolchain.graph import load_graph
from toolchain.ops import find
from toolchain.ops.resize import resize, resize_by_scales

TRANSFORMS = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]


def image(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def floats(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_rounding_of_every_transformation_agrees(agree, transform, rounding):
    keys = {"coordinate_transformation_mode": transform, "nearest_mode": rounding}
    for scales in (floats(1, 1, 2, 2), floats(1, 1, 2.3, 0.6), floats(1, 1, 3, 1.5)):
        inputs = {"x": image(1, 2, 5, 7), "roi": None, "scales": scales}
        agree("Resize", inputs, constants=["scales"], opset=19, rtol=0, atol=0, **keys)


@pytest.mark.parametrize("sizes", [(1, 2, 11, 4), (1, 2, 1, 7), (1, 2, 10, 14)])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transformation_mixes_as_it_does(agree, transform, mode, sizes):
    inputs = {"x": image(1, 2, 5, 7), "roi": None, "scales": None, "sizes": np.array(sizes)}
    keys = {"mode": mode, "coordinate_transformation_mode": transform}
    agree("Resize", inputs, constants=["sizes"], opset=19, atol=1e-5, **keys)


@pytest.mark.parametrize("scales", [(2, 3), (1, 2), (3, 0.5), (2, 2.1)])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_whole_factors_without_a_shift_agree(agree, mode, scales):
    inputs = {"x": image(1, 2, 5, 10), "roi": None, "scales": floats(1, 1, *scales)}
    agree("Resize", inputs, constants=["scales"], mode=mode, coordinate_transformation_mode="asymmetric", atol=1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_factor_that_does_not_give_a_whole_size_agrees(agree, transform):
    inputs = {"x": image(1, 2, 5, 7), "roi": None, "scales": floats(1, 1, 1.5, 0.7)}
    for mode in ("linear", "cubic"):
        keys = {"mode": mode, "coordinate_transformation_mode": transform}
        agree("Resize", inputs, constants=["scales"], opset=19, atol=1e-5, **keys)


@pytest.mark.parametrize("exclude_outside", [0, 1])
@pytest.mark.parametrize("coefficient", [-0.5, -0.75])
def test_cubic_filters_agree(agree, coefficient, exclude_outside):
    inputs = {"x": image(2, 3, 4, 6), "roi": None, "scales": floats(1, 1, 2.5, 0.8)}
    keys = {"mode": "cubic", "cubic_coeff_a": coefficient, "exclude_outside": exclude_outside}
    agree("Resize", inputs, constants=["scales"], atol=1e-5, **keys)


@pytest.mark.parametrize("exclude_outside", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scales", [(0.3, 0.6), (2, 0.4), (3, 1.05)])
def test_antialiasing_agrees(agree, scales, mode, exclude_outside):
    inputs = {"x": image(2, 3, 11, 9), "roi": None, "scales": floats(1, 1, *scales)}
    keys = {"mode": mode, "antialias": 1, "exclude_outside": exclude_outside}
    agree("Resize", inputs, constants=["scales"], opset=18, atol=1e-5, **keys)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_region_of_interest_shows_the_given_value_outside(agree, mode):
    inputs = {
        "x": image(1, 2, 6, 8),
        "roi": floats(0, 0, -0.2, 0.3, 1, 1, 0.7, 1.4),
        "scales": None,
        "sizes": np.array([1, 2, 5, 9]),
    }
    keys = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}
    got = agree("Resize", inputs, constants=["roi", "sizes"], atol=1e-5, **keys)
    assert (got[0] == 7).any()
    assert (got[0] != 7).any()


def test_a_region_of_interest_of_some_axes_agrees(agree):
    inputs = {
        "x": image(1, 2, 6, 8),
        "roi": floats(0.1, -0.4, 0.9, 0.6),
        "scales": None,
        "sizes": np.array([3, 4]),
    }
    keys = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "axes": [3, -2]}
    agree("Resize", inputs, constants=["roi", "sizes"], opset=18, **keys)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_the_aspect_ratio_is_kept(agree, policy):
    inputs = {"x": image(1, 2, 6, 8), "roi": None, "scales": None, "sizes": np.array([7, 13])}
    agree("Resize", inputs, constants=["sizes"], opset=18, axes=[2, 3], keep_aspect_ratio_policy=policy)


def test_an_aspect_ratio_along_axes_counted_from_the_end_is_left_to_onnx_runtime():
    attributes = {"axes": [-2, -1], "keep_aspect_ratio_policy": "not_larger"}
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    inputs = [helper.make_tensor_value_info("x", 1, [1, 2, 6, 8]), helper.make_tensor_value_info("sizes", 7, [2])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, [1, 2, None, None])])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert find(load_graph(proto).nodes[0]) is None


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 4, 5), (1, 2, 3, 4, 5)])
def test_images_of_other_ranks_agree(agree, shape):
    sizes = np.array([n if k < len(shape) - 3 else n + 2 for k, n in enumerate(shape)])
    inputs = {"x": image(*shape), "roi": None, "scales": None, "sizes": sizes}
    agree("Resize", inputs, constants=["sizes"], mode="nearest")
    if len(shape) > 1:
        agree("Resize", inputs, constants=["sizes"], mode="linear")


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int32])
@pytest.mark.parametrize("shape", [(5, 7), (1, 3, 5, 7), (1, 2, 3, 4, 5)])
def test_integers_keep_the_fraction_that_onnx_runtime_leaves_them(agree, kind, shape):
    x = np.random.default_rng(0).integers(0 if kind == np.uint8 else -100, 100, shape).astype(kind)
    sizes = np.array([n if k < len(shape) - 2 else 2 * n + 1 for k, n in enumerate(shape)])
    for mode in ("nearest", "linear"):
        agree("Resize", {"x": x, "roi": None, "scales": None, "sizes": sizes}, constants=["sizes"], mode=mode)


def test_smooth_resizing_of_integers_in_fixed_point_is_refused():
    with pytest.raises(ValueError, match="integers can only be resized linearly"):
        resize(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), sizes=[1, 1, 2, 2], mode="linear", antialias=1)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_factor_of_an_old_file_agrees(agree, mode, kind):
    x = image(1, 2, 5, 6).astype(kind)
    if kind == np.float32:
        agree("Upsample", {"x": x}, opset=8, mode=mode, scales=[1.0, 1.0, 2.0, 1.5])
        agree("Upsample", {"x": x, "s": floats(1, 1, 1.7, 2)}, constants=["s"], opset=9, mode=mode)
    for scales in ((1, 1, 2, 2), (1, 1, 0.6, 0.4), (1, 1, 1.3, 0.9)):
        agree("Resize", {"x": x, "s": floats(*scales)}, constants=["s"], opset=10, mode=mode, rtol=1e-3, atol=1e-3)


def test_a_transformation_of_opset_11_alone_agrees(agree):
    inputs = {"x": image(1, 1, 5, 6), "roi": None, "scales": floats(1, 1, 1.7, 2.4)}
    keys = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    agree("Resize", inputs | {"roi": floats()}, constants=["roi", "scales"], opset=11, **keys)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"mode": "area", "sizes": [1, 1, 2, 2]}, "mode 'area'"),
        ({"mode": "nearest", "antialias": 1, "sizes": [1, 1, 2, 2]}, "antialias=1"),
        ({"nearest_mode": "round", "sizes": [1, 1, 2, 2]}, "nearest_mode 'round'"),
        ({"coordinate_transformation_mode": "centre", "sizes": [1, 1, 2, 2]}, "'centre'"),
        ({"keep_aspect_ratio_policy": "larger", "sizes": [1, 1, 2, 2]}, "'larger'"),
        ({}, "exactly one of scales and sizes"),
    ],
)
def test_what_does_not_exist_is_refused(keys, what):
    with pytest.raises(ValueError, match=what):
        resize(torch.zeros(1, 1, 4, 4), **keys)


GRADIENTS = {
    "nearest": {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
    "nearest, torch's own": {"nearest_mode": "round_prefer_floor"},
    "linear": {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
    "linear, torch's own": {"mode": "linear"},
    "linear, enlarged": {"mode": "linear", "coordinate_transformation_mode": "asymmetric", "sizes": [1, 2, 6, 8]},
    "cubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
    "antialiased": {"mode": "linear", "antialias": 1},
    "region of interest": {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_small_differences(name):
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    roi = [0.0, 0.0, -0.2, 0.1, 1.0, 1.0, 0.9, 1.2]
    assert torch.autograd.gradcheck(lambda t: resize(t, roi, **{"sizes": [1, 2, 5, 3]} | GRADIENTS[name]), [x])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_the_type_of_the_input_is_kept(kind, mode):
    x = torch.linspace(-1, 1, 12).reshape(1, 1, 3, 4)
    expected = resize_by_scales(x, [1.0, 1.0, 1.5, 2.0], mode=mode)
    got = resize_by_scales(x.to(kind), [1.0, 1.0, 1.5, 2.0], mode=mode)
    assert got.dtype == kind
    torch.testing.assert_close(got.float(), expected, rtol=1e-2, atol=1e-2)
