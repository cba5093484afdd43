import pytest

from toolchain.measure.schema import validate_report
from toolchain.measure.verdict import is_faster, verdict_section


def claims(report):
    return [finding["claim"] for finding in verdict_section(report)]


def finding(report, start):
    return next(found for found in verdict_section(report) if found["claim"].startswith(start))


def with_speedup(report, speedup, low, high):
    row = report["latency"][0]
    row |= {"speedup": speedup, "speedup_ci95": [low, high], "noise": ""}
    row["original"]["p50_ms"], row["compressed"]["p50_ms"] = 1.0, 1.0 / speedup
    return report


def trial(options, speedup, low, high):
    figures = {"original_ms": 1.0, "compressed_ms": 1 / speedup, "speedup": speedup, "speedup_ci95": [low, high]}
    return {"options": options, **figures}


@pytest.fixture
def slow(report):
    """A report of a model that is as fast as before."""
    return with_speedup(report, 1.0, 0.99, 1.01)


def test_unstructured_zeros_without_a_gain_are_explained_with_their_ratio(slow):
    found = finding(slow, "not faster on CPU: no measurable difference")

    assert "4.00x unstructured zeros: ONNX Runtime has no kernel for them" in found["why"]
    assert found["hint"] == "", "nothing was tried, so nothing is promised"


def test_a_hint_is_what_was_tried_and_the_fastest_comes_first(slow):
    slow["trials"] = [
        trial("--prune 2x --structure channel", 1.5, 1.45, 1.55),
        trial("--prune 8x --structure groups", 3.1, 2.9, 3.3),
        trial("--quant 8bit", 0.95, 0.9, 1.0),
    ]

    hint = finding(slow, "not faster")["hint"]

    assert hint.startswith("faster here, tried without training")
    assert "--prune 8x --structure groups 3.10x (2.90 to 3.30), --prune 2x --structure channel 1.50x" in hint
    assert hint.endswith("tried, and no faster here: --quant 8bit 0.95x (0.90 to 1.00)")
    validate_report(slow)


def test_where_nothing_helps_that_is_said_with_what_could_not_be_tried(slow):
    slow["trials"] = [
        trial("--quant 8bit", 1.01, 0.99, 1.03),
        {"options": "--structure groups", "error": "does not fit: too narrow"},
    ]

    hint = finding(slow, "not faster")["hint"]

    assert hint == (
        "tried, and no faster here: --quant 8bit 1.01x (0.99 to 1.03); --structure groups does not fit: too narrow"
    )
    validate_report(slow)


def test_trials_on_this_machine_say_nothing_of_another(slow):
    slow["trials"] = [trial("--quant 8bit", 2.0, 1.9, 2.1)]
    slow["latency"][0]["host"] = "pi"

    assert finding(slow, "not faster on CPU of pi")["hint"] == ""


def test_a_certain_speedup_names_the_kernels(report):
    found = finding(with_speedup(report, 2.5, 2.4, 2.6), "2.50x faster on CPU")

    assert found["why"].endswith("kernels of the weights: 2 float")


def test_a_speedup_by_smaller_shapes_says_so(report):
    report["weights"]["tensors"][0]["new_shape"] = [8, 6]

    assert finding(with_speedup(report, 2.5, 2.4, 2.6), "2.50x")["why"].endswith("2 float; 1 of them in smaller shapes")


def test_a_certain_but_tiny_difference_is_not_called_faster(report):
    assert "not faster on CPU: the difference is 1.0 %" in claims(with_speedup(report, 1.01, 1.005, 1.015))
    assert not is_faster(report["latency"][0])


def test_a_slowdown_is_called_one(report):
    assert "slower on CPU: it takes 2.00x the time" in claims(with_speedup(report, 0.5, 0.45, 0.55))


def test_noise_is_part_of_why_nothing_can_be_told(slow):
    slow["latency"][0]["noise"] = "the interval 0.50 to 2.00 is 150% wide"

    assert "150% wide" in finding(slow, "not faster")["why"]


def test_a_run_that_is_mostly_overhead_is_called_one(slow):
    slow["latency"][0]["original"]["p50_ms"] = 0.02

    assert "the runtime's own overhead" in finding(slow, "not faster")["why"]


def test_integer_kernels_that_gain_nothing_get_another_reason(slow):
    for tensor in slow["weights"]["tensors"]:
        tensor["kernel"] = "int8"

    assert "low-bit kernels" in finding(slow, "not faster")["why"]


def test_dense_float_weights_get_another_reason(slow):
    for tensor in slow["weights"]["tensors"]:
        tensor["structure"] = "dense"

    assert finding(slow, "not faster")["why"].endswith("every weight still runs in a float kernel")


def test_a_few_zeros_of_rounding_are_no_pruning_and_kernels_that_lost_are_named(slow):
    slow["weights"]["ratio"] = 1.01
    for tensor in slow["weights"]["tensors"]:
        tensor["kernel_ms"] = {"float": 1.0, "int8": 1.0}

    why = finding(slow, "not faster")["why"]

    assert why.endswith("a float kernel, because int8 did not make the whole model faster")


def test_a_provider_that_failed_is_named_with_its_error(report):
    report["latency"].append(
        {"provider": "CUDAExecutionProvider", "device": "", "threads": 1, "batch": 1, "error": "no driver"}
    )

    assert finding(report, "latency on CUDA was not measured")["why"] == "no driver"


def test_rows_of_one_provider_are_told_apart_by_how_they_ran(report):
    report["latency"].append({**report["latency"][0], "threads": 4, "batch": 8})

    found = [claim for claim in claims(report) if "on CPU (" in claim]

    assert any("(1 thread, batch 1)" in claim for claim in found)
    assert any("(4 threads, batch 8)" in claim for claim in found)


def test_kernels_that_were_slower_are_named_by_kind_of_layer_with_the_span(report):
    first, second = report["weights"]["tensors"]
    first |= {"op": "Conv", "shape": [16, 1, 3, 3], "groups": 16, "kernel_ms": {"float": 1.0, "int8": 1.6}}
    second |= first | {"name": "second_weight", "kernel_ms": {"float": 2.0, "int8": 2.4}}

    found = finding(report, "int8 left off")

    assert found["claim"] == "int8 left off in 2 depthwise convolutions: slower by 1.20x to 1.60x"
    validate_report(report)


def test_a_kernel_as_fast_as_float_is_not_called_slower(report):
    report["weights"]["tensors"][0]["kernel_ms"] = {"float": 1.0, "int8": 1.02}
    report["weights"]["tensors"][1] |= {"kernel": "int8", "kernel_ms": {"float": 1.0, "int8": 1.5}}

    assert not any("left off" in claim for claim in claims(report))


def layer(op, before, after):
    return {"name": op, "op": op, "original_ms": before, "compressed_ms": after}


def test_time_in_operators_without_weights_is_named_most_first(report):
    report["latency"][0]["layers"] = [
        layer("FusedConv -> QLinearConv", 8.0, 2.0),
        layer("Softmax", 1.0, 1.0),
        layer("Resize", 2.0, 2.0),
        layer("QuantizeLinear", None, 0.5),
        layer("Flatten", 0.01, 0.01),
    ]

    found = finding(report, "54 % of the time on CPU is now in Resize and Softmax, which no compression")

    assert "Resize 2.00 ms (36 %), Softmax 1.00 ms (18 %), of 5.51 ms" in found["why"]
    validate_report(report)


def test_time_in_what_compression_added_is_not_called_untouched(report):
    report["latency"][0]["layers"] = [
        layer("Conv -> QLinearConv", 8.0, 2.0),
        layer("QuantizeLinear", None, 5.0),
        layer("Relu", 1.0, None),
    ]

    assert not any("which no compression" in claim for claim in claims(report))


def test_a_slow_load_is_explained_by_decoding(report):
    report["latency"][0]["load_ms"] = {"original": 10.0, "compressed": 50.0}
    report["weights"]["tensors"][0]["encoding"] = "packed"

    found = finding(report, "loading on CPU takes 40.0 ms longer")

    assert "1 weight tensor is decoded at load" in found["why"]


def test_a_faster_load_is_said_and_a_small_change_is_not(report):
    report["latency"][0]["load_ms"] = {"original": 50.0, "compressed": 10.0}
    assert "loading on CPU takes 40.0 ms less" in claims(report)

    report["latency"][0]["load_ms"] = {"original": 10.0, "compressed": 11.0}
    assert not any("loading" in claim for claim in claims(report))
