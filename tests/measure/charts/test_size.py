import pytest
from drawing import has_table, parsed, texts

from toolchain.measure.charts.size import file_chart, share_chart, tensor_bytes_chart

SIZE = {
    "original_bytes": 1000,
    "compressed_bytes": 100,
    "ratio": 10.0,
    "gzip_original_bytes": 900,
    "gzip_compressed_bytes": 90,
    "gzip_ratio": 10.0,
}


def tensor(name, before, after, encoding="packed"):
    return {"name": name, "size": before // 4, "original_bytes": before, "bytes": after, "encoding": encoding}


def test_both_files_have_a_bar_plain_and_gzipped():
    chart = file_chart(SIZE)

    assert len(parsed(chart).findall("rect")) == 4
    assert chart.rows[0] == ("file", "1.00 KB", "100 B", "10.0x")
    assert has_table(chart)


def test_a_file_that_grew_is_said_to_be_larger():
    assert "file, 2.00x larger" in texts(file_chart(SIZE | {"ratio": 0.5}))


def test_the_parts_of_each_file_add_up_to_the_whole():
    chart = share_chart(SIZE, [tensor("a", 400, 30), tensor("b", 400, 20, "sparse"), tensor("c", 100, 10)])

    assert [row[:3] for row in chart.rows] == [
        ("original", "dense", "900"),
        ("original", "everything else", "100"),
        ("compressed", "packed", "40"),
        ("compressed", "sparse", "20"),
        ("compressed", "everything else", "40"),
    ]
    widths = [float(rect.attrib["width"]) for rect in parsed(chart).iter("rect")]
    assert sum(widths[:2]) == pytest.approx(360)
    assert sum(widths[2:]) == pytest.approx(360)
    assert has_table(chart)


def test_an_encoding_has_the_same_colour_in_both_files():
    chart = share_chart(SIZE, [tensor("a", 400, 30, "dense"), tensor("b", 400, 20)])

    assert [part for _, part in chart.legend] == ["dense", "everything else", "packed"]
    assert len({hue for hue, _ in chart.legend}) == 3


def test_files_without_weights_consist_of_everything_else():
    assert [row[1:] for row in share_chart(SIZE, []).rows] == [
        ("everything else", "1,000", "100.00 %"),
        ("everything else", "100", "100.00 %"),
    ]


def test_every_tensor_has_its_bytes_and_its_encoding():
    chart = tensor_bytes_chart([tensor("a", 4000, 30), tensor("gone", 400, 0)])

    assert "30 B, packed" in texts(chart)
    assert len(list(parsed(chart).iter("circle"))) == 4
    assert has_table(chart)
