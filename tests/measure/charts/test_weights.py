from drawing import has_table, parsed, texts

from toolchain.measure.charts.weights import bits_chart, histogram_charts, histogram_table, kept_chart


def test_every_tensor_has_a_row(report):
    tensors = report["weights"]["tensors"]

    for chart in (kept_chart(tensors), bits_chart(tensors)):
        assert {"first_weight", "second_weight"} <= set(texts(chart))
        assert has_table(chart)


def test_a_tensor_without_a_kept_weight_has_no_dot_for_them(report):
    tensor = report["weights"]["tensors"][0] | {"nonzero": 0}

    assert len(list(parsed(kept_chart([tensor])).iter("circle"))) == 1


def test_every_filled_bin_has_a_bar_before_the_shape_of_the_original(report):
    tensors = report["weights"]["tensors"]

    charts = histogram_charts(tensors)

    assert [chart.title for chart in charts] == ["first_weight", "second_weight"]
    filled = sum(map(bool, tensors[0]["histogram"]["compressed"]))
    assert len(parsed(charts[0]).findall("rect")) == filled
    assert len(parsed(charts[0]).findall("path")) == 1
    assert f"{tensors[0]['nonzero']:,} after" in parsed(charts[0]).find("desc").text


def test_a_tensor_of_zeros_alone_has_no_histogram(report):
    tensors = [row | {"histogram": None} for row in report["weights"]["tensors"]]

    assert histogram_charts(tensors) == []
    assert histogram_table(tensors) == []


def test_the_table_of_histograms_counts_values_and_filled_bins(report):
    tensors = report["weights"]["tensors"]

    first = histogram_table(tensors)[0]

    assert (first[0], first[3], first[4]) == ("first_weight", "96", str(tensors[0]["nonzero"]))
    assert int(first[5]) >= int(first[6])
