import ast
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper, save

from toolchain.bench import probe

SOURCE = Path(probe.__file__)


def silent(_what, _done):
    pass


def job(paths, feeds, **options):
    cases = options.pop("cases", [probe.Case(feeds, ["x"], batch=2, threads=1)])
    models = [probe.Model(Path(path).stem, str(path)) for path in paths]
    return probe.Job(models, cases, **{"seconds": 0.1, **options})


def test_models_are_timed_in_rounds_of_turns_of_all_models(models, feeds, tmp_path):
    result = probe.run(job(models, feeds), tmp_path, silent)

    (case,) = result["cases"]
    assert (case["error"], case["timed"], case["threads"]) == (None, [0, 1], 1)
    assert len(case["rounds_ms"]) == len(case["loads_ms"]) >= 1
    assert all(len(turn) == 2 and min(turn) > 0 for turns in case["rounds_ms"] for turn in turns)
    assert [model["error"] for model in case["models"]] == [None, None]
    assert result["environment"]["cpu"]
    json.dumps(result, allow_nan=False)


def test_the_file_runs_as_a_script_and_leaves_result_and_outputs(models, feeds, tmp_path):
    wanted = job(models, feeds, measure=["latency", "layers", "outputs"])
    (tmp_path / "job.json").write_text(json.dumps(asdict(wanted)))
    alone = tmp_path / "copied.py"
    alone.write_bytes(SOURCE.read_bytes())

    done = subprocess.run(
        [sys.executable, "-I", alone, "job.json", "result"], cwd=tmp_path, check=True, capture_output=True, text=True
    )

    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [item["done"] for item in said] == sorted(item["done"] for item in said)
    assert said[-1]["done"] == 1.0
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    first, second = result["cases"][0]["models"]
    assert [layer["op"] for layer in first["layers"]] == ["FusedGemm", "Gemm"]
    with np.load(tmp_path / "result" / "outputs.npz") as arrays:
        for model in (first, second):
            (output,) = model["outputs"]
            assert output["name"] == "logits"
            assert arrays[f"arr_{output['array']}"].shape == (2, 4)
        assert not np.array_equal(arrays["arr_0"], arrays["arr_1"])


def test_a_job_survives_json(models, feeds):
    wanted = job(models, feeds, optimization="basic", measure=["latency", "outputs"])

    assert probe.Job.of(json.loads(json.dumps(asdict(wanted)))) == wanted


def test_a_model_that_does_not_load_leaves_the_figures_of_the_others(models, unknown_operator, feeds, tmp_path):
    (case,) = probe.run(job([models[0], unknown_operator, models[1]], feeds), tmp_path, silent)["cases"]

    assert case["timed"] == [0, 2]
    error = case["models"][1]["error"]
    assert error["stage"] == "load"
    assert "Frobnicate" in error["message"]
    assert case["models"][1]["memory"] is None


def test_a_model_whose_process_is_killed_leaves_the_figures_of_the_others(models, feeds, tmp_path, monkeypatch):
    doomed = tmp_path / "doomed.onnx"
    doomed.write_bytes(models[0].read_bytes())
    killer = tmp_path / "killer.py"
    killer.write_text(
        "import json, os, runpy, sys\n"
        "request = json.load(open(sys.argv[2] + '/request.json'))\n"
        "if request['paths'][0].endswith('doomed.onnx'):\n"
        "    os.kill(os.getpid(), 9)\n"
        f"runpy.run_path({str(SOURCE)!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(probe, "__file__", str(killer))

    (case,) = probe.run(job([models[0], doomed, models[1]], feeds), tmp_path, silent)["cases"]

    assert case["timed"] == [0, 2]
    assert "SIGKILL" in case["models"][1]["error"]["message"]
    assert "out of memory" in case["models"][1]["error"]["message"]


def test_a_run_that_needs_more_memory_than_there_is_says_so(make_model, feeds, tmp_path):
    greedy = make_model("""
        <ir_version: 8, opset_import: ["" : 13]>
        agraph (float[N,6] x) => (float[M] y) <int64[1] size = {900000000000}>
        {
            same = Identity(size)
            zeros = ConstantOfShape(same)
            total = ReduceSum<keepdims=0>(x)
            y = Add(zeros, total)
        }
    """)

    (case,) = probe.run(job([greedy], feeds), tmp_path, silent)["cases"]

    assert case["models"][0]["error"]["stage"] == "run"
    assert "Failed to allocate memory" in case["models"][0]["error"]["message"]


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ({"provider": "NoSuchExecutionProvider"}, "does not offer NoSuchExecutionProvider, it offers "),
        ({"transfers": "out"}, "no transfers to leave out"),
    ],
)
def test_a_case_that_cannot_be_measured_here_says_why(models, feeds, tmp_path, case, why):
    cases = [probe.Case(feeds, ["x"], **case)]

    (found,) = probe.run(job(models, feeds, cases=cases), tmp_path, silent)["cases"]

    assert why in found["error"]
    assert found["timed"] == []


def test_memory_is_that_of_the_model_and_not_of_the_runtime(tmp_path, feeds, models):
    megabytes = 24
    weight = np.zeros((6, megabytes * 2**20 // 24), np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ports = [helper.make_tensor_value_info(name, 1, ["N", size]) for name, size in (("x", 6), ("y", weight.shape[1]))]
    graph = helper.make_graph([node], "big", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "big.onnx")

    (case,) = probe.run(job([models[0], tmp_path / "big.onnx"], feeds, measure=[]), tmp_path, silent)["cases"]

    small, big = (model["memory"] for model in case["models"])
    assert small["peak_bytes"] < megabytes * 2**20 <= big["load_bytes"] <= big["peak_bytes"]
    assert small["runtime_bytes"] > 10 * 2**20


class Clock:
    """Time that passes only while a model runs."""

    def __init__(self):
        self.now = 0.0
        self.ran = []

    def perf_counter(self):
        return self.now

    def runner(self, name, seconds):
        def run_once():
            self.ran.append(name)
            self.now += seconds(len(self.ran)) if callable(seconds) else seconds

        return run_once


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(probe.time, "perf_counter", found.perf_counter)
    return found


def test_in_turns_every_model_is_preceded_by_each_as_often(clock, monkeypatch):
    monkeypatch.setattr(probe, "_warm_up", lambda *_arguments: None)
    names = "abc"
    runners = [clock.runner(name, 0.001) for name in names]

    turns = probe._interleave(runners, 9.0, 100_000, probe.random.Random(0), lambda _done: None)

    pairs = list(zip(clock.ran, clock.ran[1:], strict=False))
    counts = [pairs.count((first, second)) for first in names for second in names if first != second]
    assert len(turns) == len(clock.ran) / 3 == 3000
    assert max(counts) < 1.1 * min(counts)
    assert np.allclose(turns, 1.0)


def test_times_belong_to_the_model_that_took_them(clock):
    runners = [clock.runner("slow", 0.004), clock.runner("fast", 0.001)]

    turns = probe._interleave(runners, 1.0, 50, probe.random.Random(0), lambda _done: None)

    assert np.allclose(turns, [4.0, 1.0])
    assert len(turns) == 50


def test_a_slow_model_is_run_a_few_times_however_short_the_time(clock):
    assert len(probe._interleave([clock.runner("slow", 10.0)], 1.0, 4000, probe.random.Random(0), lambda _: None)) == 4


@pytest.mark.parametrize(
    ("load_ms", "turn_ms", "rounds"),
    [(10, 1, 8), (500, 1, 3), (10, 300, 3), (10, 5000, 2), (9000, 1, 2)],
    ids=["fast", "slow to load", "slow to run", "very slow to run", "very slow to load"],
)
def test_rounds_are_as_many_as_the_time_allows(load_ms, turn_ms, rounds):
    assert probe._affordable_rounds(6000.0, load_ms, turn_ms) == rounds


def test_warm_up_goes_on_until_runs_become_no_faster(clock):
    probe._warm_up([clock.runner("a", lambda run: 1.0 if run > 20 else 2.0 - run / 20)], 1e9, 4000)

    assert 20 < len(clock.ran) <= 20 + probe.STABLE_TURNS + 1


def test_warm_up_ends_with_its_time(clock):
    probe._warm_up([clock.runner("a", lambda run: 1.0 / run)], 3.0, 4000)

    assert clock.now < 4.0


def test_without_transfers_inputs_and_outputs_stay_on_the_device(models, feeds, monkeypatch):
    monkeypatch.setitem(probe.DEVICE_MEMORY, probe.CPU, "cpu")  # the one device that is always there
    case = probe.Case(feeds, ["x"], threads=1, transfers="out")
    session = probe.open_session(str(models[0]), case)
    bindings = []
    bind = session.io_binding
    monkeypatch.setattr(session, "io_binding", lambda: bindings.append(bind()) or bindings[0])

    run_once = probe.runner(session, probe.read_feeds(case), case)

    assert run_once() is None
    (found,) = bindings[0].get_outputs()
    assert found.device_name() == "cpu"
    assert np.array_equal(found.numpy(), session.run(None, probe.read_feeds(case))[0])


def event(name, ts, dur, op="Conv", provider=probe.CPU):
    if name == "model_run":
        return {"cat": "Session", "name": name, "ts": ts, "dur": dur}
    arguments = {"op_name": op, "provider": provider}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": arguments}


def test_the_time_of_a_node_is_its_median_without_the_first_run():
    events = [event("conv", 0, 900), event("model_run", 0, 1000)]
    for number, spent in enumerate((10, 12, 500), 1):
        events += [event("conv", 1000 * number + 1, spent), event("model_run", 1000 * number, 900)]

    assert probe.node_times(events) == [{"name": "conv", "op": "Conv", "provider": probe.CPU, "ms": 0.012}]


def test_a_loop_is_not_charged_for_the_nodes_inside_it():
    events = [event("model_run", 0, 10), event("model_run", 100, 100)]
    events += [event("body", 110, 20, "Add"), event("body", 140, 30, "Add"), event("loop", 105, 80, "Loop")]

    times = {node["name"]: node["ms"] for node in probe.node_times(events)}

    assert times == {"loop": 0.03, "body": 0.05}


def test_how_a_process_ended_is_said_in_words():
    assert probe.death(3) == "the process that ran it ended with code 3"
    assert probe.death(-11) == "the process that ran it was ended by SIGSEGV"
    assert "SIGKILL, most likely because the machine ran out of memory" in probe.death(-9)


def test_the_script_is_understood_by_python_3_8_and_needs_only_numpy_and_onnxruntime():
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 8))

    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert names - sys.stdlib_module_names == {"numpy", "onnxruntime"}


def test_no_module_beside_the_script_hides_one_of_the_standard_library():
    beside = {path.stem for path in SOURCE.parent.iterdir()}

    assert not beside & {*sys.stdlib_module_names, "numpy", "onnxruntime"}
