import pytest

from toolchain.measure.verdict import real_accuracy_missing, verdict_section


def claims(report):
    return [finding["claim"] for finding in verdict_section(report)]


def finding(report, start):
    return next(found for found in verdict_section(report) if found["claim"].startswith(start))


def test_a_smaller_file_is_said_with_its_bytes(report):
    report["size"] |= {"original_bytes": 1_700_000, "compressed_bytes": 20_000, "ratio": 85.0}

    found = finding(report, "the file is 85.0x smaller")

    assert found["claim"].endswith("1.70 MB to 20.0 KB")
    assert "40 of 160 weights" in found["why"]


def test_a_file_that_grew_is_said_too(report):
    report["size"] |= {"original_bytes": 100, "compressed_bytes": 120, "ratio": 100 / 120}

    assert "the file is not smaller: 100 B to 120 B" in claims(report)


@pytest.mark.parametrize(
    ("drop", "interval", "start"),
    [
        (0.021, [0.015, 0.027], "accuracy fell by 2.10 points"),
        (0.001, [-0.002, 0.004], "no measurable change of accuracy"),
        (-0.01, [-0.015, -0.005], "accuracy rose by 1.00 points"),
    ],
)
def test_accuracy_is_judged_by_its_interval(report, drop, interval, start):
    report["quality"] |= {"drop": drop, "drop_ci95": interval}

    assert finding(report, start)
    assert not real_accuracy_missing(report)


PRUNE = {"step": "prune", "groups": [{"structure": "unstructured"}], "allocate": "auto"}
GROUPS = PRUNE | {"groups": [{"structure": "groups8"}, {"structure": "unstructured"}]}


@pytest.mark.parametrize(
    ("plan", "hint"),
    [
        ([PRUNE, {"step": "train", "epochs": 3}], "train for more epochs, or ask for a lower ratio"),
        (
            [{"step": "quantize"}, {"step": "train", "budget_s": 60}],
            "train for longer with --budget, or ask for more bits",
        ),
        (
            [{"step": "quantize"}, {"step": "train", "epochs": 0}],
            "train, which --epochs 0 leaves out, or ask for more bits",
        ),
        (
            [GROUPS],
            "train for more epochs, or prune where it loses least, which saves less time, by --allocate parameters, "
            "or ask for a lower ratio",
        ),
        ([GROUPS | {"allocate": "parameters"}], "train for more epochs, or ask for a lower ratio"),
        ([PRUNE | {"groups": [{"structure": "2:4"}]}], "train for more epochs"),
    ],
    ids=["prune", "time", "untrained", "groups", "groups by parameters", "2:4"],
)
def test_a_fall_of_accuracy_says_what_helps_of_what_was_asked(report, plan, hint):
    report["quality"] |= {"drop": 0.021, "drop_ci95": [0.015, 0.027]}
    report["plan"] = plan

    assert finding(report, "accuracy fell")["hint"] == hint


@pytest.mark.parametrize(("kind", "why"), [("synthetic", "no data were given"), ("unlabelled", "no labels")])
def test_without_labels_the_first_finding_is_that_accuracy_was_not_measured(report, kind, why):
    report["quality"] |= {"data": kind, "metric": "agreement with the original", "compressed": 0.93, "drop": 0.07}

    first = verdict_section(report)[0]

    assert first["claim"] == "accuracy on real data was not measured"
    assert why in first["why"]
    assert any("93.00 %" in claim for claim in claims(report))


def test_gzip_is_mentioned_where_it_gains(report):
    report["size"] |= {"compressed_bytes": 1000, "gzip_compressed_bytes": 500}
    assert any(claim.startswith("gzip makes") for claim in claims(report))

    report["size"]["gzip_compressed_bytes"] = 990
    assert not any("gzip" in claim for claim in claims(report))
