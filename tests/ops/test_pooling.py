import numpy as np
import pytest
import torch

from toolchain.ops.pooling import average_pool, lp_pool, max_pool


def image(*shape, kind=np.float32):
    # Few different values, so that some are equal and the first of them has to be found.
    return np.random.default_rng(0).integers(0, 6, shape).astype(kind)


WINDOWS = {
    "plain": {"kernel_shape": [3, 2], "strides": [2, 1]},
    "same pads": {"kernel_shape": [3, 4], "pads": [1, 2, 1, 2], "strides": [2, 2]},
    "different pads": {"kernel_shape": [3, 4], "pads": [0, 3, 2, 1], "strides": [2, 3]},
    "wide pads": {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]},
    "more before": {"kernel_shape": [2, 3], "strides": [1, 2], "auto_pad": "SAME_LOWER"},
    "more after": {"kernel_shape": [2, 3], "strides": [1, 2], "auto_pad": "SAME_UPPER"},
    "none": {"kernel_shape": [3, 3], "strides": [3, 2], "auto_pad": "VALID"},
}
ROUNDED_UP = {
    "rounded up": {"kernel_shape": [2, 3], "strides": [2, 3], "ceil_mode": 1},
    "rounded up, different pads": {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [0, 1, 2, 1], "ceil_mode": 1},
}
DILATED = {
    "dilated": {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 1, 0, 2], "strides": [1, 2]},
    "dilated, rounded up": {"kernel_shape": [2, 2], "dilations": [2, 3], "strides": [3, 2], "ceil_mode": 1},
    "dilated, same size": {"kernel_shape": [2, 2], "dilations": [2, 2], "auto_pad": "SAME_UPPER"},
}
ALL = WINDOWS | ROUNDED_UP | DILATED


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, np.int8])
@pytest.mark.parametrize("name", ALL)
def test_largest_values_and_their_indices_agree(agree, name, kind, storage_order):
    keys = ALL[name]
    x = {"x": image(2, 3, 7, 8, kind=kind)}
    agree("MaxPool", x, opset=12, rtol=0, atol=0, **keys)
    agree("MaxPool", x, outputs=2, opset=12, rtol=0, atol=0, storage_order=storage_order, **keys)


def test_windows_that_do_not_meet_leave_out_what_onnx_runtime_leaves_out(agree):
    keys = {"kernel_shape": [1, 2], "strides": [4, 3], "auto_pad": "SAME_UPPER"}
    agree("MaxPool", {"x": image(1, 2, 6, 8)}, outputs=2, opset=12, **keys)
    agree("LpPool", {"x": image(1, 2, 6, 8)}, opset=18, **keys)


@pytest.mark.parametrize(("shape", "kernel"), [((9,), [3]), ((5, 6, 4), [2, 3, 2])])
def test_largest_values_of_other_than_images_agree(agree, shape, kernel):
    pads = [1, *[0] * (len(kernel) - 1)] * 2
    for order in (0, 1):
        keys = {"kernel_shape": kernel, "strides": [2] * len(kernel), "pads": pads, "storage_order": order}
        agree("MaxPool", {"x": image(2, 2, *shape)}, outputs=2, opset=12, **keys)


MEANS = [(7, WINDOWS), (11, WINDOWS | ROUNDED_UP), (19, ALL), (22, ALL)]
NORMS = [(7, WINDOWS), (11, WINDOWS), (18, ALL), (22, ALL)]


@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize(("opset", "name"), [(opset, name) for opset, names in MEANS for name in names])
def test_means_agree(agree, opset, name, count_include_pad):
    keys = ALL[name]
    agree("AveragePool", {"x": image(2, 3, 7, 8)}, opset=opset, count_include_pad=count_include_pad, **keys)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize(("opset", "name"), [(opset, name) for opset, names in NORMS for name in names])
def test_norms_agree(agree, opset, name, p):
    agree("LpPool", {"x": image(2, 3, 7, 8)}, opset=opset, p=p, **ALL[name])


@pytest.mark.parametrize("name", ["same pads", "different pads", "rounded up, different pads", "dilated"])
@pytest.mark.parametrize("pool", [max_pool, average_pool, lp_pool])
def test_gradients_are_those_of_small_differences(pool, name):
    x = torch.randn(1, 2, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: pool(t, **ALL[name]), [x])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["same pads", "different pads", "dilated"])
def test_the_type_of_the_input_is_kept(name, kind):
    x = torch.from_numpy(image(1, 2, 7, 8))
    for pool in (max_pool, average_pool, lp_pool):
        got = pool(x.to(kind), **(WINDOWS | DILATED)[name])
        assert got.dtype == kind
        torch.testing.assert_close(got.float(), pool(x, **(WINDOWS | DILATED)[name]), rtol=1e-2, atol=1e-2)
