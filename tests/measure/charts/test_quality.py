import pytest
from drawing import has_table, parsed, texts

from toolchain.measure.charts.quality import MOST_CLASSES, classes_chart, drop_chart


@pytest.fixture
def quality(report):
    return report["quality"]


def test_the_drop_is_drawn_as_a_change_with_its_interval(quality):
    quality |= {"original": 0.9944, "compressed": 0.9925, "drop": 0.0019, "drop_ci95": [0.0004, 0.0034]}

    chart = drop_chart(quality)

    assert "-0.19" in texts(chart)
    assert chart.rows == [("99.44 %", "99.25 %", "-0.19", "-0.34", "-0.04", "40")]
    assert has_table(chart)


def test_no_change_at_all_still_has_an_axis(quality):
    quality |= {"drop": 0.0, "drop_ci95": [0.0, 0.0]}

    assert "+0.00" in texts(drop_chart(quality))


def test_a_metric_without_an_interval_has_no_such_chart(quality):
    del quality["drop_ci95"]

    assert drop_chart(quality) is None


def test_classes_stand_from_the_one_that_lost_most_to_the_one_that_won_most(quality):
    quality["classes"] = [
        {"class": 3, "samples": 10, "original": 9, "compressed": 9},
        {"class": 5, "samples": 10, "original": 9, "compressed": 10},
        {"class": 8, "samples": 10, "original": 9, "compressed": 4},
    ]

    chart = classes_chart(quality)

    assert [text for text in texts(chart) if "class" in text] == ["class 8", "class 3", "class 5"]
    assert {"-50.0", "0", "+10.0"} <= set(texts(chart))
    assert chart.rows[0] == ("8", "10", "90.00 %", "40.00 %", "-50.00")
    assert [rect.attrib["class"] for rect in parsed(chart).iter("rect")] == ["worse", "better"]


def test_of_many_classes_those_that_changed_most_are_drawn_and_all_are_in_the_table(quality):
    quality["classes"] = [
        {"class": index, "samples": 1000, "original": 500, "compressed": 500 + index - 50} for index in range(100)
    ]

    chart = classes_chart(quality)

    drawn = [text for text in texts(chart) if "class" in text]
    assert (drawn[0], drawn[-1], len(drawn)) == ("class 0", "class 99", MOST_CLASSES)
    assert len(chart.rows) == 100
    assert f"The {MOST_CLASSES} that changed most of 100 classes" in chart.note


def test_classes_that_did_not_change_have_no_bars(quality):
    quality["classes"] = [{"class": 0, "samples": 10, "original": 9, "compressed": 9}]

    assert list(parsed(classes_chart(quality)).iter("rect")) == []


def test_without_class_scores_there_is_no_chart_of_classes(quality):
    assert classes_chart(quality | {"classes": []}) is None


def test_without_labels_the_chart_is_of_agreement(quality):
    chart = classes_chart(quality | {"metric": "agreement with the original"})

    assert chart.title == "Agreement in each class"
    assert "more" not in [label for _, label in chart.legend]
