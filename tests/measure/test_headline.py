import pytest

from toolchain.measure.headline import headline


def tiles(report):
    return dict(zip(("size", "speed", "quality", "weights"), headline(report), strict=True))


def test_size_is_good_news_where_the_file_is_smaller(report):
    report["size"] |= {"original_bytes": 1_000_000, "compressed_bytes": 10_000, "ratio": 100.0}
    tile = tiles(report)["size"]
    assert (tile.figure, tile.unit, tile.detail, tile.tone) == ("100x", "smaller", "1.00 MB → 10.0 KB", "good")

    report["size"]["ratio"] = 0.5
    assert (tiles(report)["size"].unit, tiles(report)["size"].tone) == ("larger", "warn")


@pytest.mark.parametrize(
    ("speedup", "interval", "figure", "unit", "tone"),
    [
        (2.0, [1.9, 2.1], "2.00x", "faster", "good"),
        (0.5, [0.4, 0.6], "2.00x", "slower", "warn"),
        (1.01, [0.9, 1.1], "1.01x", "no difference", ""),
    ],
)
def test_speed_is_judged_by_its_interval(report, speedup, interval, figure, unit, tone):
    report["latency"][0] |= {"speedup": speedup, "speedup_ci95": interval}

    tile = tiles(report)["speed"]

    assert (tile.figure, tile.unit, tile.tone) == (figure, unit, tone)
    assert tile.label == "Speed, CPU, 1 thread, batch 1"


def test_a_machine_too_noisy_to_tell_is_no_good_news(report):
    report["latency"][0] |= {"speedup": 2.0, "speedup_ci95": [0.9, 3.1], "noisy": True}

    assert (tiles(report)["speed"].unit, tiles(report)["speed"].tone) == ("too noisy to tell", "")


def test_speed_that_was_not_measured_is_said(report):
    report["latency"] = [{"error": "no driver"}]

    assert (tiles(report)["speed"].figure, tiles(report)["speed"].detail) == ("-", "not measured")


@pytest.mark.parametrize(
    ("drop", "interval", "figure", "tone"),
    [
        (0.0, [-0.001, 0.001], "+0.00", "good"),
        (-0.002, [-0.003, -0.001], "+0.20", "good"),
        (0.005, [0.003, 0.007], "-0.50", ""),
        (0.02, [0.01, 0.03], "-2.00", "warn"),
    ],
)
def test_accuracy_is_good_news_where_nothing_was_measurably_lost(report, drop, interval, figure, tone):
    report["quality"] |= {"drop": drop, "drop_ci95": interval}

    assert (tiles(report)["quality"].figure, tiles(report)["quality"].tone) == (figure, tone)


def test_what_was_measured_on_synthetic_inputs_is_never_good_news(report):
    report["quality"] |= {"metric": "agreement with the original", "data": "synthetic", "compressed": 1.0, "drop": 0.0}

    tile = tiles(report)["quality"]

    assert (tile.label, tile.figure) == ("Same class as the original, synthetic inputs", "100.00 %")
    assert tile.tone == "warn"


def test_a_metric_that_is_not_defined_is_said(report):
    report["quality"] |= {"metric": "cosine similarity to the original", "compressed": None, "drop": None}

    assert tiles(report)["quality"].detail == "not defined"


def test_a_model_without_weights_says_so(report):
    report["weights"] |= {"total": 0, "nonzero": 0, "bits_per_weight": None}

    assert tiles(report)["weights"].detail == "none that can be pruned or quantized"
