from toolchain.measure.places import places


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


def test_layers_have_a_chart_where_they_were_profiled(report):
    row = report["latency"][0] | {"layers": None}
    assert "Where the time goes" not in [chart.title for chart in places([row])[0].rows[0].charts]

    row["layers"] = [{"name": "a", "op": "Conv", "original_ms": 1.0, "compressed_ms": 0.5}]
    assert "Where the time goes" in [chart.title for chart in places([row])[0].rows[0].charts]


def test_a_provider_that_failed_has_its_error_and_no_charts():
    failed = {"provider": "X", "device": "d", "threads": 1, "batch": 1, "error": "no driver"}

    measured = places([failed])[0].rows[0]

    assert (measured.error, list(measured.charts)) == ("no driver", [])
