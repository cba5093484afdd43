import numpy as np
import onnx.parser
import pytest
import torch

from calibration.data import Dataset, Preprocessing
from passes.objective import Objective
from passes.trainer import Trainer
from toolchain.augmentation import NONE
from toolchain.checkpoint import Checkpoint
from toolchain.compression import run_passes
from toolchain.deadline import deadline_for
from toolchain.export import KernelChoice
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.progress import NullProgress
from toolchain.request import Request, read_request
from toolchain.resolve import make_plan
from toolchain.run import Run
from toolchain.trainers import lend_normalization

NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
network (float[N, 6] x) => (float[N, 3] y)
  <float[16, 6] w1, float[16] scale, float[16] bias, float[16] mean, float[16] var, float[3, 16] w2> {
  h = Gemm<transB = 1>(x, w1)
  n = BatchNormalization(h, scale, bias, mean, var)
  a = Relu(n)
  y = Gemm<transB = 1>(a, w2)
}
"""

CONVOLUTIONS = """
<ir_version: 8, opset_import: ["" : 17]>
convolutions (float[N, 6] x) => (float[N, 3] y)
  <int64[4] square = {-1, 1, 2, 3}, float[16, 1, 2, 2] w1, float[16] b1, float[16, 16, 1, 2] w2, float[3, 16] w3> {
  image = Reshape(x, square)
  h = Conv(image, w1, b1)
  a = Relu(h)
  k = Conv(a, w2)
  c = Relu(k)
  f = Flatten(c)
  y = Gemm<transB = 1>(f, w3)
}
"""


class Interrupter(Checkpoint):
    """Writes the n-th state that it is offered, and presses Ctrl-C."""

    def __init__(self, path, count):
        super().__init__(path, {}, print)
        self.count = count

    def offer(self, make, boundary=False):  # noqa: ARG002 - Checkpoint's signature
        self.count -= 1
        if self.count == 0:
            self.write(make())
            raise KeyboardInterrupt


@pytest.fixture
def graph():
    return graph_of(NETWORK)


def graph_of(text):
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for info in proto.graph.value_info:
        if any(tensor.name == info.name for tensor in proto.graph.initializer):
            continue
        values = rng.normal(0, 0.6, [dim.dim_value for dim in info.type.tensor_type.shape.dim])
        values = np.abs(values) + 0.5 if info.name == "var" else values
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), info.name))
    del proto.graph.value_info[:]
    return load_graph(proto)


@pytest.fixture
def plan(graph, tmp_path):
    return plan_for(graph, tmp_path, prune="4x")


def plan_for(graph, folder, **request):
    (folder / "recipe.toml").write_text("[train]\nbatch_size = 16\n[prune_schedule]\nupdate_every = 3\n")
    request = {"quant": "2bit", "epochs": 6, **request}
    return make_plan(graph, read_request(Request(recipe=folder / "recipe.toml", **request)))


@pytest.fixture
def chosen(monkeypatch):
    """Kernels as if they were chosen by time: never the same twice."""
    choices = []

    def choose(module, *_):
        choices.append(KernelChoice("float", f"choice {len(choices)}"))
        return {node.name: choices[-1] for node in module.graph.nodes if node.op == "Gemm"}

    monkeypatch.setattr("toolchain.lowering.choose_kernels", choose)
    return choices


def begin(graph, plan, checkpoint=None):
    x = np.random.default_rng(1).normal(size=(180, 6)).astype(np.float32)
    data = Dataset({"x": x}, None, Preprocessing(), "unlabelled", "random points")
    trainer = Trainer(
        module=OnnxModule(graph),
        teacher=OnnxModule(graph).eval(),
        data=data.subset(np.arange(150)),
        selection=data.subset(np.arange(150, 180)),
        objective=Objective(("y",)),
        batch_size=plan.train.batch_size,
        learning_rate=5e-3,
        precision=torch.float32,
        augmentation=NONE,
        moves_normalization=True,
        rng=np.random.default_rng(0),
        progress=NullProgress(),
    )
    lent = lend_normalization(plan.train, trainer)
    return Run(trainer, deadline_for(plan, trainer.steps_per_epoch, None), checkpoint, lent)


def go(run, plan, saved=None):
    run.begin(saved)
    return run_passes(plan, run, {"x": run.trainer.data.inputs["x"][:1]})


@pytest.mark.parametrize(
    ("life", "request_"),
    [
        (1, {"prune": "4x"}),
        (2, {"prune": "4x"}),
        (5, {"prune": "4x"}),
        (11, {"prune": "4x"}),
        (3, {"prune": "2x", "structure": "channel", "round_to": 4}),
    ],
)
def test_a_run_that_is_interrupted_after_every_few_steps_ends_the_same(graph, tmp_path, chosen, life, request_):
    run = check_interrupted(graph, tmp_path, chosen, life, request_)
    assert run.done.removed  # hidden units that nothing reads, or that were pruned


@pytest.mark.parametrize(
    "request_",
    [
        {"prune": "4x"},
        {"prune": "4x", "quant": None},
        {"prune": "2x", "structure": "channel", "round_to": 4},
        {"quant": "ternary"},
    ],
)
def test_normalizations_that_are_lent_are_folded_also_where_a_run_is_interrupted(
    tmp_path, chosen, monkeypatch, request_
):
    monkeypatch.setattr("toolchain.unfolding.FEWEST", 2)
    run = check_interrupted(graph_of(CONVOLUTIONS), tmp_path, chosen, 3, request_)
    assert len(run.lent) == 2
    assert all(node.op != "BatchNormalization" for node in run.trainer.module.graph.nodes)


def check_interrupted(graph, tmp_path, chosen, life, request_):
    """Compare a run with one that is interrupted whenever it has been offered ``life`` states; return the last."""
    plan = plan_for(graph, tmp_path, **request_)
    whole = begin(graph, plan)
    expected = go(whole, plan)
    chosen.clear()
    saved, lives, done = None, 0, None
    while done is None:
        lives += 1
        run = begin(graph, plan, Interrupter(tmp_path / "checkpoint", life))
        try:
            done = go(run, plan, saved)
        except KeyboardInterrupt:
            saved = run.checkpoint.read()
    assert lives > 50 / life
    assert done.log == expected.log
    assert done.kernels == expected.kernels
    assert done.removed == expected.removed
    assert done.dead == expected.dead
    assert len(chosen) == 1
    ours, theirs = run.trainer.module, whole.trainer.module
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    assert list(ours.formats) == list(theirs.formats)
    for name, tensor_format in ours.formats.items():
        other = theirs.formats[name]
        assert (tensor_format.mask is None) == (other.mask is None)
        assert tensor_format.mask is None or torch.equal(tensor_format.mask, other.mask)
        assert (tensor_format.grid is None) == (other.grid is None)
        assert tensor_format.grid is None or torch.equal(tensor_format.grid.scale, other.grid.scale)
    return run


def test_what_the_passes_took_counts_over_all_lives(graph, plan, tmp_path):
    run = begin(graph, plan, Interrupter(tmp_path / "checkpoint", 20))
    with pytest.raises(KeyboardInterrupt):
        go(run, plan)
    saved = run.checkpoint.read()
    later = begin(graph, plan)
    later.begin(saved | {"took_s": 100.0})
    assert later.done.earlier_s == 100.0
    assert later.state()["took_s"] > 100.0


def test_generators_go_on_where_they_were(graph, plan, tmp_path):
    run = begin(graph, plan, Interrupter(tmp_path / "checkpoint", 10))
    with pytest.raises(KeyboardInterrupt):
        go(run, plan)
    expected = run.trainer.rng.random(), torch.rand(3)
    torch.manual_seed(99)
    later = begin(graph, plan)
    later.begin(run.checkpoint.read())
    assert later.trainer.rng.random() == expected[0]
    assert torch.equal(torch.rand(3), expected[1])
