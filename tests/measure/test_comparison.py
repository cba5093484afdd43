import copy
import json
import re
from html.parser import HTMLParser

import pytest

from toolchain.errors import ReportError
from toolchain.measure.comparison import render_comparison, write_comparison
from toolchain.measure.runs import find_runs


def changed(report, size=1000, score=0.9, sha256="a" * 64):
    report = copy.deepcopy(report)
    report["model"] = {"path": "models/net.onnx", "sha256": sha256}
    report["size"] |= {"original_bytes": 4000, "compressed_bytes": size, "ratio": 4000 / size}
    report["quality"] |= {"original": 0.95, "compressed": score, "drop": 0.95 - score}
    return report


def write_run(folder, report, page=True):
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    if page:
        (folder / "report.html").write_text("<!doctype html>")


@pytest.fixture
def runs(report, tmp_path):
    write_run(tmp_path / "runs" / "big", changed(report, 2000, 0.94))
    write_run(tmp_path / "runs" / "sub folder" / "small", changed(report, 1000, 0.93))
    write_run(tmp_path / "runs" / "bad", changed(report, 3000, 0.92), page=False)
    return tmp_path / "runs"


def rows(page):
    table = re.search(r'<table class="named">.*?</table>', page, re.DOTALL)[0]
    return [re.sub(r"<[^>]*>|\s+", " ", row) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)[1:]]


def test_the_table_is_sorted_by_size_and_says_which_run_is_on_a_front(runs):
    write_comparison(runs, runs / "index.html")

    page = (runs / "index.html").read_text(encoding="utf-8")

    assert [re.search(r"original|small|big|bad", row)[0] for row in rows(page)] == ["original", "small", "big", "bad"]
    assert ["size" in row for row in rows(page)[1:]] == [True, True, False]
    assert "-2.00" in rows(page)[1]


def test_links_lead_to_the_pages_that_are_there(runs, tmp_path):
    write_comparison(runs, runs / "index.html")
    links = re.findall(r'href="([^#"]*)"', (runs / "index.html").read_text(encoding="utf-8"))
    assert links == ["sub%20folder/small/report.html", "big/report.html"]

    (tmp_path / "elsewhere").mkdir()
    write_comparison(runs, tmp_path / "elsewhere" / "all.html")
    links = re.findall(r'href="([^#"]*)"', (tmp_path / "elsewhere" / "all.html").read_text(encoding="utf-8"))
    assert links == ["../runs/sub%20folder/small/report.html", "../runs/big/report.html"]


def test_each_of_several_devices_has_a_chart_that_names_it(report, tmp_path):
    run = changed(report)
    first = run["latency"][0]
    run["latency"] = [first | {"host": "this machine"}, first | {"host": "board"}]
    write_run(tmp_path / "a", run)

    titles = re.findall(
        r"<title[^>]*>([^<]* against latency[^<]*)", render_comparison(find_runs(tmp_path)[0], tmp_path, "")
    )

    assert [re.search("this machine|board", title)[0] for title in titles] == ["this machine", "board"]


def test_models_are_kept_apart(report, runs):
    write_run(runs / "other", changed(report, 10, 0.5, sha256="b" * 64))

    write_comparison(runs, runs / "index.html")

    page = (runs / "index.html").read_text(encoding="utf-8")
    assert page.count('<table class="named">') == 2
    assert "runs of different models, metrics or samples are not compared" in page


def test_what_was_left_out_is_returned_and_stands_on_the_page(runs, report):
    write_run(runs / "old", report | {"schema": 1})

    skipped = write_comparison(runs, runs / "index.html")

    assert len(skipped) == 1
    assert "old/report.json follows schema 1" in str(skipped[0])
    assert "old/report.json follows schema 1" in (runs / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_the_page_never_replaces_that_of_a_run(runs, name):
    with pytest.raises(ReportError, match="called like a run's own page"):
        write_comparison(runs, runs / "big" / name)

    assert (runs / "big" / "report.html").read_text() == "<!doctype html>"


def test_the_page_loads_nothing_and_names_are_inert(report, tmp_path):
    evil = "<script>alert(1)<!--'\"><img src=x onerror=alert(1)>"
    run = changed(report)
    run["model"]["path"] = run["quality"]["source"] = evil
    run["plan"] = [{"says": evil}]
    run["latency"][0] |= {"host": evil, "device": evil}
    write_run(tmp_path / "<b>&" / "run", run)
    tags, attributes = [], []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append(tag)
            attributes.extend(name for name, _ in attrs)

    page = render_comparison(find_runs(tmp_path)[0], tmp_path, evil, [evil])
    Parser().feed(page)

    assert not {"script", "img", "b", "link", "iframe"} & set(tags)
    assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|\bsrc=(?!x)", page)


def test_runs_that_were_not_timed_or_scored_are_still_in_the_table(report, tmp_path):
    run = changed(report)
    run["latency"] = [{"provider": "X", "device": "d", "threads": 1, "batch": 1, "error": "no driver"}]
    run["quality"] |= {"metric": "cosine similarity to the original", "compressed": None, "drop": None}
    write_run(tmp_path / "a", run)

    page = render_comparison(find_runs(tmp_path)[0], tmp_path, "runs")

    assert len(rows(page)) == 2
    assert "<svg" not in page
