import json

import jsonschema
import pytest

from toolchain.errors import ReportError
from toolchain.measure.schema import REPORT_SCHEMA, SCHEMA, read_report, validate_report


def test_the_schema_itself_is_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_key_has_a_type_and_a_description_and_every_required_key_is_there():
    def walk(part, place):
        for name, inner in part.get("properties", {}).items():
            assert {"type", "enum", "const", "$ref", "oneOf"} & set(inner), f"{place}.{name}"
            said = inner.get("description") or SCHEMA["$defs"].get(inner.get("$ref", "").split("/")[-1], {}).get(
                "description"
            )
            assert said, f"{place}.{name}"
            walk(inner, f"{place}.{name}")
        assert set(part.get("required", ())) <= set(part.get("properties", {})), place
        for name in ("items", "additionalProperties"):
            if isinstance(part.get(name), dict):
                walk(part[name], f"{place}.{name}")

    walk(SCHEMA, "report")
    for name, part in SCHEMA["$defs"].items():
        walk(part, name)


def test_a_measured_report_follows_the_schema(report):
    validate_report(report)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("size", "ratio"), "much", r"report\.size\.ratio does not fit .*'much' is not of type 'number'"),
        (
            ("weights", "tensors", 0, "name"),
            None,
            r"report\.weights\.tensors\[0\]\.name does not .*None is not of type",
        ),
        (("latency", 0, "speedup"), None, r"report\.latency\[0\]\.speedup does not fit"),
        (("quality", "metric"), "luck", r"report\.quality\.metric .*'luck' is not one of"),
        (("latency", 0, "speedup_ci95"), [1.0], r"report\.latency\[0\]\.speedup_ci95 .*too short"),
        (("parity", "tensors", 0, "op"), None, r"report\.parity\.tensors\[0\]\.op .*None is not of type 'string'"),
        (("seed",), True, r"report\.seed .*True is not of type 'integer'"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_place(report, path, value, message):
    place = report
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    with pytest.raises(ReportError, match=message):
        validate_report(report)


def test_a_missing_key_is_named(report):
    del report["quality"]["metric"]

    with pytest.raises(ReportError, match=r"report\.quality .*'metric' is a required property"):
        validate_report(report)


def test_an_error_does_not_repeat_a_whole_section(report):
    report["quality"] = [list(range(10_000))]

    with pytest.raises(ReportError) as caught:
        validate_report(report)

    assert len(str(caught.value)) < 300


def test_a_provider_that_failed_needs_no_figures_and_one_that_did_not_needs_all(report):
    failed = {"provider": "X", "device": "d", "threads": 1, "batch": 1, "error": "no driver"}
    report["latency"].append(failed)
    validate_report(report)

    del failed["error"]
    with pytest.raises(ReportError, match=r"report\.latency\[1\] .*is a required property"):
        validate_report(report)


def test_keys_that_this_version_does_not_know_are_no_error(report):
    report["gates"] = []
    report["latency"][0]["new"] = 1

    validate_report(report)


def test_another_version_is_refused_with_what_to_do(report):
    with pytest.raises(ReportError, match="follows schema 1, this version of compress reads 2") as caught:
        validate_report(report | {"schema": 1, "size": None, "tool": {"version": "0.0.9"}})

    assert "0.0.9" in caught.value.hint


@pytest.mark.parametrize("value", [[], {}, None, 3, "text"])
def test_what_is_no_report_is_said_to_be_none(value):
    with pytest.raises(ReportError, match="is no report"):
        validate_report(value)


def test_a_report_is_read_from_its_file(report, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report), encoding="utf-8")

    assert read_report(path) == report
    assert REPORT_SCHEMA == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is not JSON"), (b"\xff\xfe", "is not JSON"), (b"[" * 100_000, "is not JSON"), (b"{}", "is no report")],
)
def test_a_file_that_is_no_report_is_named(tmp_path, content, message):
    path = tmp_path / "report.json"
    path.write_bytes(content)

    with pytest.raises(ReportError, match=message) as caught:
        read_report(path)

    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"cannot read .*missing\.json") as caught:
        read_report(tmp_path / "missing.json")
    assert "or the folder that it lies in" in caught.value.hint


def test_figures_of_compress_bench_are_told_from_a_report():
    with pytest.raises(ReportError, match="today is what compress bench --json printed, not a report"):
        validate_report({"schema": 1, "kind": "bench"}, "today")
