from toolchain.bench.rows import complaints, latency_rows


def test_a_row_holds_both_models_and_their_speedup(make_document):
    (row,) = latency_rows(make_document(2.0, 1.0)["cases"])

    assert (row["host"], row["provider"], row["threads"], row["batch"]) == (
        "this machine",
        "CPUExecutionProvider",
        1,
        1,
    )
    assert (row["original"]["p50_ms"], row["compressed"]["p50_ms"], row["speedup"]) == (2.0, 1.0, 2.0)
    assert row["compressed"]["p50_ci95_ms"] == [0.99, 1.01]
    assert row["original"]["throughput_per_s"] == 500
    assert row["load_ms"] == {"original": 2.0, "compressed": 1.0}
    assert row["memory"]["compressed"] == {"load_bytes": 5_000_000, "peak_bytes": 6_000_000}
    assert row["noisy"] is False
    assert "layers" not in row


def test_layers_are_those_of_the_compressed_model(make_document):
    cases = make_document()["cases"]
    layers = [{"name": "conv", "op": "Conv", "original_ms": 1.0, "compressed_ms": None}]
    cases[0]["models"][0]["layers"], cases[0]["models"][1]["layers"] = [], layers

    assert latency_rows(cases)[0]["layers"] == layers


def test_a_model_that_failed_has_its_error_in_the_row(make_document):
    cases = make_document()["cases"]
    cases[0]["models"][1] = {
        "name": "b.onnx",
        "error": {"stage": "load", "message": "no such op"},
        "memory": None,
    }

    (row,) = latency_rows(cases)

    assert row["error"] == "ONNX Runtime cannot load b.onnx on cpu: no such op"
    assert "original" not in row


def test_memory_that_a_system_does_not_tell_is_left_out(make_document):
    cases = make_document()["cases"]
    cases[0]["models"][0]["memory"] = None

    assert "memory" not in latency_rows(cases)[0]


def test_complaints_name_the_case_and_every_model(make_document):
    (case,) = make_document(error="does not offer cuda")["cases"]
    case["models"][0]["error"] = {"stage": "run", "message": "bad"}

    assert complaints(case) == ["does not offer cuda", "ONNX Runtime cannot run a.onnx on cpu: bad"]
