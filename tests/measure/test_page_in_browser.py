"""The pages as a reader sees them: in a real Chromium, on a desk, on a phone, in the dark and on paper."""

import copy
import json

import pytest
from browser import find_browser, open_browser

from toolchain.measure.comparison import write_comparison
from toolchain.measure.html import render_html
from toolchain.measure.verdict import verdict_section

DESK, PHONE, PAPER = 1280, 390, 688  # pixels of CSS; paper is A4 without its margins
EVIL = "<script>document.title = 'run'</script>" * 3

# Every figure of the page that a JavaScript expression can judge; each returns what is wrong, best nothing.
TOO_WIDE = """[...document.querySelectorAll('body *')].filter(element => {
    for (let box = element.parentElement; box; box = box.parentElement)
        if (/auto|scroll|hidden/.test(getComputedStyle(box).overflowX)) return false;
    const scrolls = /auto|scroll|hidden/.test(getComputedStyle(element).overflowX);
    const beyond = element.getBoundingClientRect().right > innerWidth + 1;
    return beyond || (!scrolls && element.clientWidth && element.scrollWidth > element.clientWidth + 1);
}).map(element => element.outerHTML.slice(0, 200))"""
UNNAMED = """[...document.querySelectorAll('img, svg')].filter(element => {
    const ids = (element.getAttribute('aria-labelledby') || '').split(' ');
    const said = ids.map(id => document.getElementById(id)?.textContent ?? '').join('').trim();
    return !(said || element.getAttribute('aria-label') || element.getAttribute('alt'));
}).map(element => element.outerHTML.slice(0, 200))"""
OUTSIDE = """[...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width).flatMap(svg => {
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].filter(text => {
        const own = text.getBoundingClientRect();
        return own.left < box.left - 2 || own.right > box.right + 2
            || own.top < box.top - 2 || own.bottom > box.bottom + 2;
    }).map(text => `${svg.querySelector('title').textContent}: ${text.textContent}`);
})"""
COVERED = """[...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width).flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    return texts.flatMap(([first, a], index) => texts.slice(index + 1).filter(([second, b]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4
    ).map(([second]) => `${svg.querySelector('title').textContent}: ${first} / ${second}`));
})"""
# Contrast by WCAG 2.2, 1.4.3: 4.5, and 3 for large text.
FAINT = """(() => {
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = element => {
        for (let box = element; box; box = box.parentElement) {
            const colour = parse(getComputedStyle(box).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const says = element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    return [...document.querySelectorAll('body *')].filter(says).flatMap(element => {
        if (/^on-/.test(element.getAttribute('class')) || /title|desc/.test(element.tagName)) return [];
        const style = getComputedStyle(element);
        const front = parse(element.tagName === 'text' ? style.fill : style.color);
        const [first, second] = [light(front), light(behind(element))].sort((a, b) => b - a);
        const ratio = (first + 0.05) / (second + 0.05);
        const enough = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
        return ratio < enough ? [`${ratio.toFixed(2)} ${element.textContent}`] : [];
    });
})()"""
OPEN_ALL = "document.querySelectorAll('details').forEach(details => { details.open = true; })"


@pytest.fixture(scope="module")
def page():
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium is installed; `make browser` fetches one from the npm registry")
    with open_browser(path) as opened:
        yield opened


def many_tensors(report):
    first = report["weights"]["tensors"][0]
    report["weights"]["tensors"] = [
        first | {"name": f"{'backbone/stage/' * (number % 9)}block.{number}.W" * 2, "bytes": 10 + 97 * number}
        for number in range(200)
    ]
    report["size"]["original_bytes"] = sum(row["original_bytes"] for row in report["weights"]["tensors"]) + 1000
    report["size"]["compressed_bytes"] = sum(row["bytes"] for row in report["weights"]["tensors"]) + 900
    report["quality"]["classes"] = [
        {"class": number, "samples": 50, "original": 40, "compressed": number % 50} for number in range(1000)
    ]
    layers = [
        {"name": f"node{number}/" * 12, "op": "FusedConv", "original_ms": 10.0 + number, "compressed_ms": 1e-4}
        for number in range(300)
    ]
    report["latency"][0] |= {"layers": layers, "host": "a board with a long name in the corner of the lab"}


def wide_names(report):
    for tensor in report["weights"]["tensors"]:
        tensor |= {"name": "W" * 300, "encoding": "W" * 40, "kernel_reason": "M" * 400}
    report["model"]["path"] = report["compressed"]["path"] = "M" * 300 + ".onnx"
    report["notes"] = ["/" + "W" * 300]
    report["quality"]["fidelity"] = {"W" * 300: report["quality"]["fidelity"]["logits"]}


def evil_names(report):
    report["weights"]["tensors"][0]["name"] = report["model"]["path"] = report["latency"][0]["device"] = EVIL
    report["notes"] = report["verdict"][0]["hint"] = EVIL
    report["notes"] = [EVIL]
    report["quality"]["fidelity"] = {EVIL: report["quality"]["fidelity"]["logits"]}


def nothing_measured(report):
    report["convergence"], report["phases"], report["notes"], report["plan"] = [], [], [], []
    report["weights"] |= {"total": 0, "nonzero": 0, "ratio": None, "bits_per_weight": None, "tensors": []}
    report["latency"] = [{"provider": "X", "device": "d", "threads": 1, "batch": 1, "error": "no driver " * 40}]
    del report["quality"]["drop_ci95"]
    report["quality"] |= {"metric": "cosine similarity to the original", "compressed": None, "drop": None}
    report["quality"] |= {"classes": [], "worst": [], "data": "synthetic"}
    report["verdict"] = verdict_section(report)


def extreme_figures(report):
    report["size"] |= {"original_bytes": 2_700_000_000, "compressed_bytes": 1_234, "ratio": 2_188_006.5}
    report["latency"][0] |= {"speedup": 0.000123, "speedup_ci95": [0.0001, 0.0002]}
    report["latency"][0]["original"] |= {
        "p50_ms": 0.00123,
        "p90_ms": 0.00125,
        "p99_ms": 0.0013,
        "quantiles_ms": [0.00123],
    }
    report["latency"][0]["compressed"] |= {"p50_ms": 123456.0, "p90_ms": 2e5, "p99_ms": 3e5, "quantiles_ms": [1e5, 2e5]}
    for tensor in report["weights"]["tensors"]:
        tensor |= {"size": 1_000_000_000, "nonzero": 999_999_999, "original_bytes": 4_000_000_000}
        tensor["histogram"]["edges"] = [edge * 1e-30 for edge in tensor["histogram"]["edges"]]


def as_measured(report):
    report["notes"].append("As it was measured.")


CASES = (as_measured, many_tensors, wide_names, evil_names, nothing_measured, extreme_figures)


@pytest.fixture(params=CASES, ids=[case.__name__ for case in CASES])
def written(request, report, tmp_path):
    """The page of a report: as it was measured, or changed in a way that pages break on."""
    request.param(report)
    path = tmp_path / "report.html"
    path.write_text(render_html(report), encoding="utf-8")
    return path


@pytest.fixture
def compared(report, tmp_path):
    for number in range(30):
        run = copy.deepcopy(report)
        size = 1000 + (number * 577) % 900
        run["size"] |= {"compressed_bytes": size, "ratio": run["size"]["original_bytes"] / size}
        run["quality"] |= {"compressed": 0.2 + (number * 379 % 100) / 200, "drop": 0.1}
        run["latency"][0]["compressed"]["p50_ms"] *= 1 + number % 7 / 10
        folder = tmp_path / ("a long name of a run " * 3 + str(number))
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(run), encoding="utf-8")
        (folder / "report.html").write_text("", encoding="utf-8")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "report.json").write_text("{}")
    write_comparison(tmp_path, tmp_path / "index.html")
    return tmp_path / "index.html"


def judge(page):
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")
    assert page.ask("document.title") != "run"
    for wrong in (TOO_WIDE, UNNAMED, OUTSIDE, COVERED, FAINT):
        assert page.ask(wrong) == []
    assert page.complaints == []


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_a_report_fits_its_window_names_its_charts_and_runs_nothing(page, written, width):
    page.show(written, width)
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")

    page.ask(OPEN_ALL)
    judge(page)


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_a_report_can_be_read_in_the_dark(page, report, tmp_path, width):
    path = tmp_path / "report.html"
    path.write_text(render_html(report), encoding="utf-8")

    page.show(path, width, dark=True)

    assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 22)"
    judge(page)


def test_a_report_can_be_printed(page, written, tmp_path):
    page.show(written, PAPER, media="print", dark=True)

    assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    judge(page)
    page.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("width", "dark", "media"), [(DESK, False, "screen"), (PHONE, True, "screen"), (PAPER, False, "print")]
)
def test_a_comparison_of_runs_fits_too(page, compared, width, dark, media):
    page.show(compared, width, dark=dark, media=media)

    judge(page)


def test_the_judge_sees_what_is_wrong(page, tmp_path):
    wrong = tmp_path / "wrong.html"
    wrong.write_text(
        "<!doctype html><body style='margin:0'><div style='width:2000px;color:#eee'>faint</div><img>"
        "<svg width=50 height=20><title>chart</title><text x=40 y=15>outside</text><text x=42 y=16>covers</text></svg>"
        "<script>console.error('said')</script>"
    )

    page.show(wrong, PHONE)

    assert page.ask("document.documentElement.scrollWidth") > PHONE
    assert all(page.ask(judged) for judged in (TOO_WIDE, UNNAMED, OUTSIDE, COVERED, FAINT))
    assert page.complaints
