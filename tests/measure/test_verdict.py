import pytest

from toolchain.measure.verdict import real_accuracy_missing, verdict_section


def claims(report):
    return [finding["claim"] for finding in verdict_section(report)]


def finding(report, start):
    return next(found for found in verdict_section(report) if found["claim"].startswith(start))


def with_speedup(report, speedup, low, high):
    report["latency"][0] |= {"speedup": speedup, "speedup_ci95": [low, high]}
    return report


def test_a_smaller_file_is_said_with_its_bytes(report):
    report["size"] |= {"original_bytes": 1_700_000, "compressed_bytes": 20_000, "ratio": 85.0}

    found = finding(report, "the file is 85.0x smaller")

    assert found["claim"].endswith("1.70 MB to 20.0 KB")
    assert "40 of 160 weights" in found["why"]


def test_a_file_that_grew_is_said_too(report):
    report["size"] |= {"original_bytes": 100, "compressed_bytes": 120, "ratio": 100 / 120}

    assert "the file is not smaller: 100 B to 120 B" in claims(report)


def test_an_interval_around_one_is_no_measurable_difference(report):
    found = finding(with_speedup(report, 1.01, 0.98, 1.05), "not faster on CPU: no measurable difference")

    assert "no kernel profits from unstructured zeros" in found["why"]
    assert "--structure groups" in found["hint"]


def test_a_certain_speedup_names_the_kernels(report):
    found = finding(with_speedup(report, 2.5, 2.4, 2.6), "2.50x faster on CPU")

    assert "2 float" in found["why"]
    assert "0.98" not in found["why"]


def test_a_certain_but_tiny_difference_is_not_called_faster(report):
    assert "not faster on CPU: the difference is 1.0 %" in claims(with_speedup(report, 1.01, 1.005, 1.015))


def test_a_slowdown_is_called_one(report):
    assert "slower on CPU: it takes 2.00x the time" in claims(with_speedup(report, 0.5, 0.45, 0.55))


def test_integer_kernels_that_gain_nothing_get_another_reason(report):
    for tensor in report["weights"]["tensors"]:
        tensor["kernel"] = "int8"

    found = finding(with_speedup(report, 1.0, 0.9, 1.1), "not faster")

    assert "low-bit kernels" in found["why"]


def test_dense_float_weights_get_another_reason(report):
    for tensor in report["weights"]["tensors"]:
        tensor["structure"] = "dense"

    assert "8 bits run faster" in finding(with_speedup(report, 1.0, 0.9, 1.1), "not faster")["hint"]


def test_a_provider_that_failed_is_named_with_its_error(report):
    report["latency"].append({"provider": "CUDAExecutionProvider", "error": "no driver"})

    assert finding(report, "latency on CUDA was not measured")["why"] == "no driver"


@pytest.mark.parametrize(
    ("drop", "interval", "start"),
    [
        (0.021, [0.015, 0.027], "accuracy fell by 2.10 points"),
        (0.001, [-0.002, 0.004], "no measurable change of accuracy"),
        (-0.01, [-0.015, -0.005], "accuracy rose by 1.00 points"),
    ],
)
def test_accuracy_is_judged_by_its_interval(report, drop, interval, start):
    report["quality"] |= {"drop": drop, "drop_ci95": interval}

    assert finding(report, start)
    assert not real_accuracy_missing(report)


def test_a_fall_of_accuracy_says_what_helps(report):
    report["quality"] |= {"drop": 0.021, "drop_ci95": [0.015, 0.027]}

    assert "more epochs" in finding(report, "accuracy fell")["hint"]


@pytest.mark.parametrize(("kind", "why"), [("synthetic", "no data were given"), ("unlabelled", "no labels")])
def test_without_labels_the_first_finding_is_that_accuracy_was_not_measured(report, kind, why):
    report["quality"] |= {"data": kind, "metric": "agreement with the original", "compressed": 0.93, "drop": 0.07}

    first = verdict_section(report)[0]

    assert first["claim"] == "accuracy on real data was not measured"
    assert why in first["why"]
    assert any("93.00 %" in claim for claim in claims(report))


def test_a_slow_load_is_explained_by_decoding(report):
    report["latency"][0]["load_ms"] = {"original": 10.0, "compressed": 50.0}
    report["weights"]["tensors"][0]["encoding"] = "packed"

    found = finding(report, "loading on CPU takes 40.0 ms longer")

    assert "1 weight tensors are decoded at load" in found["why"]


def test_a_faster_load_is_said_and_a_small_change_is_not(report):
    report["latency"][0]["load_ms"] = {"original": 50.0, "compressed": 10.0}
    assert "loading on CPU takes 40.0 ms less" in claims(report)

    report["latency"][0]["load_ms"] = {"original": 10.0, "compressed": 11.0}
    assert not any("loading" in claim for claim in claims(report))


def test_gzip_is_mentioned_where_it_gains(report):
    report["size"] |= {"compressed_bytes": 1000, "gzip_compressed_bytes": 500}
    assert any(claim.startswith("gzip makes") for claim in claims(report))

    report["size"]["gzip_compressed_bytes"] = 990
    assert not any("gzip" in claim for claim in claims(report))
