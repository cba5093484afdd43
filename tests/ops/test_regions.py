import numpy as np
import pytest
import torch

from toolchain.ops import regions
from toolchain.ops.regions import max_roi_pool, roi_align

# Also boxes that leave the image, have no area, and end before they start.
BOXES = np.array(
    [[1, 2, 9, 7], [-3, -2, 4, 5], [5, 6, 30, 40], [2.5, 3.5, 2.5, 3.5], [6, 6, 3, 2], [0.3, 0.7, 10.1, 8.9]],
    np.float32,
)
IMAGES = np.array([1, 0, 2, 0, 1, 1])


def images():
    return np.random.default_rng(0).standard_normal((3, 4, 8, 10)).astype(np.float32)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
@pytest.mark.parametrize("transform", [None, "half_pixel", "output_half_pixel"])
def test_regions_are_aligned_as_onnx_runtime_aligns_them(agree, transform, sampling_ratio, mode):
    keys = {
        "mode": mode,
        "sampling_ratio": sampling_ratio,
        "output_height": 3,
        "output_width": 2,
        "spatial_scale": 0.75,
    }
    if transform:
        keys["coordinate_transformation_mode"] = transform
    # ONNX Runtime gives up on a region that ends before it starts where the number of samples depends on its size.
    chosen = [k for k in range(6) if k != 4 or sampling_ratio]
    inputs = {"x": images(), "rois": BOXES[chosen], "batch": IMAGES[chosen]}
    agree("RoiAlign", inputs, opset=16 if transform else 10, atol=1e-5, **keys)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_largest_pixel_of_regions_agrees(agree, scale):
    rois = np.concatenate([IMAGES[:, None].astype(np.float32), BOXES], 1)
    got = agree("MaxRoiPool", {"x": images(), "rois": rois}, opset=7, pooled_shape=[3, 2], spatial_scale=scale)
    assert (got[0] == 0).any(), "no bin is empty"


def test_regions_in_portions_are_the_same(monkeypatch):
    x, rois, batch = torch.from_numpy(images()), torch.from_numpy(BOXES), torch.from_numpy(IMAGES)
    for mode in ("avg", "max"):
        keys = {"mode": mode, "output_height": 3, "output_width": 2}
        whole = roi_align(x, rois, batch, **keys)
        monkeypatch.setattr(regions, "_PORTION", 1)
        torch.testing.assert_close(roi_align(x, rois, batch, **keys), whole)
        monkeypatch.undo()


def test_no_regions_give_no_results():
    x, batch = torch.from_numpy(images()), torch.zeros(0, dtype=torch.int64)
    assert roi_align(x, torch.zeros(0, 4), batch, output_height=3, output_width=2).shape == (0, 4, 3, 2)
    assert max_roi_pool(x, torch.zeros(0, 5), pooled_shape=[3, 2]).shape == (0, 4, 3, 2)


def test_gradients_of_regions_are_those_of_small_differences():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64, generator=generator).requires_grad_()
    rois = torch.tensor([[0.6, 1.2, 4.7, 3.9], [1.3, 0.4, 3.8, 4.1]], dtype=torch.float64, requires_grad=True)
    batch = torch.tensor([1, 0])
    for mode in ("avg", "max"):
        keys = {"mode": mode, "sampling_ratio": 2, "output_height": 2, "output_width": 2}
        assert torch.autograd.gradcheck(lambda a, b, keys=keys: roi_align(a, b, batch, **keys), [x, rois])
    whole = torch.cat([batch[:, None], rois.detach()], 1)
    assert torch.autograd.gradcheck(lambda a: max_roi_pool(a, whole, pooled_shape=[2, 2]), [x])
