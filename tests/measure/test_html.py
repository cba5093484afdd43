import re
from html.parser import HTMLParser

import pytest

from toolchain.errors import ExportError, ReportError
from toolchain.measure.html import render_html, write_report
from toolchain.measure.verdict import verdict_section

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Checker(HTMLParser):
    """Collects tags and ids, and checks that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def test_the_page_is_well_formed_and_every_id_is_unique(report):
    checker = checked(render_html(report))

    assert len(checker.ids) == len(set(checker.ids))
    known = set(checker.ids)
    labels = [attrs["aria-labelledby"] for _, attrs in checker.tags if "aria-labelledby" in attrs]
    assert all(set(label.split()) <= known for label in labels)


def test_every_chart_is_there_with_a_table(report):
    checker = checked(render_html(report))

    drawn = {attrs["aria-labelledby"].split("-title")[0] for tag, attrs in checker.tags if tag == "svg"}
    size = {"bytes", "shares", "tensor-bytes"}
    weights = {"kept", "bits", "histogram-0", "histogram-1"}
    quality = {"drop", "classes"}
    assert drawn == size | weights | quality | {
        "latency-0",
        "layers-0",
        "cost-0",
        "residuals",
        "progress",
        "accuracy",
        "loss",
    }
    figures = [tag for tag, _ in checker.tags if tag == "figure"]
    tables = [tag for tag, _ in checker.tags if tag == "table"]
    assert len(tables) >= len(figures)


def test_the_epochs_of_every_phase_stand_beside_those_that_were_planned(report):
    page = render_html(report)

    assert '<td class="number">0.9</td><td class="number">15.0</td>' in page
    assert "1 prune, 2 quantize" in page


def test_phases_without_training_are_told_without_charts(report):
    report["convergence"] = []

    page = render_html(report)

    assert 'id="training"' in page
    assert "Phases in order" not in page
    checked(page)


def test_what_else_was_tried_is_told_where_something_was(report):
    report.pop("trials", None)
    assert 'id="trials"' not in render_html(report)

    report["trials"] = [{"options": "--quant 8bit", "error": "no room"}]
    page = render_html(report)

    assert "not measured, no room" in page
    checked(page)


def test_nothing_is_loaded_or_executed(report):
    page = render_html(report)
    checker = checked(page)

    assert "http" not in page.replace("http-equiv", "")
    assert not re.search(r"url\(|@import|\bsrc=|\bhref=(?!\"#)", page)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in checker.tags}


def test_names_from_the_model_are_inert(report):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    report["weights"]["tensors"][0]["name"] = evil
    report["environment"][evil] = evil
    report["model"]["path"] = f"folder/{evil.replace('/', '')}"
    report["quality"]["fidelity"] = {evil: report["quality"]["fidelity"]["logits"]}
    report["convergence"][0]["phase"] = evil
    report["notes"] = [evil]
    report["parity"]["tensors"][1] |= {"name": evil, "op": evil, "reason": evil}
    report["plan"] = [{"says": evil, "names": [evil]}]
    report["latency"][0] |= {
        "host": evil,
        "device": evil,
        "layers": [{"name": evil, "op": evil, "original_ms": 1.0, "compressed_ms": 1.0}],
    }
    report["weights"]["tensors"][0] |= {"encoding": evil, "kernel": evil, "kernel_reason": evil}
    report["verdict"].append({"claim": evil, "why": evil, "hint": evil})

    checker = checked(render_html(report))

    assert not {"script", "img"} & {tag for tag, _ in checker.tags}
    assert not any(name.startswith("on") for _, attrs in checker.tags for name in attrs)


def test_two_hundred_tensors_are_all_in_the_table_and_the_chart_says_its_limit(report):
    first = report["weights"]["tensors"][0]
    report["weights"]["tensors"] = [first | {"name": f"{'stage/' * 20}block.{number}"} for number in range(200)]

    page = render_html(report)

    table = page[page.index('<table class="tensors') :]
    assert table[: table.index("</table>")].count('<th scope="row" class="mono">') == 200
    assert "The 24 largest of 200 tensors" in page
    assert page.count('id="histogram-') == 2 * 24


def test_missing_accuracy_is_said_at_the_top(report):
    assert "Accuracy on real data was not measured" not in render_html(report)

    report["quality"] |= {"data": "synthetic", "metric": "agreement with the original"}
    report["verdict"] = verdict_section(report)
    page = render_html(report)

    assert page.index("Accuracy on real data was not measured") < page.index("What was gained")


def test_sections_that_hold_nothing_are_left_out(report):
    report["convergence"], report["phases"], report["notes"], report["plan"] = [], [], [], []
    report["weights"] |= {"total": 0, "nonzero": 0, "ratio": None, "bits_per_weight": None, "tensors": []}
    report["parity"] = {"judged": "end to end", "max_abs_error": None, "tolerance": None, "outputs": []}
    report["latency"] = [{"provider": "X", "device": "d", "threads": 1, "batch": 1, "error": "no driver"}]

    page = render_html(report)

    assert 'id="training"' not in page
    assert 'id="weights"' not in page
    assert "not measured, no driver" in page
    checked(page)


def test_the_differences_inside_are_told_and_may_be_missing_in_a_report_that_is_older(report):
    page = render_html(report)

    inside = page[page.index("Show the differences inside") :]
    rows = re.findall(r"<tr><th scope=\"row\" class=\"mono\">(.*?)</tr>", inside[: inside.index("</table>")], re.DOTALL)
    told = [re.sub(r"(<[^>]*>|\s)+", " ", row).strip() for row in rows]
    assert told == [
        "hidden Gemm 2.5e-07 3",
        "inside MatMul not compared: it lies in a branch",
        "logits Gemm not finite 1",
    ]

    del report["parity"]["tensors"]
    assert "Show the differences inside" not in render_html(report)


def test_phases_without_a_step_are_no_training(report):
    report["convergence"] = []
    report["phases"] = [{"phase": "prune", "steps": 0, "epochs": 0.0, "planned_epochs": 0.0}]
    assert 'id="training"' not in render_html(report)


def test_the_page_adapts_to_phone_print_and_dark(report):
    page = render_html(report)

    assert 'name="viewport"' in page
    assert "@media print" in page
    assert "prefers-color-scheme: dark" in page


def test_a_report_of_another_schema_is_refused(report):
    with pytest.raises(ReportError, match="follows schema 99"):
        render_html(report | {"schema": 99})


def test_both_files_are_written_into_a_new_folder(report, tmp_path):
    page = write_report(report, tmp_path / "new" / "folder")

    assert page == tmp_path / "new" / "folder" / "report.html"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]


def test_a_folder_that_cannot_be_made_is_a_clear_error(report, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ExportError, match="cannot make the folder"):
        write_report(report, tmp_path / "file" / "folder")
