import pytest

from toolchain.measure.terminal import render_terminal


@pytest.mark.parametrize("width", [80, 100])
def test_the_text_is_plain_and_fits_the_width(report, width):
    text = render_terminal(report, width=width)

    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= width


def test_every_row_stays_on_one_line_with_its_figures(report):
    report["latency"][0] |= {"speedup": 2.36, "speedup_ci95": [2.3, 2.41]}
    lines = render_terminal(report, width=80).splitlines()

    (latency,) = (line for line in lines if line.startswith("latency p50, CPU"))
    assert latency.endswith("2.36x faster (2.30 to 2.41)")
    (kept,) = (line for line in lines if line.startswith("nonzero weights"))
    assert kept.split()[2:5] == ["160", "40", "4.00x"]
    assert any(line.startswith("top-1 accuracy") for line in lines)
    assert any(line.startswith("load, CPU") for line in lines)
    assert any(line.startswith("file ") for line in lines)


def test_verdict_and_notes_follow_the_table(report):
    text = render_terminal(report)

    assert all(f"- {finding['claim']}" in text for finding in report["verdict"])
    assert "note: The last 40 samples were held out." in text


def test_colour_is_only_there_when_asked_for(report):
    assert "\x1b[1m" in render_terminal(report, colour=True)


def test_missing_accuracy_is_said_plainly(report):
    report["verdict"] = [{"claim": "accuracy on real data was not measured", "why": "no data were given", "hint": ""}]

    assert "accuracy on real data was not measured" in render_terminal(report)


def test_names_cannot_steer_the_terminal_nor_be_read_as_markup(report):
    report["model"]["path"] = "a/\x1b[31m[bold]evil.onnx"

    first = render_terminal(report).splitlines()[0]

    assert first.startswith("?[31m[bold]evil.onnx -> ")
