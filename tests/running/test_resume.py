"""Runs that are killed, and what must be the same for them to go on."""

import multiprocessing
import random
import time
from functools import partial

import onnx
import onnx.parser
import pytest
import torch
from killing import compress_often_kept
from pipeline_cases import write, write_data
from safetensors.torch import save_file

from calibration.data import Preprocessing
from toolchain import checkpoint as checkpoints
from toolchain import compress, pipeline
from toolchain.errors import CheckpointError
from toolchain.progress import NullProgress

CONVOLUTIONAL = """
<ir_version: 8, opset_import: ["" : 17]>
digits (float[N, 1, 16, 16] image) => (float[N, 4] logits)
  <float[6, 1, 3, 3] conv_weight, float[6] conv_bias, float[6] bn_scale, float[6] bn_bias, float[6] bn_mean,
   float[6] bn_var, float[4, 96] fc_weight, float[4] fc_bias> {
  c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(image, conv_weight, conv_bias)
  n = BatchNormalization(c, bn_scale, bn_bias, bn_mean, bn_var)
  r = Relu(n)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
  f = Flatten(p)
  logits = Gemm<transB = 1>(f, fc_weight, fc_bias)
}
"""


@pytest.fixture
def model(tmp_path):
    return write(CONVOLUTIONAL, tmp_path / "model.onnx")


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.npz", side=16)


@pytest.fixture
def inputs(model, data):
    return model, data


SINGLE = 'prune = "4x"\nquant = "2bit"\n[export]\nkernel = "int8"\n[train]\nbatch_size = 32\n'
CHANNELS = 'prune = "1.5x"\nstructure = "channel2"\nquant = "8bit"\n[export]\nkernel = "int8"\n'
REWEIGHTED = 'prune = "4x"\n[prune_schedule]\nschedule = "reweighted"\n'


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.toml").write_text(SINGLE)
    return tmp_path / "recipe.toml"


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toolchain.pipeline", "torch._dynamo"])  # what takes seconds to import
    first = context.Process(target=int)
    first.start()  # waits until everything is imported
    first.join()
    return context


def begin(processes, *arguments):
    process = processes.Process(target=compress_often_kept, args=arguments)
    process.start()
    return process


def finish(process):
    process.join()
    assert process.exitcode == 0


class TestKilled:
    """A run that is killed at any moment, however often, ends with the bytes of one that is not."""

    @pytest.mark.parametrize(
        ("text", "seed"),
        [(SINGLE, 0), (SINGLE, 1), (CHANNELS, 2), (REWEIGHTED, 3)],
        ids=["once", "again", "channels", "reweighted"],
    )
    def test_the_file_is_the_same_byte_for_byte(self, processes, inputs, tmp_path, text, seed):
        (model, data), recipe = inputs, tmp_path / "recipe.toml"
        recipe.write_text(text)
        options = {"data": data, "recipe": recipe, "epochs": 12, "seed": seed}
        whole, output = tmp_path / "whole.onnx", tmp_path / "killed.onnx"
        checkpoint = tmp_path / "killed.checkpoint.safetensors"
        started = time.monotonic()
        finish(begin(processes, model, whole, options))
        took, rng, found = time.monotonic() - started, random.Random(seed), []
        while len(found) < 3 and (checkpoint.exists() or not output.exists()):
            process = begin(processes, model, output, options | {"resume": True})
            process.join(took * rng.uniform(0.1, 0.7))
            process.kill()
            process.join()
            found.append(checkpoint.exists())
        if checkpoint.exists():
            finish(begin(processes, model, output, options | {"resume": True}))
        assert any(found)
        assert output.read_bytes() == whole.read_bytes()
        assert not checkpoint.exists()


class Stop(NullProgress):
    """Presses Ctrl-C when a phase begins or at a step of it, and remembers what it is told."""

    def __init__(self, name="", step=0):
        self.name, self.step = name, step
        self.phases, self.notes = [], []

    def phase(self, name, weight=None, done=0.0):  # noqa: ARG002 - Progress's signature
        self.phases.append((name, done))
        self.left = self.step if name == self.name else -1
        if self.left == 0:
            raise KeyboardInterrupt

    def update(self, done, figures):  # noqa: ARG002 - Progress's signature
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def short(monkeypatch):
    """Every step offers a state, and latency is measured only briefly."""
    monkeypatch.setattr(checkpoints, "INTERVAL_S", 0.0)
    monkeypatch.setattr(checkpoints, "COST", 1e9)
    monkeypatch.setattr(pipeline, "measure_latency", partial(pipeline.measure_latency, seconds=0.1))


@pytest.fixture
def interrupted(model, data, recipe, tmp_path, short):  # noqa: ARG001 - patches
    """Options of a run that was interrupted while it trained its survivors."""
    options = {"model": model, "data": data, "recipe": recipe, "epochs": 6, "output": tmp_path / "small.onnx"}
    with pytest.raises(KeyboardInterrupt):
        compress(**options, progress=Stop("train survivors", step=5))
    assert (tmp_path / "small.checkpoint.safetensors").exists()
    return options


class TestRefused:
    """A checkpoint of another run is never gone on from; the error names what differs."""

    def test_other_options(self, interrupted):
        with pytest.raises(
            CheckpointError, match=r"plan\.train\.epochs was 6 and is 7; plan\.train\.seed was 0 and is 3"
        ):
            compress(**interrupted | {"epochs": 7, "seed": 3}, resume=True)

    def test_another_recipe(self, interrupted):
        text = interrupted["recipe"].read_text()
        interrupted["recipe"].write_text(text.replace('"4x"', '"3x"').replace("int8", "float"))
        with pytest.raises(CheckpointError, match=r"kept was 110 and is 146; .*plan\.export\.kernel") as caught:
            compress(**interrupted, resume=True)
        assert "leave --resume out" in caught.value.hint

    def test_another_model_under_the_same_name(self, interrupted, model):
        proto = onnx.load(model)
        proto.doc_string = "changed"
        onnx.save(proto, model)
        with pytest.raises(CheckpointError, match=r"of another run: model\.model\.onnx was"):
            compress(**interrupted, resume=True)

    def test_other_data_under_the_same_name(self, interrupted):
        write_data(interrupted["data"], side=16, seed=2)
        with pytest.raises(CheckpointError, match=r"data\.training was .* data\.evaluation was"):
            compress(**interrupted, resume=True)

    def test_data_of_another_scale(self, interrupted):
        with pytest.raises(CheckpointError, match=r"data\.preprocessing\.scale was 1\.0 and is 0\.5"):
            compress(**interrupted, preprocessing=Preprocessing(scale=0.5), resume=True)

    def test_a_damaged_file(self, interrupted, tmp_path):
        path = tmp_path / "small.checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        for resume in (True, False):
            with pytest.raises(CheckpointError, match="is damaged"):
                compress(**interrupted, resume=resume)

    def test_a_file_of_somebody_else_is_never_overwritten(self, interrupted, tmp_path):
        path = tmp_path / "small.checkpoint.safetensors"
        save_file({"theirs": torch.zeros(3)}, path)
        before = path.read_bytes()
        for resume in (True, False):
            with pytest.raises(CheckpointError, match="is not a checkpoint"):
                compress(**interrupted, resume=resume)
        assert path.read_bytes() == before


def test_a_run_goes_on_where_it_was_and_the_report_says_so(interrupted, tmp_path):
    watch = Stop()
    result = compress(**interrupted, resume=True, progress=watch)
    (survivors,) = [done for name, done in watch.phases if name == "train survivors"]
    assert ("prune", 1.0) in watch.phases
    assert 0 < survivors < 1
    assert any("went on from a checkpoint" in note for note in result.report["notes"])
    phases = ["prune", "regrow", "train survivors", "quantize", "train in grid"]
    assert list(dict.fromkeys(entry["phase"] for entry in result.report["convergence"])) == phases
    assert not (tmp_path / "small.checkpoint.safetensors").exists()


def test_another_number_of_threads_is_said(interrupted, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    notes = compress(**interrupted, resume=True).report["notes"]
    assert any("threads and went on with 77: its last digits may differ" in note for note in notes)


def test_synthetic_inputs_are_the_same_when_the_run_goes_on(model, recipe, tmp_path, short, monkeypatch):  # noqa: ARG001 - patches
    monkeypatch.setattr("toolchain.running.workload.SYNTHETIC_SAMPLES", 160)
    options = {"model": model, "recipe": recipe, "epochs": 2}
    compress(**options, output=tmp_path / "whole.onnx")
    with pytest.raises(KeyboardInterrupt):
        compress(**options, output=tmp_path / "small.onnx", progress=Stop("prune", step=2))
    compress(**options, output=tmp_path / "small.onnx", resume=True)
    assert (tmp_path / "small.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()


def test_without_a_checkpoint_resume_begins_from_the_start_and_says_so(interrupted, tmp_path):
    (tmp_path / "small.checkpoint.safetensors").unlink()
    watch = Stop("export and verify")
    with pytest.raises(KeyboardInterrupt):
        compress(**interrupted, resume=True, progress=watch)
    assert "beginning from the start" in watch.notes[0]
    assert ("prune", 0.0) in watch.phases


def test_a_run_that_has_finished_is_not_resumed(interrupted, tmp_path):
    (tmp_path / "small.checkpoint.safetensors").rename(tmp_path / "small.checkpoint.safetensors.partial")
    (tmp_path / "small.onnx").write_bytes(b"a result")
    with pytest.raises(CheckpointError, match="there is nothing to resume") as caught:
        compress(**interrupted, resume=True)
    assert "leave --resume out" in caught.value.hint


def test_without_resume_a_checkpoint_is_overwritten_and_a_note_says_so(interrupted):
    watch = Stop("prune")
    with pytest.raises(KeyboardInterrupt):
        compress(**interrupted, progress=watch)
    assert "is overwritten; --resume would have gone on from it" in watch.notes[0]
    watch = Stop("train survivors")
    with pytest.raises(KeyboardInterrupt):
        compress(**interrupted, resume=True, progress=watch)
    assert ("prune", 0.0) in watch.phases
