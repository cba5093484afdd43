from xml.etree import ElementTree

import pytest

from toolchain.gates.judge import Outcome, judge
from toolchain.gates.limits import Gates
from toolchain.gates.render import github_summary, measured_text, render_github, render_junit, render_text

EVIL = 'a <b>&"|`::error::\n100%,\x1b[31m\x00\ud800'


@pytest.fixture
def outcomes(report):
    gates = Gates(max_drop=0.5, max_size=1e6, max_latency=5.0, min_speedup=1.5, device="Some CPU")
    return judge(report, gates)


def test_text_has_a_line_per_gate_and_one_for_all(outcomes):
    assert render_text(outcomes).splitlines() == [
        "pass  max-drop     at most 0.50 points  0.50 points (95 % 0.10 to 0.90)  top-1 accuracy on 2,000 samples",
        "FAIL  max-size     at most 1.00 MB      2.00 MB                          the compressed file",
        "pass  min-speedup  at least 1.50x       2.04x (95 % 1.98 to 2.10)        CPU, 1 thread, batch 1",
        "FAIL  max-latency  at most 5.00 ms      4.90 ms (95 % 4.80 to 5.10)      CPU, 1 thread, batch 1",
        "2 of 4 gates failed",
    ]


def test_all_passed_is_said():
    good = Outcome("max_size", "bytes", 2.0, passed=True, measured=1.0)
    assert render_text([good]).splitlines()[-1] == "the gate passed"
    assert render_text([good, good]).splitlines()[-1] == "all 2 gates passed"


@pytest.mark.parametrize(
    ("missed", "asked", "measured"),
    [
        (Outcome("max_size", "bytes", 2e6, False, 2_000_001.0), "at most 2,000,000 B", "2,000,001 B"),
        (
            Outcome("max_latency", "ms", 5.0, False, 4.9, (4.8, 5.0004)),
            "at most 5.0000 ms",
            "4.9000 ms (95 % 4.8000 to 5.0004)",
        ),
        (
            Outcome("min_speedup", "factor", 2.0, False, 2.001, (1.9999, 2.1)),
            "at least 2.0000x",
            "2.0010x (95 % 1.9999 to 2.1000)",
        ),
        (Outcome("min_accuracy", "percent", 99.0, False, 98.9999), "at least 99.0000 %", "98.9999 %"),
    ],
)
def test_what_is_missed_by_little_is_printed_with_the_digits_that_show_it(missed, asked, measured):
    assert asked in render_text([missed]).splitlines()[0]
    assert measured_text(missed) == measured


def test_a_figure_that_was_not_measured_says_why(report):
    report["latency"] = []
    (found,) = judge(report, Gates(min_speedup=2.0))
    assert render_text([found]).splitlines()[0] == (
        "FAIL  min-speedup  at least 2.00x  not measured  the report has no latency of any device"
    )


def test_missed_gates_alone_are_counted_among_all(outcomes):
    lines = render_text(outcomes, missed_only=True).splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["FAIL", "max-size"], ["FAIL", "max-latency"]]
    assert lines[-1] == "2 of 4 gates failed"


def test_github_annotates_what_failed_and_nothing_else(outcomes):
    text = render_github(outcomes)
    assert text.startswith(render_text(outcomes))
    assert text.splitlines()[5:] == [
        "::error title=compress%3A max-size::at most 1.00 MB asked, 2.00 MB; the compressed file",
        "::error title=compress%3A max-latency::at most 5.00 ms asked, 4.90 ms (95 %25 4.80 to 5.10); "
        "CPU, 1 thread, batch 1",
    ]


def test_no_name_from_a_report_can_begin_a_command_of_githubs(report):
    report["latency"][2]["error"] = "out\r\n::error::of memory\n::add-mask::x"
    text = render_github(judge(report, Gates(max_latency=1.0, device="cuda")))
    assert [line for line in text.splitlines() if line.startswith("::")] == [
        "::error title=compress%3A max-latency::at most 1.00 ms asked, not measured; CUDA, 1 thread, batch 1: "
        "out%0D%0A::error::of memory%0A::add-mask::x"
    ]


def test_the_summary_is_a_table_that_no_name_can_leave(report):
    report["compressed"]["path"] = "out/sm|all<b>.onnx"
    report["latency"][2]["error"] = EVIL
    text = github_summary(judge(report, Gates(max_size=2e6, min_speedup=1.0, device="Some GPU")), report)
    lines = text.splitlines()
    assert lines[0] == r"### Gates of sm\|all&lt;b&gt;.onnx: 1 of 2 gates failed"
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines[2:] if line)
    assert len([line for line in lines[2:] if line]) == 4
    assert "<b>" not in text
    assert "\x1b" not in text


def test_junit_has_a_case_per_gate(outcomes, report):
    root = ElementTree.fromstring(render_junit(outcomes, report))
    (suite,) = root
    assert (root.tag, suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("testsuites", "4", "2", "0")
    cases = {case.get("name").split()[0]: case for case in suite}
    assert set(cases) == {"max-drop", "max-size", "min-speedup", "max-latency"}
    assert {case.get("classname") for case in suite} == {"out/small.onnx"}
    assert cases["max-size"].find("failure").get("message").startswith("at most 1.00 MB asked, 2.00 MB")
    assert cases["max-drop"].find("failure") is None


def test_junit_is_well_formed_whatever_the_names_are(report):
    report["compressed"]["path"] = EVIL
    report["latency"][2]["error"] = EVIL
    text = render_junit(judge(report, Gates(max_latency=1.0, device="cuda")), report)
    (suite,) = ElementTree.fromstring(text.encode())
    (case,) = suite
    shown = case.find("failure").text
    assert 'a <b>&"|`::error::\n100%,?[31m??' in shown
