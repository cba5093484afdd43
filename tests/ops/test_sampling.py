import numpy as np
import pytest
import torch
from onnx import helper

from toolchain.graph import load_graph
from toolchain.ops import find
from toolchain.ops.sampling import affine_grid, center_crop_pad, col2im, deform_conv, grid_sample, max_unpool


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_images_are_read_at_the_same_places(agree, mode, align_corners, padding_mode):
    # Quarters of the image hit the middle between two pixels, where rounding decides.
    grid = np.concatenate([normal(2, 3, 4, 2) * 2, np.round(normal(2, 3, 4, 2, seed=1) * 4) / 4], axis=2)
    keys = {"align_corners": align_corners, "padding_mode": padding_mode}
    agree("GridSample", {"x": normal(2, 3, 4, 8), "grid": grid}, opset=16, mode=mode, atol=1e-5, **keys)
    renamed = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    agree("GridSample", {"x": normal(2, 3, 4, 8), "grid": grid}, opset=22, mode=renamed, atol=1e-5, **keys)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_volumes_are_read_at_the_same_places(agree, mode, padding_mode):
    inputs = {"x": normal(2, 2, 3, 4, 5), "grid": normal(2, 2, 3, 4, 3) * 1.5}
    agree("GridSample", inputs, opset=20, mode=mode, padding_mode=padding_mode, atol=1e-5)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_gradients_of_reading_are_those_of_small_differences(mode, padding_mode):
    x, grid = double(1, 2, 4, 5), double(1, 3, 2, 2)
    places = grid.detach() if mode == "nearest" else grid
    assert torch.autograd.gradcheck(lambda a, b: grid_sample(a, b, mode=mode, padding_mode=padding_mode), [x, places])


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 3, 1, 5), (2, 3, 3, 1, 2)])
def test_affine_grids_agree_also_where_a_side_is_one(agree, size, align_corners):
    rank = len(size) - 2
    inputs = {"theta": normal(2, rank, rank + 1), "size": np.array(size)}
    agree("AffineGrid", inputs, constants=["size"], opset=20, align_corners=align_corners)


def test_affine_grids_carry_the_gradient_of_their_maps():
    assert torch.autograd.gradcheck(lambda theta: affine_grid(theta, [2, 1, 3, 4]), [double(2, 2, 3)])


DEFORMED = {
    "plain": {},
    "with different pads": {"pads": [1, 0, 2, 1]},
    "with strides and dilations": {"strides": [2, 1], "dilations": [1, 2], "pads": [1, 1, 1, 1]},
    "in groups": {"group": 2, "offset_group": 2},
}


@pytest.mark.parametrize("opset", [19, 22])
@pytest.mark.parametrize("name", DEFORMED)
def test_deformable_convolution_agrees(agree, name, opset):
    keys = DEFORMED[name]
    pads, strides, dilations = keys.get("pads", [0] * 4), keys.get("strides", [1, 1]), keys.get("dilations", [1, 1])
    image, kernel = (6, 9), (3, 2)
    out = [
        (n + pads[k] + pads[k + 2] - (size - 1) * dilations[k] - 1) // strides[k] + 1
        for k, (n, size) in enumerate(zip(image, kernel, strict=True))
    ]
    group, offset_group = keys.get("group", 1), keys.get("offset_group", 1)
    inputs = {
        "x": normal(2, 4, *image),
        "w": normal(6, 4 // group, *kernel, seed=1),
        "offset": normal(2, offset_group * 12, *out, seed=2),
        "b": normal(6, seed=3),
        "mask": normal(2, offset_group * 6, *out, seed=4),
    }
    agree("DeformConv", inputs, opset=opset, atol=1e-5, **keys)
    agree("DeformConv", inputs | {"b": None, "mask": None}, opset=opset, atol=1e-5, **keys)


def test_gradients_of_deformable_convolution_are_those_of_small_differences():
    inputs = [double(1, 2, 4, 5), double(2, 2, 2, 2), double(1, 8, 3, 4), double(2), double(1, 4, 3, 4)]
    assert torch.autograd.gradcheck(deform_conv, inputs)


def test_deformable_convolution_of_other_than_images_is_refused():
    with pytest.raises(ValueError, match="3 spatial dimensions"):
        deform_conv(torch.zeros(1, 2, 4, 4, 4), torch.zeros(2, 2, 1, 1, 1), torch.zeros(1, 3, 4, 4, 4))


@pytest.mark.parametrize(
    ("image", "block", "keys"),
    [
        ((7,), (3,), {"strides": [2], "pads": [1, 2]}),
        ((5, 6), (2, 3), {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [2, 1]}),
        ((3, 4, 5), (2, 1, 2), {"strides": [1, 2, 1], "pads": [0, 1, 1, 1, 0, 2]}),
    ],
)
def test_blocks_are_added_up_in_images_of_every_rank(agree, image, block, keys):
    rank = len(image)
    pads, dilations = keys["pads"], keys.get("dilations", [1] * rank)
    counts = [
        (n + pads[k] + pads[k + rank] - (size - 1) * dilations[k] - 1) // keys["strides"][k] + 1
        for k, (n, size) in enumerate(zip(image, block, strict=True))
    ]
    x = normal(2, 3 * int(np.prod(block)), int(np.prod(counts)))
    inputs = {"x": x, "image": np.array(image), "block": np.array(block)}
    agree("Col2Im", inputs, constants=["image", "block"], opset=18, **keys)


def test_blocks_of_other_than_images_are_left_to_onnx_runtime_where_they_are_dilated():
    node = helper.make_node("Col2Im", ["x", "image", "block"], ["y"], dilations=[2], strides=[1], pads=[0, 0])
    inputs = [helper.make_tensor_value_info("x", 1, [1, 2, 4])]
    inputs += [helper.make_tensor_value_info(name, 7, [1]) for name in ("image", "block")]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, [1, 1, None])])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert find(load_graph(proto).nodes[0]) is None


def test_gradients_of_blocks_are_those_of_small_differences():
    assert torch.autograd.gradcheck(lambda x: col2im(x, [4, 3], [2, 2], pads=[1, 0, 0, 1]), [double(1, 4, 12)])


@pytest.mark.parametrize(("wanted", "axes"), [((3, 8), [1, -1]), ((5, 5), [-2, 0]), ((4, 7), [0, 2])])
def test_the_middle_is_cropped_and_padded(agree, wanted, axes):
    inputs = {"x": normal(4, 6, 7), "shape": np.array(wanted)}
    agree("CenterCropPad", inputs, constants=["shape"], opset=18, axes=axes, rtol=0, atol=0)
    agree("CenterCropPad", {"x": inputs["x"], "shape": np.array([3, 6, 9])}, constants=["shape"], opset=18)


@pytest.mark.parametrize("kind", [torch.bool, torch.int32, torch.float16])
def test_the_middle_of_any_type_is_cropped_and_padded(kind):
    x = torch.ones(2, 3).to(kind)
    assert center_crop_pad(x, [1, 5]).tolist() == [[0, 1, 1, 1, 0]]


@pytest.mark.parametrize("output_shape", [None, (1, 2, 7, 9)])
def test_pooled_values_go_back_where_their_indices_say(agree, output_shape):
    size = 2 * (7 * 9 if output_shape else 6 * 8)
    places = np.random.default_rng(0).permutation(size)[:24].reshape(1, 2, 3, 4)
    inputs = {"x": normal(1, 2, 3, 4), "i": places}
    if output_shape:
        inputs["shape"] = np.array(output_shape)
    constants = ["shape"] if output_shape else []
    agree("MaxUnpool", inputs, constants=constants, opset=11, kernel_shape=[2, 2], strides=[2, 2], rtol=0, atol=0)


def test_gradients_of_pooled_values_are_those_of_small_differences():
    places = torch.tensor([[[3, 0, 6]]])
    assert torch.autograd.gradcheck(lambda x: max_unpool(x, places, kernel_shape=[3], strides=[2]), [double(1, 1, 3)])
