import json
import sys

import pytest
from small_run import compress_small

from toolchain.bench.hosts import parse_host
from toolchain.bench.measurement import Settings
from toolchain.bench.remote import Remote, bench_on
from toolchain.bench.rows import HERE
from toolchain.errors import BenchError, ReportError
from toolchain.gates.judge import judge
from toolchain.gates.limits import Gates
from toolchain.measure.report_row import add_to_report
from toolchain.measure.schema import read_report
from toolchain.progress import NullProgress

PYTHON = sys.executable
QUICK = Settings(threads=(1,), seconds=0.1)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed")
    return folder / "model.onnx", compress_small(folder)


@pytest.fixture(scope="module")
def document(compressed):
    """Measured on another machine, whose name is odd."""
    original, result = compressed
    document, _ = bench_on([Remote(parse_host("env 'A=<b>&'"), PYTHON)], [original, result.path], QUICK, NullProgress())
    return document


@pytest.fixture
def report(compressed, tmp_path):
    """A copy of the report's folder."""
    text = compressed[1].report_path.with_name("report.json").read_text()
    (tmp_path / "report.json").write_text(text)
    return tmp_path


def test_the_device_gets_a_row_and_the_page_shows_it(report, document):
    before = read_report(report / "report.json")
    page = add_to_report(report, document)
    after = read_report(report / "report.json")
    assert after["latency"][: len(before["latency"])] == before["latency"]
    (row,) = after["latency"][len(before["latency"]) :]
    assert row["host"] == "env 'A=<b>&'"
    assert row["outputs_max_abs_difference"] == 0
    assert set(row["environment"]) == {"cpu", "governor", "temperature_c", "onnxruntime", "python"}
    text = page.read_text()
    assert "A=&lt;b&gt;&amp;" in text
    assert "A=<b>" not in text


def test_measuring_again_replaces_the_row(report, document):
    add_to_report(report, document)
    once = read_report(report / "report.json")
    add_to_report(report, document)
    assert read_report(report / "report.json") == once


def test_figures_of_this_machine_take_the_place_of_those_of_the_run(report, document):
    before = read_report(report / "report.json")["latency"]
    own = json.loads(json.dumps(document))
    own["environments"] = {HERE: own["environments"].popitem()[1]}
    own["cases"][0] |= {"host": HERE, "threads": before[0]["threads"], "batch": before[0]["batch"]}
    for model in own["cases"][0]["models"]:
        del model["differences"]
    add_to_report(report, own)
    after = read_report(report / "report.json")["latency"]
    assert len(after) == len(before)
    assert after[-1]["original"]["p50_ms"] == own["cases"][0]["models"][0]["p50_ms"]
    assert "environment" not in after[-1]


def test_gates_judge_the_device_by_its_name(report, document):
    add_to_report(report, document)
    judged = read_report(report / "report.json")
    (outcome,) = judge(judged, Gates(min_speedup=1e9, device="env 'A=<b>&'"))
    assert outcome.passed is False
    (outcome,) = judge(judged, Gates(min_speedup=1e-9, device="env 'A=<b>&'"))
    assert outcome.passed is True


def test_what_failed_on_the_device_is_a_row_with_its_error(report, document):
    failed = json.loads(json.dumps(document))
    case = failed["cases"][0]
    case["error"] = "the measurement ended before it was done"
    for model in case["models"]:
        for key in set(model) - {"name"}:
            del model[key]
        model |= {"error": None, "memory": None}
    add_to_report(report, failed)
    row = read_report(report / "report.json")["latency"][-1]
    assert row["error"] == "the measurement ended before it was done"
    assert "outputs_max_abs_difference" not in row


def test_a_report_of_another_original_is_refused(report, document):
    (other := json.loads(json.dumps(document)))["models"][0]["sha256"] = "0" * 64
    with pytest.raises(BenchError, match="is of the original"):
        add_to_report(report, other)


def test_a_report_of_another_compressed_file_is_refused(report, document):
    (other := json.loads(json.dumps(document)))["models"][1]["sha256"] = "0" * 64
    with pytest.raises(BenchError, match="not among the models measured"):
        add_to_report(report, other)


def test_a_folder_without_a_report_is_named(tmp_path, document):
    with pytest.raises(ReportError, match=r"cannot read .*report\.json"):
        add_to_report(tmp_path / "nowhere", document)
