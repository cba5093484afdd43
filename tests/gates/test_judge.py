import math

import pytest

from toolchain.gates.judge import judge
from toolchain.gates.limits import LIMITS, Gates


def only(report, **asked):
    """The outcome of the one gate that is asked, on the first device where none is named."""
    device = asked.pop("device", "this machine" if set(asked) & {"min_speedup", "max_latency", "max_memory"} else None)
    if device == "this machine":
        del report["latency"][1:]
    (outcome,) = judge(report, Gates(**asked, device=device))
    return outcome


def test_every_limit_can_be_judged(report):
    outcomes = judge(report, Gates(**dict.fromkeys(LIMITS, 1.0), device="this machine"))
    assert {outcome.gate for outcome in outcomes} == set(LIMITS)


def test_nothing_asked_is_nothing_judged(report):
    assert judge(report, Gates(device="pi")) == []


def test_a_size_at_its_threshold_passes_and_one_byte_more_does_not(report):
    assert only(report, max_size=2e6).passed
    report["size"]["compressed_bytes"] += 1
    found = only(report, max_size=2e6)
    assert not found.passed
    assert found.measured == 2_000_001


def test_the_ratio_is_that_of_the_files(report):
    assert only(report, min_ratio=2.0).passed
    assert not only(report, min_ratio=2.01).passed


def test_a_drop_is_judged_by_its_figure_with_the_interval_beside_it(report):
    found = only(report, max_drop=0.5)
    assert found.passed, "0.99 - 0.985 is half a point, whatever its last digit in binary"
    assert found.interval == (0.1, 0.9)
    assert found.about == "top-1 accuracy on 2,000 samples"
    assert not only(report, max_drop=0.49).passed


def test_a_gain_can_be_asked_for(report):
    report["quality"]["drop"] = -0.02
    assert only(report, max_drop=-1.5).passed
    assert not only(report, max_drop=-2.5).passed


def test_without_labels_the_drop_is_one_of_agreement_and_accuracy_is_not_measured(report):
    report["quality"] |= {
        "metric": "agreement with the original",
        "compressed": 0.98,
        "drop": 0.02,
        "data": "unlabelled",
    }
    del report["quality"]["drop_ci95"]
    found = only(report, max_drop=2)
    assert (found.passed, found.about) == (True, "agreement with the original on 2,000 samples")
    found = only(report, min_accuracy=50)
    assert (found.passed, found.measured) == (False, None)
    assert "labelled data" in found.why


def test_synthesised_inputs_measure_neither_drop_nor_accuracy(report):
    report["quality"] |= {"metric": "agreement with the original", "drop": 0.0, "data": "synthetic"}
    for asked in ({"max_drop": 50.0}, {"min_accuracy": 1.0}):
        found = only(report, **asked)
        assert (found.passed, found.measured) == (False, None)


def test_without_class_scores_there_is_no_drop(report):
    report["quality"] |= {"metric": "cosine similarity to the original", "drop": 0.0, "data": "unlabelled"}
    assert "class scores" in only(report, max_drop=50).why


def test_accuracy_is_judged_in_percent(report):
    assert only(report, min_accuracy=98.5).passed
    assert not only(report, min_accuracy=98.6).passed


def test_a_speedup_passes_only_where_the_lower_end_of_its_interval_does(report):
    found = only(report, min_speedup=2.0)
    assert (found.passed, found.measured, found.interval) == (False, 2.04, (1.98, 2.1))
    assert only(report, min_speedup=1.98).passed


def test_a_latency_passes_only_where_the_upper_end_of_its_interval_does(report):
    found = only(report, max_latency=5.0)
    assert (found.passed, found.measured, found.interval) == (False, 4.9, (4.8, 5.1))
    assert only(report, max_latency=5.1).passed


def test_memory_is_judged_where_it_was_measured(report):
    assert only(report, max_memory=1e7, device="Some CPU").passed
    assert not only(report, max_memory=9e6, device="Some CPU").passed
    found = only(report, max_memory=1e9, device="pi")
    assert not found.passed
    assert "compress bench" in found.why


def test_without_a_device_every_row_has_to_pass_and_one_that_failed_does_not(report):
    outcomes = judge(report, Gates(min_speedup=1.5))
    assert [outcome.passed for outcome in outcomes] == [True, True, False]
    assert outcomes[1].about == "pi@kitchen, CPU, 4 threads, batch 1"
    assert outcomes[2].why == "no driver"


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("PI@kitchen", ["Cortex-A72"]),
        ("kitchen", ["Cortex-A72"]),
        ("cuda", ["Some GPU"]),
        ("CUDAExecutionProvider", ["Some GPU"]),
        ("some", ["Some CPU @ 2.00GHz", "Some GPU"]),
        ("this machine", ["Some CPU @ 2.00GHz", "Some GPU"]),
        ("CPU", ["Some CPU @ 2.00GHz", "Cortex-A72"]),  # the provider's whole name comes before a part of a device's
    ],
)
def test_a_device_is_named_by_host_device_or_provider(report, name, devices):
    for row in report["latency"]:
        row["error"] = row["device"]
    assert [outcome.why for outcome in judge(report, Gates(max_latency=1e6, device=name))] == devices


def test_a_device_that_is_not_there_fails_and_the_others_are_named(report):
    found = only(report, max_latency=1e6, device="jetson")
    assert not found.passed
    assert "no device 'jetson'" in found.why
    assert "pi@kitchen (Cortex-A72, CPU)" in found.why


def test_a_report_without_latency_fails_gates_of_time(report):
    report["latency"] = []
    assert "no latency" in only(report, min_speedup=0.1).why


def test_a_noisy_device_is_said_to_be_one(report):
    report["latency"][0]["noisy"] = True
    assert "too noisy" in only(report, max_latency=6.0).why
    report["latency"][0]["noise"] = "the interval is 30% wide"
    assert only(report, max_latency=6.0).why == "the interval is 30% wide"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("speedup", None),
        ("speedup", math.nan),
        ("speedup", True),
        ("speedup", "9"),
        ("speedup", -9),
        ("speedup_ci95", None),
        ("speedup_ci95", [9]),
        ("speedup_ci95", ["9", "9"]),
        ("speedup_ci95", [math.nan, 9]),
        ("speedup_ci95", [9, 8]),
    ],
)
def test_a_figure_that_is_none_never_passes(report, key, value):
    report["latency"][0][key] = value
    found = only(report, min_speedup=0.01)
    assert (found.passed, found.measured) == (False, None)
    assert found.why


def test_a_latency_without_its_interval_does_not_pass(report):
    del report["latency"][0]["compressed"]["p50_ci95_ms"]
    assert "no confidence interval" in only(report, max_latency=1e6).why
