import copy
import json

import pytest

from toolchain.errors import ReportError
from toolchain.measure.runs import Run, compare, device_text, find_runs, pareto_front


@pytest.fixture
def folder(report, tmp_path):
    """Two runs, one nested deeper, beside a report of another schema and one that is cut off."""
    for name, size in (("a", 200), ("deep/b", 100)):
        (tmp_path / name).mkdir(parents=True)
        changed = report | {"size": report["size"] | {"compressed_bytes": size}}
        (tmp_path / name / "report.json").write_text(json.dumps(changed), encoding="utf-8")
    for name, text in (("old", json.dumps(report | {"schema": 1})), ("cut", json.dumps(report)[:50])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(text, encoding="utf-8")
    return tmp_path


def test_runs_are_found_at_any_depth_and_others_are_named(folder):
    runs, skipped = find_runs(folder)

    assert [run.name for run in runs] == ["a", "deep/b"]
    assert [str(error).split("report.json")[0].split("/")[-2] for error in skipped] == ["cut", "old"]


def test_a_folder_that_is_itself_a_run_is_one(folder):
    assert [run.name for run in find_runs(folder / "a")[0]] == ["a"]


def test_a_folder_without_a_report_is_an_error(tmp_path):
    with pytest.raises(ReportError, match="there is none"):
        find_runs(tmp_path)


def test_a_folder_of_nothing_that_can_be_read_says_why(folder):
    with pytest.raises(ReportError, match=r"none of 1 can be read; .* follows schema 1"):
        find_runs(folder / "old")


def run_of(report, name, **changes):
    changed = copy.deepcopy(report)
    for section, values in changes.items():
        changed[section] |= values
    return Run(name, None, changed)


def test_runs_are_compared_with_those_of_the_same_model_metric_and_samples(report):
    runs = [
        run_of(report, "a"),
        run_of(report, "other model", model={"sha256": "0" * 64}),
        run_of(report, "b", quality={"source": f"elsewhere/{report['quality']['source']}"}),
        run_of(report, "other samples", quality={"samples": 10}),
        run_of(report, "other metric", quality={"metric": "agreement with the original"}),
    ]

    groups = compare(runs)

    assert [[run.name for run in group.runs] for group in groups] == [
        ["a", "b"],
        ["other model"],
        ["other samples"],
        ["other metric"],
    ]


def test_runs_of_a_group_stand_by_size(report):
    sizes = {"a": 300, "b": 100, "c": 200}
    runs = [run_of(report, name, size={"compressed_bytes": size}) for name, size in sizes.items()]

    assert [run.name for run in compare(runs)[0].runs] == ["b", "c", "a"]


def test_latencies_are_compared_only_where_they_were_measured_alike(report):
    here = report["latency"][0]
    there = copy.deepcopy(here) | {"host": "pi"}
    first, second = run_of(report, "a"), run_of(report, "b")
    first.report["latency"] = [there]
    second.report["latency"] = [here, there | {"original": there["original"] | {"p50_ms": 9.0}}]

    group = compare([first, second])[0]

    assert [device[0] for device in group.devices] == ["pi", here.get("host", "this machine")]
    assert first.latency(group.devices[1]) is None
    assert group.original_ms(group.devices[0]) == pytest.approx((9.0 + there["original"]["p50_ms"]) / 2)
    assert device_text(group.devices[0]).startswith("pi, ")
    assert device_text((*group.devices[0][:-1], "out")).endswith(", without copies")


def test_what_was_not_measured_has_no_device(report):
    failed = {"provider": "X", "device": "d", "threads": 1, "batch": 1, "error": "no driver"}
    run = run_of(report, "a")
    run.report["latency"] = [failed]

    assert compare([run])[0].devices == []


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 0.9), (2, 0.95), (3, 0.93)], [0, 1]),
        ([(3, 0.9), (2, 0.9), (1, 0.9)], [2]),
        ([(1, 0.8), (1, 0.9)], [1]),
        ([(1, 0.9), (1, 0.9)], [0, 1]),
        ([(5, 0.1)], [0]),
        ([], []),
    ],
)
def test_the_front_holds_what_nothing_beats_in_both(points, front):
    assert pareto_front(points) == front


def test_the_front_of_many_points_is_what_comparing_all_pairs_finds():
    points = [((7 * n) % 31 / 31, (11 * n) % 37 / 37) for n in range(200)]

    def beaten(index):
        cost, score = points[index]
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)

    assert sorted(pareto_front(points)) == [index for index in range(len(points)) if not beaten(index)]
