import numpy as np
import onnx.parser
import pytest
import torch
from run_cases import trainer_for

from passes.schedule import SCHEDULES
from toolchain.checkpoint import Checkpoint
from toolchain.export import KernelChoice
from toolchain.graph import load_graph
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan
from toolchain.running.compression import run_passes
from toolchain.running.deadline import deadline_for
from toolchain.running.run import Run
from toolchain.running.trainers import lend_normalization

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

WIDE = """
<ir_version: 8, opset_import: ["" : 17]>
wide (float[N, 32] x) => (float[N, 32] y) <float[64, 32] w1, float[32, 64] w2> {
  h = Gemm<transB = 1>(x, w1)
  a = Relu(h)
  y = Gemm<transB = 1>(a, w2)
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


def graph_of(text, silent=False):
    """Return the graph with random weights; a silent unit answers 0 and is multiplied by outliers."""
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for info in proto.graph.value_info:
        if any(tensor.name == info.name for tensor in proto.graph.initializer):
            continue
        values = rng.normal(0, 0.6, [dim.dim_value for dim in info.type.tensor_type.shape.dim])
        values = np.abs(values) + 0.5 if info.name == "var" else values
        if silent and info.name in ("bias", "w2"):
            values[..., -1] = -100 if info.name == "bias" else 1e4
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), info.name))
    del proto.graph.value_info[:]
    return load_graph(proto)


@pytest.fixture
def plan(graph, tmp_path):
    return plan_for(graph, tmp_path, prune="4x")


def plan_for(graph, folder, schedule="update_every = 3", **request):
    (folder / "recipe.toml").write_text(f"[prune_schedule]\n{schedule}\n")
    request = {"quant": "2bit", "epochs": 6, **request}
    return make_plan(graph, read_request(Request(recipe=folder / "recipe.toml", **request)))


@pytest.fixture
def chosen(monkeypatch):
    """Kernels as if they were chosen by time: never the same twice."""
    choices = []

    def choose(module, *_, **__):
        choices.append(KernelChoice("float", f"choice {len(choices)}"))
        return {node.name: choices[-1] for node in module.graph.nodes if node.op == "Gemm"}

    monkeypatch.setattr("toolchain.running.lowering.choose_kernels", choose)
    return choices


def begin(graph, plan, checkpoint=None):
    trainer = trainer_for(graph, samples=180)
    lent = lend_normalization(plan.train, trainer)
    return Run(trainer, deadline_for(plan, trainer.steps_per_epoch, None), checkpoint, lent)


def go(run, plan, saved=None):
    run.begin(saved)
    return run_passes(plan, run, {"x": run.trainer.data.inputs["x"][:1]})


@pytest.mark.parametrize(
    ("life", "request_"),
    [
        (1, {"prune": "4x"}),
        (5, {"prune": "4x"}),
        (11, {"prune": "4x"}),
        (3, {"prune": "2x", "structure": "channel", "round_to": 4}),
    ],
)
def test_a_run_that_is_interrupted_after_every_few_steps_ends_the_same(graph, tmp_path, chosen, life, request_):
    run = check_interrupted(graph, tmp_path, chosen, life, request_)
    assert run.done.removed  # hidden units that nothing reads, or that were pruned


@pytest.mark.parametrize(
    "schedule",
    [
        *(f'schedule = "{name}"\nupdates = 9' for name in SCHEDULES),
        'ramp = "balanced"\nupdates = 9',
        "blend = 0.5\nadmm_share = 0.2\nregrow_share = 0.1",
        '[quant_schedule]\nsnaps = 3\nscales = "learned"\ntime_share = 0.8\nadmm_share = 0.8',
    ],
    ids=lambda lines: lines.replace("\n", ", "),
)
def test_a_run_of_every_schedule_that_is_interrupted_ends_the_same(graph, tmp_path, chosen, schedule):
    check_interrupted(graph, tmp_path, chosen, 7, {"prune": "4x", "schedule": schedule})


def test_what_was_found_before_a_run_was_interrupted_holds(tmp_path, chosen):
    request = {"prune": "2x", "structure": "groups", "quant": "auto"}
    run = check_interrupted(graph_of(WIDE), tmp_path, chosen, 7, request)
    assert set(run.done.costs) == set(run.done.bits) == {"w1", "w2"}


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
    monkeypatch.setattr("toolchain.running.unfolding.FEWEST", 2)
    run = check_interrupted(graph_of(CONVOLUTIONS), tmp_path, chosen, 3, request_)
    assert len(run.lent) == 2
    assert all(node.op != "BatchNormalization" for node in run.trainer.module.graph.nodes)


@pytest.mark.parametrize("life", [3, 10])
def test_a_tensor_that_stays_float_does_so_also_where_a_run_is_interrupted(tmp_path, chosen, life):
    run = check_interrupted(graph_of(NETWORK, silent=True), tmp_path, chosen, life, {"quant": "2bit,tensor"})
    assert "'w2' stays float" in run.done.notes[0]
    assert run.floats is None
    assert "w2" not in run.trainer.module.formats


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
    assert (done.removed, done.notes) == (expected.removed, expected.notes)
    assert (done.dead, done.costs, done.bits) == (expected.dead, expected.costs, expected.bits)
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
