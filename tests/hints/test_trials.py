from dataclasses import replace

import numpy as np
import pytest

from toolchain.errors import RecipeError
from toolchain.hints import alternatives, trials, try_alternatives
from toolchain.measure.verdict import is_faster
from toolchain.pipeline import compress
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan

CPU = "CPUExecutionProvider"


def row(speedup, low, high, **others):
    return {
        "provider": CPU,
        "original": {"p50_ms": 1.0},
        "speedup": speedup,
        "speedup_ci95": [low, high],
        **others,
    }


NOT_FASTER = row(1.0, 0.98, 1.02)


def attempt(original, *latency, **asked):
    plan = make_plan(original.graph, read_request(Request(**(asked or {"prune": "2x"}))))
    sample = original.few.batch(np.arange(original.graph.batch_size or 1))
    return try_alternatives(original, plan, sample, latency)


def test_every_alternative_is_measured_against_the_original(wide):
    found = {trial["options"]: trial for trial in attempt(wide, NOT_FASTER, prune="4x")}

    assert list(found) == ["--prune 4x --structure groups", "--prune 4x --structure channel", "--quant 8bit"]
    for trial in found.values():
        low, high = trial["speedup_ci95"]
        assert low <= trial["speedup"] <= high
        assert trial["speedup"] == pytest.approx(trial["original_ms"] / trial["compressed_ms"])
    # A sixteenth of the products in one layer and a quarter in others: were it not faster, it would not be measured.
    assert found["--prune 4x --structure channel"]["speedup"] > 1.3


@pytest.mark.parametrize(
    "latency",
    [
        (),
        (row(2.0, 1.9, 2.1),),
        (row(1.0, 0.9, 1.1, original={"p50_ms": 0.01}),),
        ({"provider": CPU, "error": "died"},),
        (row(1.0, 0.9, 1.1, provider="CUDAExecutionProvider"),),
    ],
    ids=["not measured", "faster", "mostly overhead", "failed", "another provider"],
)
def test_nothing_is_tried_where_there_is_nothing_to_explain(narrow, latency):
    assert attempt(narrow, *latency) == []


def test_what_does_not_fit_is_told_and_the_rest_is_measured(narrow):
    found = {trial["options"]: trial for trial in attempt(narrow, NOT_FASTER)}

    assert found["--prune 2x --structure groups"]["error"].startswith("does not fit: ")
    assert found["--quant 8bit"]["speedup"] > 0


def test_a_huge_model_is_left_alone_and_that_is_said(narrow, monkeypatch):
    monkeypatch.setattr(trials, "MOST_WEIGHTS", 31)

    assert {trial["error"] for trial in attempt(narrow, NOT_FASTER)} == {"not tried: 32 weights take too long"}


def test_a_model_that_takes_long_to_run_is_left_alone_and_that_is_said(narrow):
    latency = row(1.0, 0.98, 1.02, original={"p50_ms": 2500.0})

    assert {trial["error"] for trial in attempt(narrow, latency)} == {"not tried: runs of 2.50 s take too long"}


def test_building_ends_when_it_has_taken_long_enough(narrow, monkeypatch):
    monkeypatch.setattr(trials, "BUILDING_S", -1.0)

    assert all("not tried: the others took" in trial["error"] for trial in attempt(narrow, NOT_FASTER))


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), RecipeError("odd")])
def test_an_alternative_that_breaks_is_told_and_costs_nothing_else(narrow, monkeypatch, error):
    def broken(_original):
        raise error

    monkeypatch.setattr(alternatives, "_in_8_bits", broken)
    found = {trial["options"]: trial for trial in attempt(narrow, NOT_FASTER)}

    assert found["--quant 8bit"] == {"options": "--quant 8bit", "error": f"could not be made: {error}"}


def test_a_file_that_cannot_be_timed_is_told(narrow, tmp_path):
    found = attempt(replace(narrow, path=tmp_path / "gone.onnx"), NOT_FASTER)

    assert all("could not be measured" in trial["error"] for trial in found if trial["options"] == "--quant 8bit")


@pytest.mark.parametrize("wide", ["N"], indirect=True)
def test_a_run_that_gains_nothing_reports_what_was_tried(wide, tmp_path):
    result = compress(wide.path, prune="2x", epochs=0, output=tmp_path / "small.onnx")

    (latency,) = [row for row in result.report["latency"] if row["provider"] == CPU]
    tried = [trial["options"] for trial in result.report["trials"]]
    hints = " ".join(finding["hint"] for finding in result.report["verdict"])
    expected = ["--prune 2x --structure groups", "--prune 2x --structure channel", "--quant 8bit"]
    assert tried == ([] if is_faster(latency) else expected)
    assert all(options in hints for options in tried)
