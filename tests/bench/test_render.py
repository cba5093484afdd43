from toolchain.bench.history import compare
from toolchain.bench.render import WIDTH, render_bench, render_changes


def test_the_tables_show_sizes_times_speedup_and_memory(make_document):
    text = render_bench(make_document(2.0, 1.0))

    assert "cpu, 1 thread, batch 1, on CPU 9000" in text
    row = next(line for line in text.splitlines() if line.startswith("b.onnx") and "ms" in line and "x (" in line)
    assert "1.00 ms" in row
    assert "2.00x (1.98 to 2.02)" in row
    assert "50.0 KB   40.0 KB     40.0x" in text
    assert "6.00 MB" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "\x1b" not in text


def test_one_model_alone_has_no_columns_of_comparison(make_document):
    document = make_document(2.0, 1.0)
    document["models"] = document["models"][:1]
    document["cases"][0]["models"] = document["cases"][0]["models"][:1]

    text = render_bench(document)

    assert "2.00 ms" in text
    assert "speedup" not in text
    assert "smaller" not in text


def test_a_noisy_speedup_is_a_warning_with_its_reason(make_document):
    document = make_document()
    document["cases"][0]["models"][1] |= {"noisy": True, "noise": "the interval 0.90 to 1.10 is 20% wide"}

    text = " ".join(render_bench(document).split())

    assert "warning: too noisy to tell about b.onnx: the interval 0.90 to 1.10 is 20% wide; close other" in text


def test_a_busy_machine_is_a_warning_and_a_quiet_one_is_not(make_document):
    assert "warning" not in render_bench(make_document())
    assert "warning" not in render_bench(make_document(preempted_per_s=None))
    assert "processes took the processor away 140 times" in " ".join(
        render_bench(make_document(preempted_per_s=140.0)).split()
    )


def test_nodes_that_fell_back_are_named(make_document):
    document = make_document()
    document["cases"][0]["models"][1]["fallback"] = [{"name": "up", "op": "Resize"}, {"name": "nms", "op": "TopK"}]

    assert "warning: 2 nodes of b.onnx ran on the CPU: up (Resize), nms (TopK)" in render_bench(document)


def test_the_time_of_layers_is_shown_side_by_side_and_the_rest_summed(make_document):
    document = make_document()
    rows = [{"name": f"n{index}", "op": "Conv", "original_ms": 1.0, "compressed_ms": 0.5} for index in range(24)]
    rows.append({"name": "only-here", "op": "Cast", "original_ms": None, "compressed_ms": 12.0})
    document["cases"][0]["models"][1]["layers"] = rows

    lines = render_bench(document).splitlines()

    first = next(index for index, line in enumerate(lines) if line.startswith("where the time goes: b.onnx"))
    assert lines[first + 2].split()[:5] == ["only-here", "Cast", "-", "12.0", "ms"]
    assert lines[first + 3].split()[-1] == "2.00x"
    (rest,) = (line for line in lines if "5 more" in line)
    assert "5.00 ms" in rest
    assert "2.50 ms" in rest


def test_a_model_that_failed_has_dashes(make_document):
    document = make_document()
    document["cases"][0]["models"][1] = {"name": "b.onnx", "error": {"stage": "load", "message": "no"}, "memory": None}

    rows = [line.split() for line in render_bench(document).splitlines() if line.startswith("b.onnx")]

    assert rows[1:] == [["b.onnx", "-", "-", "-", "-", "-"], ["b.onnx", "-", "-", "-"]]


def test_names_cannot_steer_the_terminal(make_document):
    document = make_document()
    document["cases"][0]["models"][0]["name"] = "evil\x1b[2J"

    assert "\x1b" not in render_bench(document)


def test_changes_are_listed_by_case_with_interval_and_verdict(make_document):
    text = render_changes(*compare(make_document(2.0, 1.0), make_document(2.0, 1.5)))

    assert "then and now: cpu, 1 thread, batch 1" in text
    (line,) = (line for line in text.splitlines() if line.startswith("b.onnx: p50"))
    assert line.split()[2:] == ["1.00", "ms", "1.50", "ms", "1.500", "(1.479", "to", "1.521)", "worse"]
    assert "within the noise" in text
