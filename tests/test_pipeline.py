import hashlib
import json

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from pipeline_cases import BARE, CONVOLUTIONAL, NESTED, PARTLY_QUANTIZED, STREAMING, TWO_WAY, WIDE, write

from toolchain import compress
from toolchain.errors import DataError


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
    monkeypatch.setattr("toolchain.running.unfolding.FEWEST", 2)
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
    assert [(row["op"], row["reason"]) for row in report["parity"]["tensors"]] == [("Conv", ""), ("Gemm", "")]
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
    assert any(note.startswith("4-bit weights of ") and " run as " in note for note in result.report["notes"])


def test_what_is_quantized_already_stays_so_and_the_rest_is_compressed(tmp_path, data):
    model = write(PARTLY_QUANTIZED, tmp_path / "partly.onnx")
    result = compress(model, quant="4bit", data=data, epochs=1, output=tmp_path / "small.onnx")
    assert [row["name"] for row in result.report["weights"]["tensors"]] == ["fc_weight"]
    assert any(note.startswith("The model is quantized already, in 1 node") for note in result.report["notes"])
    before, after = (
        [
            onnx.numpy_helper.to_array(item).tolist()
            for item in onnx.load(path).graph.initializer
            if item.dims[1:2] == [1]
        ]
        for path in (model, result.path)
    )
    assert before[0] in after  # under a shorter name


@pytest.mark.parametrize("asked", [{"prune": "4x", "quant": "2bit"}, {"quant": "4bit"}, {"quant": "8bit"}], ids=str)
def test_a_portable_file_has_standard_operators_of_opset_18_at_most(model, data, tmp_path, asked):
    result = compress(model, data=data, epochs=1, target="portable", output=tmp_path / "small.onnx", **asked)
    proto = onnx.load(result.path)
    assert {node.domain for node in proto.graph.node} == {""}
    assert {entry.domain: entry.version <= 18 for entry in proto.opset_import} == {"": True}
    assert not proto.functions
    assert "MatMulNBits" not in {node.op_type for node in proto.graph.node}
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(result.path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": np.zeros((3, 1, 8, 8), np.float32)})
    assert logits.shape == (3, 4)
    assert np.isfinite(logits).all()


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


def test_the_report_shows_how_admm_converges(model, data, tmp_path):
    report = compress(model, prune="4x", data=data, epochs=60, output=tmp_path / "small.onnx").report
    entries = [entry for entry in report["convergence"] if entry["phase"] == "prune" and "primal" in entry]
    assert len(entries) > 1
    assert 0 < entries[-1]["primal"] < entries[0]["primal"]
    assert all(entry["dual"] >= 0 for entry in entries)
    assert entries[-1]["pull"] > entries[0]["pull"]


def test_the_report_says_how_long_every_phase_trained_and_what_the_budget_cut(model, data, tmp_path):
    report = compress(model, prune="4x", data=data, budget="1s", output=tmp_path / "small.onnx").report
    assert [row["phase"] for row in report["phases"]] == ["prune", "regrow", "train survivors"]
    assert [round(row["planned_epochs"]) for row in report["phases"]] == [15, 9, 6]
    assert any(note.startswith("Too few steps") for note in report["notes"]) == any(
        row["epochs"] < 3 for row in report["phases"]
    )
    (late,) = (note for note in report["notes"] if "budget" in note and "Too few" not in note)
    assert late.startswith(f"The budget of 1 s was too short: the job took {report['timings']['total_s']:,.0f} s")
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


def test_where_bytes_are_the_cost_weights_of_fewer_bits_are_kept_rather_and_the_file_is_smaller(tmp_path):
    source = write(WIDE, tmp_path / "m.onnx")
    recipe = 'prune = "4x"\nquant = "2bit"\n[[tensor]]\nmatch = "w1"\nquant = "8bit"\n[export]\nencoding = "packed"\n'
    (tmp_path / "recipe.toml").write_text(recipe)
    files, kept = {}, {}
    for cost in ("parameters", "bytes"):
        options = {"allocate": cost, "recipe": tmp_path / "recipe.toml", "epochs": 0}
        result = compress(source, output=tmp_path / f"{cost}.onnx", **options)
        files[cost] = result.path.stat().st_size
        kept[cost] = {row["name"]: row["nonzero"] for row in result.report["weights"]["tensors"]}
        assert nonzero_and_dead(result.report["weights"]) == 128 * 256 * 2 // 4
    assert kept["bytes"]["w2"] > 1.2 * kept["parameters"]["w2"]
    assert files["bytes"] < 0.95 * files["parameters"]


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
