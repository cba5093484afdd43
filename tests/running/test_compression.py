from collections import Counter
from dataclasses import replace

import numpy as np
import onnx.parser
import pytest
import torch
from run_cases import run, trainer_for

from passes import admm_training
from passes.allowance import Allowance
from passes.bits import BITS
from passes.snapping import Snapped
from toolchain.errors import TrainingError
from toolchain.export import write_model
from toolchain.graph import load_graph
from toolchain.graph.layout import Layout
from toolchain.measure.structure import find_structure
from toolchain.module import OnnxModule
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan
from toolchain.running import compression, shrinking
from toolchain.running.compression import prune_pass, run_passes
from toolchain.running.deadline import Deadline, deadline_for
from toolchain.running.run import Run

PERCEPTRON = """
<ir_version: 8, opset_import: ["" : 17]>
mlp (float[N, 6] x) => (float[N, 3] y) <float[16, 6] w1, float[3, 16] w2> {
  h = Gemm<transB = 1>(x, w1)
  a = Relu(h)
  y = Gemm<transB = 1>(a, w2)
}
"""
BIASED = """
<ir_version: 8, opset_import: ["" : 17]>
mlp (float[N, 6] x) => (float[N, 3] y) <float[16, 6] w1, float[16] b1, float[3, 16] w2> {
  h = Gemm<transB = 1>(x, w1, b1)
  a = Relu(h)
  y = Gemm<transB = 1>(a, w2)
}
"""
ROOT_OF_ZERO = """
<ir_version: 8, opset_import: ["" : 17]>
root (float[N, 4] x) => (float[N, 3] y) <float[3, 4] w1> {
  h = Gemm<transB = 1>(x, w1)
  a = Sub(h, h)
  y = Sqrt(a)
}
"""


WIDE = """
<ir_version: 8, opset_import: ["" : 17]>
wide (float[N, 16] x) => (float[N, 4] y) <float[128, 16] w1, float[32, 128] w2, float[4, 32] w3> {
  h = Gemm<transB = 1>(x, w1)
  a = Relu(h)
  k = Gemm<transB = 1>(a, w2)
  b = Relu(k)
  y = Gemm<transB = 1>(b, w3)
}
"""


def build(text, zeros=0.0, silent=False):
    """Return the graph with random weights; a silent unit answers 0 and is multiplied by outliers."""
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for info in proto.graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        values = rng.normal(0, 0.6, shape) * (rng.random(shape) >= zeros)
        if silent and info.name != "w1":
            values[..., -1] = -100 if info.name == "b1" else 1e4
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), info.name))
    del proto.graph.value_info[:]
    return load_graph(proto)


def nonzero_and_dead(trainer, done):
    """Return how many weights pruning kept: those that are there, and those that went out with dead channels."""
    weights = trainer.module.weights()
    return sum(int(torch.count_nonzero(weight)) for weight in weights.values()) + sum(done.dead.values())


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_tensors_that_are_only_pruned_keep_their_zeros_while_others_are_quantized(tmp_path, share):
    recipe = f'[[tensor]]\nmatch = "w1"\nquant = false\n[quant_schedule]\nadmm_share = {share}\n'
    trainer, done = run(build(PERCEPTRON), recipe, tmp_path, prune="4x", quant="2bit")
    formats = trainer.module.formats
    assert formats["w1"].grid is None
    assert formats["w2"].grid is not None
    assert nonzero_and_dead(trainer, done) == 36
    for name in ("w1", "w2"):
        weight = trainer.module.tensor(name)
        assert torch.equal(formats[name].project(weight), weight)


@pytest.mark.parametrize(("grid", "cut"), [("2bit,block8", False), ("2bit", True)])
def test_channels_leave_a_pruned_model_unless_blocks_of_them_share_scales(tmp_path, monkeypatch, grid, cut):
    on_grids = []

    def remove_dead(plan, passes):
        on_grids.append(any(found.grid for found in passes.trainer.module.formats.values()))
        shrinking.remove_dead(plan, passes)

    monkeypatch.setattr(compression, "remove_dead", remove_dead)
    trainer, done = run(build(PERCEPTRON), "", tmp_path, prune="4x", quant=grid)
    assert on_grids[0] is False  # as soon as masks are final
    assert any(on_grids) == cut
    assert nonzero_and_dead(trainer, done) == 36
    for name in ("w1", "w2"):
        weight, found = trainer.module.tensor(name), trainer.module.formats[name]
        rows, columns = weight.shape
        assert found.grid.scale.shape == ((rows,) if cut else (rows, -(-columns // 8)))
        assert torch.equal(found.project(weight), weight)
        assert not bool(weight[~found.mask].any())


def test_a_model_that_was_pruned_before_keeps_its_zeros_when_it_is_quantized(tmp_path):
    graph = build(PERCEPTRON, zeros=0.8)
    zeros = graph.initializers["w1"] == 0
    trainer, _ = run(graph, "", tmp_path, quant="2bit")
    assert bool((trainer.module.tensor("w1").detach().numpy()[zeros] == 0).all())


@pytest.mark.parametrize(
    ("structure", "request_", "kept"),
    [
        ("column", {"prune": "4x"}, 36),
        ("filter1", {"prune": "3x", "quant": "2bit"}, 45),
        ("1:2", {"quant": "8bit"}, 72),
    ],
)
@pytest.mark.parametrize("start", [1.0, 5.0])
def test_a_structure_is_reached_by_training(tmp_path, structure, request_, kept, start):
    recipe = f"[prune_schedule]\nprogressive_start = {start}\nupdate_every = 4\n"
    trainer, done = run(build(PERCEPTRON), recipe, tmp_path, structure=structure, **request_)
    values = {name: trainer.module.tensor(name).detach() for name in ("w1", "w2")}
    masks = {name: trainer.module.formats[name].mask for name in values}
    width = len(values["w1"])  # hidden units that nothing makes or reads are gone, and their weights with them
    assert nonzero_and_dead(trainer, done) == kept
    layouts = {"w1": Layout((width, 6), 0, 1), "w2": Layout((3, width), 0, 1)}
    for name, mask in masks.items():
        in_part = int((~mask).sum()) < len(
            mask
        )  # whole columns of w2 are gone with their units, a part of one may stay
        assert in_part or find_structure(mask.float(), layouts[name]) == structure
    assert not any(bool(values[name][~mask].any()) for name, mask in masks.items())


@pytest.mark.parametrize("unit", ["auto", "parameters", "flops", "ms", "bytes"])
def test_tensors_are_compared_by_what_their_weights_cost(tmp_path, unit, monkeypatch):
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        network (float[N, 16] x) => (float[N, 32] y)
          <int64[3] shape = {-1, 2, 8}, float[8, 32] often, float[32, 32] once> {
          rows = Reshape(x, shape)
          many = MatMul(rows, often)
          few = ReduceMax<axes = [1], keepdims = 0>(many)
          y = MatMul(few, once)
        }
    """
    monkeypatch.setattr("toolchain.running.allocation.time_dense", lambda *_: {"often": 2.56, "once": 0.001})
    recipe = f'[prune_schedule]\nallocate = "{unit}"\nscore = "lamp"\n'
    trainer, done = run(build(text), recipe, tmp_path, epochs=0, prune="4x")
    kept = {name: int(torch.count_nonzero(trainer.module.tensor(name))) for name in ("often", "once")}
    assert nonzero_and_dead(trainer, done) == 1280 // 4
    assert (kept["often"] < 100) == (unit in ("flops", "ms"))
    assert bool(done.costs) == (unit not in ("parameters", "auto"))


@pytest.mark.parametrize("structure", ["channel1", "filter1"])
def test_channels_cost_the_same_in_bytes(tmp_path, structure):
    trainer, done = run(build(PERCEPTRON), '[prune_schedule]\nallocate = "bytes"\n', tmp_path, 0, structure=structure,
                        prune="2x")  # fmt: skip
    assert nonzero_and_dead(trainer, done) == 72
    assert not done.costs


def test_groups_are_compared_by_weights_and_products_together(tmp_path):
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        network (float[N, 64, 4, 4] x) => (float[N, 64] y) <float[64, 64, 1, 1] often, float[64, 64] once> {
          many = Conv(x, often)
          pooled = GlobalAveragePool(many)
          few = Flatten(pooled)
          y = MatMul(few, once)
        }
    """
    _, done = run(build(text), "", tmp_path, epochs=0, prune="2x", structure="groups")
    assert 1 < done.costs["often"] / done.costs["once"] < 16  # parameters alone, products alone


def test_groups_that_are_only_pruned_get_a_kernel(tmp_path):
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        wide (float[N, 64] x) => (float[N, 256] y) <float[64, 256] w> { [node] y = MatMul(x, w) }
    """
    trainer, done = run(build(text), "", tmp_path, epochs=1, prune="4x", structure="groups")
    assert find_structure(trainer.module.tensor("w").detach(), Layout((64, 256), 1, 0)) in ("groups", "column")
    assert done.kernels["node"].kernel == "float"  # as the recipe asks
    assert done.kernels["node"].reason == "asked for"


def sparing_notes(done):
    return [note for note in done.notes if "stays float" in note]


@pytest.mark.parametrize("rounding", ["admm", "nearest"])
@pytest.mark.parametrize(("epochs", "quant"), [(0, "2bit,tensor"), (0, "4bit,tensor"), (4, "2bit,tensor")])
def test_a_tensor_whose_rounding_destroys_the_outputs_stays_float_and_is_reported(tmp_path, epochs, quant, rounding):
    recipe = f'[quant_schedule]\nrounding = "{rounding}"\n'
    graph = build(BIASED, silent=True)
    trainer, done = run(graph, recipe, tmp_path, epochs=epochs, quant=quant)
    module = trainer.module
    assert module.formats["w1"].grid is not None
    assert "w2" not in module.formats
    (note,) = sparing_notes(done)
    assert note.startswith(f"'w2' stays float: with it alone rounded to {quant[0]} bits, the outputs are ")
    assert trainer.evaluate().loss < 0.5
    if epochs == 0:
        assert torch.equal(module.tensor("w2").detach(), torch.from_numpy(graph.initializers["w2"].copy()))
        assert sum("rounded" in said and "stays" not in said for said in done.notes) == (rounding != "nearest")


def test_a_pruned_tensor_that_stays_float_keeps_its_zeros_and_a_recipe_that_names_it_changes_nothing(tmp_path):
    recipe = '[[tensor]]\nmatch = "w2"\nquant = "3bit,tensor"\nprune = false\n'
    trainer, done = run(build(BIASED, silent=True), recipe, tmp_path, epochs=0, prune="50%", quant="8bit")
    assert "w2" in sparing_notes(done)[0]
    assert "w2" not in trainer.module.formats
    trainer, done = run(build(BIASED, silent=True), recipe.replace("false", '"25%"'), tmp_path, quant="8bit", epochs=6)
    found = trainer.module.formats["w2"]
    assert "w2" in sparing_notes(done)[0]
    assert found.grid is None
    assert torch.equal(trainer.module.tensor("w2") != 0, found.mask)
    assert int(found.mask.sum()) == 36


def test_a_model_all_of_whose_tensors_stay_float_is_left_as_it_is(tmp_path):
    recipe = '[[tensor]]\nmatch = "w1"\nquant = false\n'
    trainer, done = run(build(BIASED, silent=True), recipe, tmp_path, epochs=0, quant="2bit,tensor")
    assert len(sparing_notes(done)) == len(done.notes) == 1
    assert trainer.module.formats == {}


@pytest.mark.parametrize("epochs", [0, 2])
def test_no_tensor_of_an_ordinary_model_stays_float(tmp_path, epochs):
    trainer, done = run(build(BIASED), "", tmp_path, epochs=epochs, quant="4bit,tensor")
    assert sparing_notes(done) == []
    assert all(trainer.module.formats[name].grid is not None for name in ("w1", "w2"))


def test_what_training_on_the_grid_is_yet_to_mend_is_not_judged_before(tmp_path):
    trainer, done = run(
        build(BIASED, silent=True), "[quant_schedule]\nadmm_share = 0.0\n", tmp_path, quant="2bit,tensor"
    )
    assert sparing_notes(done) == []
    assert trainer.module.formats["w2"].grid is not None


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(TrainingError, match="NaN or infinite in phase 'quantize'"):
        run(build(ROOT_OF_ZERO), "", tmp_path, quant="8bit")


def test_without_training_weights_are_only_projected(tmp_path):
    trainer, done = run(build(PERCEPTRON), "", tmp_path, epochs=0, prune="4x")
    assert nonzero_and_dead(trainer, done) == 36
    assert done.log == []


@pytest.mark.parametrize("start", [1.0, 3.0])
def test_channels_are_removed_from_all_layers_that_share_them(tmp_path, start):
    recipe = f"[prune_schedule]\nprogressive_start = {start}\nupdate_every = 4\n"
    trainer, done = run(build(PERCEPTRON), recipe, tmp_path, structure="channel4", prune="2x", quant="8bit")
    weights = trainer.module.weights()
    assert {name: tuple(weights[name].shape) for name in ("w1", "w2")} == {"w1": (8, 6), "w2": (3, 8)}
    assert all(trainer.module.formats[name].mask.all() for name in ("w1", "w2"))
    assert [len(indices) for removed in done.removed for indices in removed.values()] == [8]
    assert trainer.module.graph.initializers.shape("w1") == (8, 6)


def test_every_tensor_gets_as_few_bits_as_the_limit_allows(tmp_path):
    trainer, done = run(build(WIDE), "", tmp_path, epochs=0, quant="8bit")
    sizes = [write_model(trainer.module, {}).proto.ByteSize()]
    assert not done.bits
    for limit in (0.5, 10.0):
        trainer, done = run(build(WIDE), "", tmp_path, epochs=0, quant="auto", gates={"max_drop": limit})
        sizes.append(write_model(trainer.module, {}).proto.ByteSize())
        assert set(done.bits) == {"w1", "w2", "w3"}
        for name, bits in done.bits.items():
            assert bits in BITS
            assert 2 ** (bits - 1) < len(trainer.module.formats[name].grid.levels) <= 2**bits
        (note,) = (note for note in done.notes if note.startswith("Bits were found by measuring"))
        counts = Counter(done.bits.values()).items()
        assert all(f"{count} tensor{'s' * (count > 1)} of {bits} bits" in note for bits, count in counts)
        assert "more than" not in note
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("pruned", [{}, {"prune": "4x"}], ids=str)
def test_scales_that_learn_end_up_elsewhere_and_weights_on_them(tmp_path, pruned):
    scales = []
    for way in ("refit", "learned"):
        trainer, done = run(
            build(PERCEPTRON), f'[quant_schedule]\nscales = "{way}"\n', tmp_path, quant="3bit", **pruned
        )
        losses = [entry["selection_loss"] for entry in done.log if entry["phase"] == "train in grid"]
        assert len(losses) > 2
        assert np.isfinite(losses).all()
        formats = trainer.module.formats
        scales.append(torch.cat([formats[name].grid.scale for name in ("w1", "w2")]))
        for name, weight in trainer.module.weights().items():
            assert torch.equal(formats[name].project(weight), weight)
    assert not torch.equal(*scales)


def test_weights_that_snap_stay_on_their_levels(tmp_path, monkeypatch):
    shares, held = [], []

    class Watched(Snapped):
        def snap(self, weights, share):
            shares.append(share)
            snapped = super().snap(weights, share)
            return Watched(snapped.formats, snapped.fixed)

        def hold(self, weights, levels):
            super().hold(weights, levels)
            for name, weight in weights.items():
                fixed = self.fixed[name]
                held.append(float(fixed.float().mean()))
                assert torch.equal(self.formats[name].project(weight)[fixed], weight[fixed])

    monkeypatch.setattr(admm_training, "Snapped", Watched)
    trainer, done = run(build(PERCEPTRON), "[quant_schedule]\nsnaps = 3\n", tmp_path, quant="2bit")
    assert shares == [0.25, 0.5, 0.75]
    assert sorted(set(held)) == shares
    assert np.isfinite([entry["selection_loss"] for entry in done.log]).all()
    for name, weight in trainer.module.weights().items():
        assert torch.equal(trainer.module.formats[name].project(weight), weight)


@pytest.mark.parametrize(
    ("recipe", "update_every", "updates"),
    [
        ("", 32, 30),
        ("updates = 7", None, 7),
        ("updates = 7\nupdate_every = 4", 4, 7),
        ('schedule = "one-shot"', None, 30),
    ],
)
def test_a_number_of_updates_takes_the_place_of_their_distance(tmp_path, recipe, update_every, updates):
    path = tmp_path / "recipe.toml"
    path.write_text(f"[prune_schedule]\n{recipe}\n")
    module = OnnxModule(build(PERCEPTRON))
    schedule = prune_pass(
        make_plan(module.graph, read_request(Request(prune="2x", recipe=path))), module, {}, {}
    ).schedule
    assert (schedule.update_every, schedule.updates) == (update_every, updates)


def learned_at(tmp_path, recipe, monkeypatch, kind="unlabelled", epochs=60):
    """Return the learning rate that a run trained at; ``compression.find_learning_rate`` finds 1e-3."""
    graph, asked = build(PERCEPTRON), []

    def find(_trainer, allowance):
        asked.append(allowance)
        return 1e-3

    monkeypatch.setattr(compression, "find_learning_rate", find)
    monkeypatch.setattr(Deadline, "take", lambda *_: Allowance(steps=1))
    path = tmp_path / "recipe.toml"
    path.write_text('[export]\nkernel = "float"\n' + recipe)
    plan = make_plan(graph, read_request(Request(prune="4x", recipe=path, epochs=epochs)))
    trainer = trainer_for(graph)
    trainer = replace(trainer, data=replace(trainer.data, kind=kind))
    deadline = deadline_for(plan, trainer.steps_per_epoch, None)
    done = run_passes(plan, Run(trainer, deadline, None), {"x": np.zeros((1, 6), np.float32)})
    assert done.learning_rate in {None, 1e-3}
    return trainer.learning_rate, [allowance.steps for allowance in asked]


def test_a_learning_rate_is_found_in_a_small_part_of_the_training_on_real_data(tmp_path, monkeypatch):
    assert learned_at(tmp_path, "", monkeypatch) == (1e-3, [round(0.03 * 60 * 15)])


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": "[train]\nlearning_rate = 7e-3\n"},
        {"recipe": "", "kind": "synthetic"},
        {"recipe": "", "epochs": 0},
    ],
)
def test_no_learning_rate_is_looked_for_where_one_is_given_or_a_test_would_mislead(tmp_path, monkeypatch, options):
    assert learned_at(tmp_path, monkeypatch=monkeypatch, **options)[1] == []
