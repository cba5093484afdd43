import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from calibration.data import Preprocessing
from toolchain import compress
from toolchain.errors import DataError, ExportError, ModelError, RecipeError, TrainingError
from toolchain.progress import NullProgress

CONVOLUTIONAL = """
<ir_version: 8, opset_import: ["" : 17]>
digits (float[N, 1, 8, 8] image) => (float[N, 4] logits)
  <float[8, 1, 3, 3] conv_weight, float[8] conv_bias, float[8] bn_scale, float[8] bn_bias, float[8] bn_mean,
   float[8] bn_var, float[4, 128] fc_weight, float[4] fc_bias> {
  c = Conv<pads = [1, 1, 1, 1]>(image, conv_weight, conv_bias)
  n = BatchNormalization(c, bn_scale, bn_bias, bn_mean, bn_var)
  r = Relu(n)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
  f = Flatten(p)
  logits = Gemm<transB = 1>(f, fc_weight, fc_bias)
}
"""
TWO_WAY = """
<ir_version: 8, opset_import: ["" : 17]>
two (float[N, 6] left, int64[N, 3] ids) => (float[N, 5] sum, float[N, 3, 4] words)
  <float[10, 4] table, float[6, 5] w, float[4, 4] v> {
  words0 = Gather(table, ids)
  words = MatMul(words0, v)
  sum = MatMul(left, w)
}
"""
STREAMING = """
<ir_version: 8, opset_import: ["" : 17]>
stream (float[1, 6] frame, float[2, 1, 8] state, float gain) => (float[1, 4] out, float[2, 1, 8] next)
  <float[6, 8] w, float[8, 8] u, float[8, 4] v> {
  scaled = Mul(frame, gain)
  driven = MatMul(scaled, w)
  carried = MatMul(state, u)
  sum = Add(carried, driven)
  next = Tanh(sum)
  mean = ReduceMean<axes = [0], keepdims = 0>(next)
  out = MatMul(mean, v)
}
"""


@pytest.fixture
def model(tmp_path):
    return write(CONVOLUTIONAL, tmp_path / "model.onnx")


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 300)
    x = rng.normal(0, 0.5, (300, 1, 8, 8)).astype(np.float32)
    for number, label in enumerate(y):
        x[number, 0, 2 * label : 2 * label + 2] += 2
    np.savez(tmp_path / "data.npz", x_train=x[:240], y_train=y[:240], x_test=x[240:], y_test=y[240:])
    return str(tmp_path / "data.npz")


def write(text, path):
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    declared = {info.name: info for info in proto.graph.value_info}
    for name, info in declared.items():
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        values = rng.normal(0, 0.4, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(np.abs(values) + 0.5 if "var" in name else values, name))
    del proto.graph.value_info[:]
    onnx.save(proto, path)
    return path


BARE = """
<ir_version: 8, opset_import: ["" : 17]>
bare (float[N, 1, 8, 8] image) => (float[N, 4] logits)
  <float[8, 1, 3, 3] w1, float[8] b1, float[8, 8, 3, 3] w2, float[4, 128] w3> {
  c = Conv<pads = [1, 1, 1, 1]>(image, w1, b1)
  r = Relu(c)
  d = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(r, w2)
  s = Relu(d)
  f = Flatten(s)
  logits = Gemm<transB = 1>(f, w3)
}
"""


@pytest.mark.parametrize(
    "asked",
    [
        {"prune": "4x"},
        {"quant": "2bit"},
        {"quant": "4bit,asymmetric"},
        {"prune": "2x", "quant": "8bit"},
        {"prune": "2x", "structure": "channel", "round_to": 2},
    ],
    ids=str,
)
def test_normalizations_that_convolutions_are_lent_are_not_in_the_file(tmp_path, data, monkeypatch, asked):
    monkeypatch.setattr("toolchain.unfolding.FEWEST", 2)
    result = compress(write(BARE, tmp_path / "m.onnx"), data=data, epochs=4, output=tmp_path / "small.onnx", **asked)
    assert any(note.startswith("2 convolutions have a BatchNormalization again") for note in result.report["notes"])
    assert all(node.op_type != "BatchNormalization" for node in onnx.load(result.path).graph.node)
    assert result.report["parity"]["max_abs_error"] <= result.report["parity"]["tolerance"]
    assert result.report["parity"]["outputs"][0]["same_class"] >= 0.95


def nonzero_and_dead(counts):
    """Return how many weights pruning kept: those that are there, and those that went out with dead channels."""
    return counts["nonzero"] + counts["dead"]


def test_prune_and_quant_write_a_smaller_file_with_exactly_the_asked_weights(model, data, tmp_path):
    before = hashlib.sha256(model.read_bytes()).hexdigest()
    result = compress(model, prune="4x", quant="2bit", data=data, epochs=6, output=tmp_path / "small.onnx")
    report = result.report
    assert nonzero_and_dead(report["weights"]) == round((8 * 9 + 4 * 128) / 4)
    assert [row["bits"] for row in report["weights"]["tensors"]] == [2, 2]
    assert result.path.stat().st_size == report["size"]["compressed_bytes"]
    assert report["quality"]["metric"] == "top-1 accuracy"
    assert report["quality"]["samples"] == 60
    assert report["parity"]["max_abs_error"] <= report["parity"]["tolerance"]
    assert [output["samples"] for output in report["parity"]["outputs"]] == [60]
    assert hashlib.sha256(model.read_bytes()).hexdigest() == before == report["model"]["sha256"]
    assert json.loads((tmp_path / "small-report" / "report.json").read_text()) == report
    assert "<svg" in result.report_path.read_text()


def test_pruning_alone_keeps_float_survivors(model, data, tmp_path):
    result = compress(model, prune="90%", data=data, epochs=4, output=tmp_path / "small.onnx")
    assert nonzero_and_dead(result.report["weights"]) == 584 - round(0.9 * 584)
    assert [row["bits"] for row in result.report["weights"]["tensors"]] == [32, 32]


@pytest.mark.parametrize("grid", ["8bit", "4bit", "3bit", "2bit", "ternary", "binary"])
def test_every_grid_runs_without_training(model, data, tmp_path, grid):
    result = compress(model, quant=grid, data=data, epochs=0, output=tmp_path / "small.onnx")
    assert result.report["parity"]["max_abs_error"] <= result.report["parity"]["tolerance"]
    assert result.report["convergence"] == []


@pytest.mark.parametrize("kernel", ["float", "int8", "nbits"])
def test_every_kernel_computes_what_the_module_does(model, data, tmp_path, kernel):
    (tmp_path / "recipe.toml").write_text(f'[export]\nkernel = "{kernel}"\n[train]\nbatch_size = 16\n')
    result = compress(
        model, prune="2x", quant="4bit", data=data, epochs=4, recipe=tmp_path / "recipe.toml",
        output=tmp_path / "small.onnx",
    )  # fmt: skip
    kernels = {row["kernel"] for row in result.report["weights"]["tensors"]}
    assert kernel in kernels
    assert result.report["quality"]["drop"] < 0.5


def test_without_data_the_report_says_that_accuracy_was_not_measured(model, tmp_path):
    result = compress(model, prune="2x", epochs=1, output=tmp_path / "small.onnx")
    assert result.report["quality"]["data"] == "synthetic"
    assert any("accuracy on real data was not measured" in note for note in result.report["notes"])


@pytest.mark.parametrize(("with_data", "rate"), [(True, 2e-3), (False, 2e-4)])
def test_steps_are_small_where_normalisation_cannot_follow_them(model, data, tmp_path, with_data, rate):
    result = compress(model, prune="2x", data=data if with_data else None, epochs=1, output=tmp_path / "small.onnx")
    assert result.report["plan"][-1]["learning_rate"] == rate


def test_several_inputs_and_outputs_are_distilled_together(tmp_path):
    model = write(TWO_WAY, tmp_path / "two.onnx")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", left=rng.normal(size=(80, 6)).astype(np.float32), ids=rng.integers(0, 10, (80, 3)))
    result = compress(model, quant="4bit", data=str(tmp_path / "d.npz"), epochs=3, output=tmp_path / "small.onnx")
    assert set(result.report["quality"]["fidelity"]) == {"sum", "words"}
    assert all(row["cosine"] > 0.9 for row in result.report["quality"]["fidelity"].values())


@pytest.mark.parametrize("with_data", [True, False])
def test_a_streaming_model_is_compressed_on_whole_sets_of_inputs(tmp_path, with_data):
    model = write(STREAMING, tmp_path / "stream.onnx")
    rng = np.random.default_rng(0)
    shapes = {"frame": (60, 1, 6), "state": (60, 2, 1, 8), "gain": (60,)}
    np.savez(tmp_path / "d.npz", **{name: rng.normal(size=size).astype(np.float32) for name, size in shapes.items()})
    data = str(tmp_path / "d.npz") if with_data else None
    (tmp_path / "recipe.toml").write_text("[train]\nbatch_size = 16\n")
    result = compress(
        model, prune="2x", quant="8bit", data=data, epochs=2, recipe=tmp_path / "recipe.toml",
        output=tmp_path / "small.onnx",
    )  # fmt: skip
    assert result.report["latency"][0]["batch"] == 1
    assert result.report["quality"]["samples"] == (6 if with_data else 102)
    assert set(result.report["quality"]["fidelity"]) == {"out", "next"}
    assert all(row["cosine"] > 0.9 for row in result.report["quality"]["fidelity"].values())
    assert result.report["parity"]["max_abs_error"] <= result.report["parity"]["tolerance"]


@pytest.mark.parametrize("size", [1, 4])
def test_a_model_with_a_fixed_batch_size_is_trained_in_portions(data, tmp_path, size):
    model = write(CONVOLUTIONAL.replace("float[N,", f"float[{size},"), tmp_path / "fixed.onnx")
    result = compress(model, prune="2x", quant="8bit", data=data, epochs=2, output=tmp_path / "small.onnx")
    assert result.report["latency"][0]["batch"] == size
    assert result.report["quality"]["samples"] == 60
    assert nonzero_and_dead(result.report["weights"]) == 292


def test_epochs_and_seed_give_the_same_file_twice(model, data, tmp_path):
    (tmp_path / "recipe.toml").write_text('[export]\nkernel = "float"\n')  # the fastest kernel is measured, so may vary
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for file in files:
        compress(model, prune="4x", quant="2bit", data=data, epochs=2, recipe=tmp_path / "recipe.toml", output=file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_budget_is_kept(model, data, tmp_path):
    result = compress(model, prune="4x", data=data, budget="4s", output=tmp_path / "small.onnx")
    assert result.report["timings"]["train_s"] < 4


def test_the_report_says_how_long_every_phase_trained_and_what_the_budget_cut(model, data, tmp_path):
    report = compress(model, prune="4x", data=data, budget="1s", output=tmp_path / "small.onnx").report
    assert [row["phase"] for row in report["phases"]] == ["prune", "regrow", "train survivors"]
    assert [round(row["planned_epochs"]) for row in report["phases"]] == [15, 9, 6]
    assert any(note.startswith("Too few steps") for note in report["notes"]) == any(
        row["epochs"] < 3 for row in report["phases"]
    )
    report = compress(model, prune="4x", data=data, epochs=1, output=tmp_path / "small.onnx").report
    assert sum(row["epochs"] for row in report["phases"]) == pytest.approx(1, abs=0.01)
    assert not any(note.startswith("Too few steps") for note in report["notes"])


def test_images_are_varied_as_asked_and_the_report_says_how(model, data, tmp_path):
    result = compress(model, prune="4x", data=data, epochs=1, augment="shift2,flip", output=tmp_path / "small.onnx")
    (note,) = [note for note in result.report["notes"] if note.startswith("Training images")]
    assert (
        note
        == "Training images are shifted at random by up to 2 pixels each way and mirrored, half of them, each anew."
    )
    assert result.report["plan"][-1]["augment"] == "shift2,flip"


def test_vectors_cannot_be_varied(tmp_path):
    two = write(TWO_WAY, tmp_path / "two.onnx")
    with pytest.raises(DataError, match=r"augment: flip varies float images"):
        compress(two, prune="2x", augment="flip", epochs=1, output=tmp_path / "small.onnx")


def test_whole_channels_leave_smaller_shapes_in_the_file(model, data, tmp_path):
    result = compress(
        model, prune="2x", structure="channel", round_to=4, data=data, epochs=2, output=tmp_path / "small.onnx"
    )
    weights, parity = result.report["weights"], result.report["parity"]
    assert [row["new_shape"] for row in weights["tensors"]] == [[4, 1, 3, 3], [4, 64]]
    assert (weights["nonzero"], weights["dead"]) == (292, 0)
    assert parity["max_abs_error"] <= parity["tolerance"]
    values = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(result.path).graph.initializer]
    assert not any(8 in value.shape for value in values)


def test_a_recipe_gives_a_tensor_a_target_of_its_own(model, data, tmp_path):
    (tmp_path / "recipe.toml").write_text('prune = "4x"\n[[tensor]]\nmatch = "conv_*"\nprune = false\n')
    result = compress(model, data=data, epochs=1, recipe=tmp_path / "recipe.toml", output=tmp_path / "small.onnx")
    kept = {row["name"]: nonzero_and_dead(row) for row in result.report["weights"]["tensors"]}
    assert kept == {"conv_weight": 72, "fc_weight": 146 - 72}


class Interrupt(NullProgress):
    """Presses Ctrl-C when a phase begins."""

    def __init__(self, name):
        self.name = name

    def phase(self, name, weight=None, done=0.0):  # noqa: ARG002 - Progress's signature
        if name == self.name:
            raise KeyboardInterrupt


@pytest.mark.parametrize("phase", ["load", "prune", "export and verify", "measure"])
def test_an_interrupt_leaves_no_half_written_file(model, data, tmp_path, phase):
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        compress(model, prune="4x", data=data, epochs=2, output=tmp_path / "small.onnx", progress=Interrupt(phase))
    made = set(tmp_path.iterdir()) - before
    assert made <= {tmp_path / "small.onnx", tmp_path / "small.checkpoint.safetensors"}
    for path in made & {tmp_path / "small.onnx"}:
        onnx.checker.check_model(onnx.load(path))


def test_what_an_earlier_phase_reached_is_rescued_when_a_later_one_overflows(model, data, tmp_path, monkeypatch):
    def overflow(*_):
        raise TrainingError("overflow", hint="lower it")

    monkeypatch.setattr("toolchain.lowering.choose_kernels", overflow)
    with pytest.raises(TrainingError, match="overflow") as caught:
        compress(model, prune="2x", quant="4bit", data=data, epochs=2, output=tmp_path / "small.onnx")
    assert "small.last-good.onnx" in caught.value.hint
    onnx.checker.check_model(onnx.load(tmp_path / "small.last-good.onnx"))
    assert not (tmp_path / "small.onnx").exists()


class TestBadInput:
    """Every error names what is wrong, and leaves no file."""

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path, model, data):  # noqa: ARG002 - they exist before the call
        before = set(tmp_path.rglob("*"))
        self.ignored: set[Path] = set()
        yield
        assert set(tmp_path.rglob("*")) - before <= self.ignored

    def test_nothing_to_prune(self, tmp_path):
        path = tmp_path / "relu.onnx"
        text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
        onnx.save(onnx.parser.parse_model(text), path)
        self.ignored.add(path)
        with pytest.raises(RecipeError, match="nothing to prune"):
            compress(path, prune="2x")

    def test_an_unreachable_ratio_says_the_largest(self, model):
        with pytest.raises(RecipeError, match="each of the 2 tensors keeps at least one") as caught:
            compress(model, prune="400x")
        assert "292.00x" in caught.value.hint

    def test_data_of_the_wrong_shape(self, model, tmp_path):
        path = tmp_path / "wrong.npz"
        np.savez(path, x_train=np.zeros((9, 3, 7, 7), np.float32))
        self.ignored.add(path)
        with pytest.raises(DataError, match="image"):
            compress(model, prune="2x", data=str(path))

    def test_labels_out_of_range(self, model, tmp_path):
        path = tmp_path / "labels.npz"
        np.savez(path, x_train=np.zeros((9, 1, 8, 8), np.float32), y_train=np.arange(9))
        self.ignored.add(path)
        with pytest.raises(DataError, match="label"):
            compress(model, prune="2x", data=str(path))

    def test_an_output_folder_that_does_not_exist_is_said_before_the_work(self, model, tmp_path):
        with pytest.raises(ExportError, match="does not exist"):
            compress(model, prune="2x", output=tmp_path / "no" / "small.onnx")

    def test_the_output_is_never_the_input(self, model):
        with pytest.raises(ExportError, match="is the input itself"):
            compress(model, prune="2x", output=model)

    def test_a_model_without_float_outputs_cannot_be_trained(self, tmp_path):
        path = tmp_path / "classes.onnx"
        text = TWO_WAY.replace("float[N, 5] sum, float[N, 3, 4] words", "int64[N, 5] best").replace(
            "sum = MatMul(left, w)", "s = MatMul(left, w) best = ArgMax<axis = 1>(s)"
        )
        write(text, path)
        self.ignored.add(path)
        with pytest.raises(ModelError, match="best is a float tensor"):
            compress(path, prune="2x")

    def test_values_that_overflow_in_training(self, tmp_path):
        model, data = write(TWO_WAY, tmp_path / "two.onnx"), tmp_path / "d.npz"
        np.savez(data, left=np.ones((80, 6), np.float32), ids=np.zeros((80, 3), np.int64))
        self.ignored |= {model, data}
        with pytest.raises(TrainingError, match=r"phase 'prune' at step \d+") as caught:
            compress(model, prune="2x", data=str(data), preprocessing=Preprocessing(scale=1e30), epochs=3)
        assert "--scale" in caught.value.hint


NESTED = """
<ir_version: 10, opset_import: ["" : 18, "lab" : 1]>
g (float[N, 16] x) => (float[N, 8] y) {
  zero = Constant<value = float {0.0}>()
  sum = ReduceSum<keepdims = 0>(x)
  up = Greater(sum, zero)
  a = lab.Dense(x, w0)
  h = If (up) <
    then_branch = p () => (float[N, 32] o) { m1 = MatMul(a, w1) o = Relu(m1) },
    else_branch = q () => (float[N, 32] o) { m2 = MatMul(a, w2) o = Neg(m2) }
  >
  n = Constant<value = int64 {2}>()
  go = Constant<value = bool {1}>()
  k = Loop (n, go, h) <
    body = b (int64 i, bool on, float[N, 32] s) => (bool still, float[N, 32] t) {
      still = Identity(on) m3 = MatMul(s, w3) t = Tanh(m3)
    }
  >
  y = MatMul(k, w4)
}
<domain: "lab", opset_import: ["" : 18]>
Dense (data, weight) => (out) { product = MatMul(data, weight) out = Relu(product) }
"""


def test_weights_in_functions_branches_and_loops_are_compressed_like_others(tmp_path):
    proto = onnx.parser.parse_model(NESTED)
    graphs = {"outside": proto.graph}
    for node in proto.graph.node:
        graphs |= {attribute.name: attribute.g for attribute in node.attribute if attribute.HasField("g")}
    rng = np.random.default_rng(0)
    for place, name, shape in (
        ("outside", "w0", (16, 64)),
        ("then_branch", "w1", (64, 32)),
        ("else_branch", "w2", (64, 32)),
        ("body", "w3", (32, 32)),
        ("outside", "w4", (32, 8)),
    ):
        weight = (rng.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32)
        graphs[place].initializer.append(onnx.numpy_helper.from_array(weight, name))
    onnx.save(proto, tmp_path / "nested.onnx")
    np.savez(tmp_path / "data.npz", x=rng.standard_normal((64, 16)).astype(np.float32))
    result = compress(tmp_path / "nested.onnx", prune="2x", quant="8bit", data=tmp_path / "data.npz", epochs=0)
    kept = {row["name"]: nonzero_and_dead(row) for row in result.report["weights"]["tensors"]}
    assert set(kept) == {"w0", "w1", "w2", "w3", "w4"}
    assert sum(kept.values()) == 3200
    assert result.report["parity"]["max_abs_error"] <= result.report["parity"]["tolerance"]
