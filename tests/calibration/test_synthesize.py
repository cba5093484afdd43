from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses

from calibration.statistics import mismatch, stored_statistics
from calibration.synthesize import synthesize
from toolchain.errors import DataError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

SHARED = (Path(__file__).parents[2] / ".." / "shared").resolve()


@pytest.fixture
def network(graph_of):
    """A convolution and a BatchNormalization that stores the statistics of smooth images of its own."""
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn((6, 3, 3, 3), generator=generator) / 5
    coarse = torch.randn((200, 3, 4, 4), generator=generator) * 2 + torch.tensor([3.0, 0, -1]).reshape(3, 1, 1)
    features = F.conv2d(F.interpolate(coarse, (16, 16), mode="bilinear"), weight)
    variance, mean = torch.var_mean(features, (0, 2, 3))
    graph = graph_of(
        """g (float[N, 3, 16, 16] x) => (float[N, D] y) {
            a = Conv(x, w)
            n = BatchNormalization(a, s, b, m, v)
            r = Relu(n)
            y = Flatten(r)
        }""",
        w=weight.numpy(),
        s=np.ones(6, np.float32),
        b=np.zeros(6, np.float32),
        m=mean.numpy(),
        v=variance.numpy(),
    )
    return OnnxModule(graph)


@pytest.fixture
def plain(graph_of):
    return OnnxModule(graph_of("g (float[N, 1, 12, 12] image) => (float[N, 144] y) { y = Flatten(image) }"))


def white_noise(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def deviation(module, inputs):
    module.eval()
    with torch.no_grad():
        return mismatch(module, stored_statistics(module), {"x": inputs}).item()


def test_fitted_inputs_deviate_far_less_from_the_stored_statistics_than_white_noise(network):
    data = synthesize(network, 64, seed=0)
    fitted, noise = (
        deviation(network, torch.from_numpy(data.inputs["x"])),
        deviation(network, white_noise((64, 3, 16, 16))),
    )
    assert fitted < 0.1 * noise
    assert data.kind == "synthetic"
    assert data.labels is None
    assert "fitted to the statistics stored in 1 BatchNormalization node" in data.source
    assert "accuracy on real data was not measured" in data.source


def test_the_same_seed_gives_the_same_inputs_and_another_seed_others(network):
    first, again, other = (synthesize(network, 8, seed).inputs["x"] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_model_is_not_changed(network):
    network.train()
    before = {name: tensor.clone() for name, tensor in {**network.weights(), **network.buffers_by_name()}.items()}
    synthesize(network, 8, seed=0)
    after = {**network.weights(), **network.buffers_by_name()}
    assert network.training
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(weight.grad is None for weight in network.weights().values())


def test_a_model_without_normalisation_gets_pink_noise(plain):
    data = synthesize(plain, 40, seed=0)
    assert data.inputs["image"].shape == (40, 1, 12, 12)
    assert abs(data.inputs["image"].std() - 1) < 0.2
    assert "pink noise" in data.source
    assert "fitted" not in data.source
    assert data.batch(np.arange(3)).inputs["image"].dtype == np.float32


def test_a_model_too_large_to_fit_all_gets_mirrored_and_shifted_copies(network, monkeypatch):
    monkeypatch.setattr("calibration.synthesize._COMPUTE", 1.0)
    data = synthesize(network, 80, seed=0)
    assert "32 of them fitted" in data.source
    assert "the others mirrored and shifted copies" in data.source
    images = data.inputs["x"]
    assert len({image.tobytes() for image in images}) > 70
    assert np.allclose(np.sort(images[40].ravel()), np.sort(images[8].ravel()))
    assert deviation(network, torch.from_numpy(images[32:])) < 0.5 * deviation(network, white_noise((48, 3, 16, 16)))


def test_a_model_of_batch_size_one_is_fitted_sample_by_sample(graph_of):
    graph = graph_of(
        """g (float[1, 3, 8, 8] x) => (float[1, 192] y) {
            r = Reshape(x, shape)
            n = BatchNormalization(r, s, b, m, v)
            y = Flatten(n)
        }""",
        shape=np.array([1, 3, 64]),
        s=np.ones(3, np.float32),
        b=np.zeros(3, np.float32),
        m=np.array([1, 2, 3], np.float32),
        v=np.ones(3, np.float32),
    )
    data = synthesize(OnnxModule(graph), 4, seed=0)
    np.testing.assert_allclose(data.inputs["x"].mean((0, 2, 3)), [1, 2, 3], atol=0.2)


def test_a_transformers_ids_and_masks_have_the_models_types_and_ranges(graph_of):
    graph = graph_of(
        """g (int64[N, S] input_ids, int64[N, S] attention_mask) => (float[N, S, 4] y) {
            e = Gather(table, input_ids)
            f = Cast<to = 1>(attention_mask)
            u = Unsqueeze(f, last)
            y = Mul(e, u)
        }""",
        table=np.zeros((9, 4), np.float32),
        last=np.array([2]),
    )
    data = synthesize(OnnxModule(graph), 6, seed=0)
    assert data.inputs["input_ids"].dtype == np.int64
    assert data.inputs["input_ids"].max() <= 8
    assert set(np.unique(data.inputs["attention_mask"])) <= {0, 1}
    assert "S = 32" in data.source


def test_features_are_gaussian(graph_of):
    graph = graph_of("g (float[N, D] x) => (float[N, 2] y) { y = MatMul(x, w) }", w=np.ones((50, 2), np.float32))
    data = synthesize(OnnxModule(graph), 200, seed=0)
    assert data.inputs["x"].shape == (200, 50)
    assert abs(data.inputs["x"].std() - 1) < 0.05
    assert "Gaussian noise" in data.source


def test_a_model_that_does_not_run_on_its_assumed_sizes_asks_for_data(graph_of):
    graph = graph_of(
        "g (float[N, 1, H, W] x) => (float[N, 2] y) { f = Flatten(x)  y = MatMul(f, w) }", w=np.ones((9, 2), np.float32)
    )
    with pytest.raises(DataError, match=r"does not run on inputs of the shapes .* x\[1, 1, 224, 224\]") as caught:
        synthesize(OnnxModule(graph), 4, seed=0)
    assert "--data" in caught.value.hint


@pytest.mark.skipif(not (SHARED / "models" / "resnet32_cifar10.onnx").exists(), reason="needs the shared ResNet-32")
def test_the_inputs_of_a_real_resnet_come_near_its_stored_statistics():
    module = OnnxModule(load_graph(SHARED / "models" / "resnet32_cifar10.onnx"))
    fitted = torch.from_numpy(synthesize(module, 16, seed=0).inputs["image"])
    module.eval()
    stored = stored_statistics(module)
    with torch.no_grad():
        near, far = (mismatch(module, stored, {"image": x}).item() for x in (fitted, white_noise((16, 3, 32, 32))))
    assert near < 0.1 * far


def test_whole_sets_are_drawn_with_all_their_rows_and_numbers_for_scalars(graph_of):
    module = OnnxModule(
        graph_of("""g (float[1, 3, 8, 8] x, float[2, 4] state, float threshold, int64 rate) => (float[1, 3, 8, 8] y) {
            y = Mul(x, threshold)
        }""")
    )
    data = synthesize(module, 20, seed=0)
    assert {name: array.shape for name, array in data.inputs.items()} == {
        "x": (20, 1, 3, 8, 8), "state": (20, 2, 4), "threshold": (20,), "rate": (20,),
    }  # fmt: skip
    assert set(data.inputs["rate"]) == {0, 1}
    assert 0 <= data.inputs["threshold"].min() < data.inputs["threshold"].max() <= 1
    assert {name: array.shape for name, array in data.batch(np.array([0])).feeds.items()} == {
        "x": (1, 3, 8, 8), "state": (2, 4), "threshold": (), "rate": (),
    }  # fmt: skip


def test_a_scalar_that_the_model_takes_no_small_number_for_asks_for_data(graph_of):
    module = OnnxModule(
        graph_of(
            "g (float[1, 8] x, int64 start) => (float[1] y) { at = Add(start, far) y = Gather<axis = 1>(x, at) }",
            far=np.array(7),
        )
    )
    with pytest.raises(DataError, match="scalar 'start' from 0 to 1") as caught:
        synthesize(module, 4, seed=0)
    assert "[N] for a scalar" in caught.value.hint


def test_fitting_ends_when_its_time_is_over_and_says_how_many_are_fitted(network, monkeypatch):
    monkeypatch.setattr("calibration.synthesize._SECONDS", -1.0)
    monkeypatch.setattr("calibration.synthesize._MAX_BATCH", 8)
    data = synthesize(network, 32, seed=0)
    assert "8 of them fitted" in data.source
    assert len(data) == 32
