from toolchain.measure.summary import summary_rows


def row(report, label):
    return next(found for found in summary_rows(report) if found.label.startswith(label))


def test_every_figure_has_a_row_before_and_after(report):
    labels = [found.label for found in summary_rows(report)]

    assert labels == [
        "file",
        "file, gzipped",
        "nonzero weights",
        "bits per weight, stored",
        "top-1 accuracy",
        "latency p50, CPU, batch 1",
        "load, CPU",
        "memory in use, CPU",
    ]


def test_the_change_of_accuracy_has_its_interval_and_sign(report):
    report["quality"] |= {"original": 0.9944, "compressed": 0.9925, "drop": 0.0019, "drop_ci95": [0.0004, 0.0034]}

    found = row(report, "top-1")

    assert (found.before, found.after) == ("99.44 %", "99.25 %")
    assert found.change == "-0.19 points (-0.34 to -0.04)"


def test_an_unchanged_accuracy_has_no_minus(report):
    report["quality"] |= {"drop": 0.0, "drop_ci95": [0.0, 0.0]}

    assert row(report, "top-1").change == "+0.00 points (+0.00 to +0.00)"


def test_an_interval_around_one_is_no_difference(report):
    report["latency"][0] |= {"speedup": 1.01, "speedup_ci95": [0.98, 1.04]}

    assert row(report, "latency").change == "no difference (0.98 to 1.04)"


def test_a_slowdown_is_turned_around(report):
    report["latency"][0] |= {"speedup": 0.5, "speedup_ci95": [0.4, 0.8]}

    assert row(report, "latency").change == "2.00x slower (1.25 to 2.50)"


def test_a_machine_too_noisy_to_tell_is_said(report):
    report["latency"][0] |= {"speedup": 1.5, "speedup_ci95": [0.8, 1.9], "noisy": True}

    assert row(report, "latency").change == "too noisy to tell (0.80 to 1.90)"


def test_memory_has_a_row_where_it_was_measured_and_another_host_has_its_name(report):
    memory = {side: {"load_bytes": 1, "peak_bytes": peak} for side, peak in (("original", 3e6), ("compressed", 1e6))}
    report["latency"][0] |= {"host": "pi", "memory": memory}

    assert row(report, "memory in use, CPU on pi").change == "-2.00 MB"


def test_what_was_not_measured_is_said(report):
    report["latency"] = [{"provider": "CUDAExecutionProvider", "error": "no driver"}]
    report["quality"] |= {"metric": "cosine similarity to the original", "compressed": None, "drop": None}

    assert row(report, "latency, CUDA").change == "not measured"
    assert row(report, "cosine").change == "not defined"
