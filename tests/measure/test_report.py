import json

import numpy as np

from toolchain.measure.report import plain, write_json
from toolchain.measure.schema import REPORT_SCHEMA, validate_report


def test_the_report_has_every_section_of_the_schema(report):
    validate_report(report)

    assert report["schema"] == REPORT_SCHEMA
    assert list(report) == [
        "schema",
        "tool",
        "model",
        "compressed",
        "plan",
        "seed",
        "size",
        "weights",
        "quality",
        "latency",
        "trials",
        "parity",
        "verdict",
        "environment",
        "timings",
        "phases",
        "convergence",
        "notes",
    ]
    assert report["verdict"]


def test_numbers_become_plain_json_without_nan_or_infinity():
    value = plain({1: (np.float32(0.5), np.int64(3), np.nan, float("inf")), "a": np.array([1.0, np.inf])})

    assert value == {"1": [0.5, 3, None, None], "a": [1.0, None]}
    json.dumps(value, allow_nan=False)


def test_the_file_holds_exactly_the_report(report, tmp_path):
    write_json(report, tmp_path / "report.json")

    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_lists_of_numbers_take_one_line_each(report, tmp_path):
    report["notes"] = ["[\n1,\n2]"]
    write_json(report, tmp_path / "report.json")

    text = (tmp_path / "report.json").read_text(encoding="utf-8")

    assert '"shape": [16, 6]' in text
    assert json.loads(text) == report
