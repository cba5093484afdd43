import json

import pytest

from toolchain.bench.history import SCHEMA, compare, expect, read_document
from toolchain.bench.measurement import BENCH_SCHEMA, Settings, bench
from toolchain.errors import BenchError
from toolchain.progress import NullProgress
from toolchain.validation import misfit


def verdicts(old, new):
    changes, _notes = compare(old, new)
    return {(change.model, change.figure): change.verdict for change in changes}


def test_the_same_figures_are_noise_and_the_same_bytes_are_the_same(make_document):
    found = verdicts(make_document(), make_document())

    assert set(found.values()) == {"noise", "same"}
    assert found["b.onnx", "speedup"] == found["a.onnx", "p99"] == "noise"
    assert found["b.onnx", "gzip"] == "same"


def test_a_change_within_both_intervals_is_noise_and_one_beyond_them_is_not(make_document):
    old = make_document(2.0, 1.0, spread=0.05)

    assert verdicts(old, make_document(2.0, 1.06, spread=0.05))["b.onnx", "p50"] == "noise"
    assert verdicts(old, make_document(2.0, 1.10, spread=0.05))["b.onnx", "p50"] == "worse"
    assert verdicts(old, make_document(2.0, 0.90, spread=0.05))["b.onnx", "p50"] == "better"


def test_a_slower_machine_is_not_a_slower_model(make_document):
    found = verdicts(make_document(2.0, 1.0), make_document(3.0, 1.5))

    assert found["a.onnx", "p50"] == found["b.onnx", "p50"] == "machine"
    assert found["b.onnx", "speedup"] == "noise"


def test_a_model_that_became_slower_on_a_slower_machine_is_worse(make_document):
    found = verdicts(make_document(2.0, 1.0), make_document(3.0, 2.0))

    assert found["a.onnx", "p50"] == "machine"
    assert found["b.onnx", "p50"] == found["b.onnx", "speedup"] == "worse"


def test_without_the_same_original_nothing_is_put_on_the_machine(make_document):
    new = make_document(3.0, 1.5)
    new["models"][0]["sha256"] = "another"

    changes, notes = compare(make_document(2.0, 1.0), new)

    assert {change.verdict for change in changes if change.figure == "p50"} == {"worse"}
    assert "a.onnx is another file than then" in notes


def test_the_interval_of_a_change_holds_both_intervals(make_document):
    changes, _notes = compare(make_document(2.0, 1.0, 0.03), make_document(2.0, 2.0, 0.04))

    (change,) = (change for change in changes if (change.model, change.figure) == ("b.onnx", "p50"))
    assert change.ratio == pytest.approx(2.0)
    assert change.ci95[0] == pytest.approx(2.0 * 0.951, abs=0.002)
    assert change.ci95[1] == pytest.approx(2.0 * 1.051, abs=0.002)


def test_a_change_below_one_percent_is_not_worth_a_word_however_sure(make_document):
    assert verdicts(make_document(2.0, 1.0, 1e-5), make_document(2.0, 1.005, 1e-5))["b.onnx", "p50"] == "noise"


def test_smaller_files_are_better_and_larger_ones_worse(make_document):
    new = make_document()
    new["models"][1] |= {"file_bytes": 40_000, "gzip_bytes": 41_000}

    found = verdicts(make_document(), new)

    assert (found["b.onnx", "file"], found["b.onnx", "gzip"]) == ("better", "worse")


def test_what_else_differs_is_said(make_document):
    new = make_document()
    new["environments"]["this machine"]["onnxruntime"] = "1.1"
    new["settings"]["optimization"] = "none"
    new["cases"].append(make_document(threads=4)["cases"][0])

    _changes, notes = compare(make_document(), new)

    assert notes == [
        "this machine: onnxruntime was 1.0, is 1.1",
        "graph optimizations were all, are none",
        "only now: cpu, 4 threads, batch 1",
    ]


def test_a_model_that_failed_now_has_no_changes(make_document):
    new = make_document()
    new["cases"][0]["models"][1] = {"name": "b.onnx", "error": {"stage": "load", "message": "no"}, "memory": None}

    changes, _notes = compare(make_document(), new)

    assert {change.model for change in changes if change.case} == {"a.onnx"}


@pytest.mark.parametrize(
    "settings",
    [Settings(), Settings(threads=(0, 8)), Settings(threads=(1, 8)), Settings(threads=(1,), batches=(1, 3))],
)
def test_a_document_with_one_of_the_cases_is_expected_to_be_comparable(make_document, settings):
    expect(make_document(), [model["name"] for model in make_document()["models"]], settings)


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (None, Settings(threads=(8,))),
        (None, Settings(batches=(3,))),
        (None, Settings(providers=("CUDAExecutionProvider",))),
        (None, Settings(transfers="out")),
        (["other.onnx"], Settings()),
    ],
    ids=["threads", "batch", "provider", "transfers", "models"],
)
def test_a_document_without_any_of_the_cases_is_refused(make_document, names, settings):
    old = make_document()
    with pytest.raises(BenchError, match=r"it is of .*\.onnx, .* with cpu, 1 thread, batch 1"):
        expect(old, names or [model["name"] for model in old["models"]], settings)


def test_documents_without_a_common_case_cannot_be_compared(make_document):
    with pytest.raises(BenchError, match="no case of a model is in both"):
        compare(make_document(), make_document(threads=8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is no bench document"),
        ('{"schema": 1, "latency": []}', "is no bench document"),
        ('{"kind": "bench", "schema": 99}', "has schema 99, this version reads 1"),
    ],
)
def test_what_is_no_earlier_document_is_an_error(tmp_path, content, message):
    path = tmp_path / "old.json"
    path.write_text(content)

    with pytest.raises(BenchError, match=message):
        read_document(path)


def test_a_missing_document_is_an_error_and_a_real_one_is_read(tmp_path, make_document):
    with pytest.raises(BenchError, match="cannot read"):
        read_document(tmp_path / "none.json")

    (tmp_path / "old.json").write_text(json.dumps(make_document()))
    assert read_document(tmp_path / "old.json") == make_document()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("models",), []),
        (("models", 0, "file_bytes"), 0),
        (("environments", "this machine"), None),
        (("cases", 0, "threads"), "1"),
        (("cases", 0, "models", 1, "p50_ms"), 0),
        (("cases", 0, "models", 1, "p50_ci95_ms"), [1.0]),
        (("cases", 0, "models", 1, "speedup"), float("nan")),
    ],
)
def test_a_damaged_document_is_an_error_that_names_the_file(tmp_path, make_document, place, value):
    document = part = make_document()
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (tmp_path / "old.json").write_text(json.dumps(document))
    with pytest.raises(BenchError, match=r"old\.json"):
        read_document(tmp_path / "old.json")


def test_what_is_measured_follows_the_schema(models):
    document = bench(models, Settings(threads=(1,), seconds=0.1), NullProgress())
    assert misfit(SCHEMA, document) == ("", "")
    assert SCHEMA["properties"]["schema"]["const"] == BENCH_SCHEMA
