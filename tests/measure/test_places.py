from toolchain.measure.places import places, trial_rows


def test_rows_of_one_device_stand_together_and_hosts_apart(report):
    row = report["latency"][0]
    board = row | {"host": "pi", "device": "Cortex-A72", "environment": {"cpu": "Cortex-A72", "governor": "ondemand"}}

    found = places([row, board, row | {"threads": 2}])

    assert [len(place.rows) for place in found] == [2, 1]
    assert found[0].title == f"this machine, {row['device']}"
    assert (found[1].title, found[1].facts) == ("pi, Cortex-A72", "governor ondemand")
    assert [measured.title for measured in found[0].rows] == ["CPU, 1 thread, batch 1", "CPU, 2 threads, batch 1"]


def test_a_difference_of_outputs_and_a_temperature_are_facts_of_the_place(report):
    row = report["latency"][0] | {
        "host": "pi",
        "outputs_max_abs_difference": 2e-6,
        "environment": {"cpu": "Other", "temperature_c": 61.5, "governor": None, "onnxruntime": "1.22.0"},
    }

    facts = places([row])[0].facts

    assert facts.startswith("Other; 61.5 °C; onnxruntime 1.22.0; outputs differ")
    assert facts.endswith("2e-06")


def test_outputs_without_a_difference_are_said_to_be_equal(report):
    row = report["latency"][0] | {"host": "pi", "outputs_max_abs_difference": 0.0}
    assert places([row])[0].facts == "outputs equal those of the machine that compressed"


def test_layers_have_a_chart_where_they_were_profiled(report):
    row = report["latency"][0] | {"layers": None}
    assert "Where the time goes" not in [chart.title for chart in places([row])[0].rows[0].charts]

    row["layers"] = [{"name": "a", "op": "Conv", "original_ms": 1.0, "compressed_ms": 0.5}]
    assert "Where the time goes" in [chart.title for chart in places([row])[0].rows[0].charts]


def test_a_provider_that_failed_has_its_error_and_no_charts():
    failed = {"provider": "X", "device": "d", "threads": 1, "batch": 1, "error": "no driver"}

    measured = places([failed])[0].rows[0]

    assert (measured.error, list(measured.charts)) == ("no driver", [])


def test_noise_and_nodes_that_fell_back_are_remarks_of_a_row(report):
    fallback = [{"name": f"n{number}", "op": "Resize"} for number in range(10)]
    row = report["latency"][0] | {"noise": "the interval is wide", "fallback": fallback, "transfers": "out"}

    measured = places([row])[0].rows[0]

    assert measured.title.endswith("batch 1, without copies")
    assert measured.remarks[0] == "the interval is wide"
    assert measured.remarks[1].startswith("left to another provider: n0 (Resize), n1 (Resize)")
    assert measured.remarks[1].endswith("and 2 more")


def test_trials_have_their_change_or_why_there_is_none():
    tried = {"options": "--structure groups", "original_ms": 3.0, "compressed_ms": 1.0}

    rows = trial_rows(
        [tried | {"speedup": 3.0, "speedup_ci95": [2.9, 3.1]}, {"options": "--quant 8bit", "error": "no"}]
    )

    assert rows == [
        ("--structure groups", "3.00 ms", "1.00 ms", "3.00x faster (2.90 to 3.10)"),
        ("--quant 8bit", "-", "-", "not measured, no"),
    ]
