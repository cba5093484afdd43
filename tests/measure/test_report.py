import hashlib
import json

import numpy as np
import pytest

from toolchain.errors import ExportError
from toolchain.measure.report import REPORT_SCHEMA, plain, sha256, validate_report, write_json


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
        "parity",
        "verdict",
        "environment",
        "timings",
        "phases",
        "convergence",
        "notes",
    ]
    assert report["verdict"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("size", "ratio"), "much", r"report\.size\.ratio is a str"),
        (("weights", "tensors", 0, "name"), None, r"report\.weights\.tensors\[0\]\.name is a NoneType"),
        (("latency", 0, "speedup"), None, r"report\.latency\[0\]\.speedup is a NoneType"),
        (("schema",), 2, r"report\.schema is 2"),
        (("seed",), True, r"report\.seed is a bool"),
    ],
)
def test_a_value_of_another_type_is_named_by_its_place(report, path, value, message):
    place = report
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    with pytest.raises(ExportError, match=message):
        validate_report(report)


def test_a_missing_key_is_named(report):
    del report["quality"]["metric"]

    with pytest.raises(ExportError, match=r"report\.quality lacks 'metric'"):
        validate_report(report)


def test_a_provider_that_failed_needs_no_figures(report):
    report["latency"].append({"provider": "X", "device": "d", "threads": 1, "batch": 1, "error": "no driver"})

    validate_report(report)


def test_numbers_become_plain_json_without_nan_or_infinity():
    value = plain({1: (np.float32(0.5), np.int64(3), np.nan, float("inf")), "a": np.array([1.0, np.inf])})

    assert value == {"1": [0.5, 3, None, None], "a": [1.0, None]}
    json.dumps(value, allow_nan=False)


def test_the_file_holds_exactly_the_report(report, tmp_path):
    write_json(report, tmp_path / "report.json")

    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_digest_is_that_of_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    assert sha256(path) == hashlib.sha256(b"abc").hexdigest()
