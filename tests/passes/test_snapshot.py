import torch

from passes.snapshot import Snapshot
from toolchain.formats import Grid, TensorFormat


def test_a_snapshot_gives_back_weights_and_formats(trainer):
    module, mask = trainer.module, torch.arange(96).reshape(16, 6) % 2 == 0
    module.formats["w1"] = TensorFormat(mask)
    snapshot, before = Snapshot.of(module), module.tensor("w1").detach().clone()
    with torch.no_grad():
        module.tensor("w1").zero_()
    module.formats["w2"] = TensorFormat(grid=Grid((-1, 1), torch.tensor(0.5)))
    snapshot.restore(module)
    assert torch.equal(module.tensor("w1"), before)
    assert list(module.formats) == ["w1"]


def test_single_tensors_are_given_back_with_their_formats(trainer):
    module = trainer.module
    module.formats["w1"] = TensorFormat(torch.ones(16, 6, dtype=torch.bool))
    snapshot, before = Snapshot.of(module), {name: module.tensor(name).detach().clone() for name in ("w1", "w2")}
    with torch.no_grad():
        for name in ("w1", "b1", "w2"):
            module.tensor(name).fill_(7.0)
            module.formats[name] = TensorFormat()
    snapshot.put_back(module, ["w1", "w2"])
    assert all(torch.equal(module.tensor(name), value) for name, value in before.items())
    assert bool((module.tensor("b1") == 7.0).all())
    assert module.formats.keys() == {"w1", "b1"}
    assert module.formats["w1"] is snapshot.formats["w1"]


def test_a_state_holds_the_whole_snapshot_in_its_order(trainer):
    formats = trainer.module.formats
    formats["w2"] = TensorFormat(torch.ones(3, 16, dtype=torch.bool), Grid((-2, 0, 2), torch.rand(3) + 1, 0, 0))
    formats["w1"] = TensorFormat()
    formats["x"] = TensorFormat(grid=Grid(tuple(range(256)), torch.tensor(0.1), 128))
    snapshot = Snapshot.of(trainer.module)
    found = Snapshot.from_state(snapshot.state(), torch.device("cpu"))
    assert list(found.formats) == ["w2", "w1", "x"]
    assert found.tensors.keys() == snapshot.tensors.keys()
    assert all(torch.equal(found.tensors[key], snapshot.tensors[key]) for key in found.tensors)
    values = torch.linspace(-7, 7, 48).reshape(3, 16)
    for name, tensor_format in found.formats.items():
        assert torch.equal(tensor_format.project(values), snapshot.formats[name].project(values))
