import numpy as np
import pytest

from toolchain.measure.agreement import WORST, ClassAgreement, kl_divergence


def test_divergence_is_the_same_from_logits_and_from_their_softmax():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 8, 5))
    probabilities = [np.exp(logits) / np.exp(logits).sum(1, keepdims=True) for logits in (first, second)]

    assert kl_divergence(first, second) == pytest.approx(kl_divergence(*probabilities))
    assert kl_divergence(first, first) == pytest.approx(np.zeros(8))


def test_divergence_stays_finite_where_a_probability_underflowed():
    assert np.isfinite(kl_divergence(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])))
    assert np.isfinite(kl_divergence(np.array([[0.0, 1.0]]), np.array([[0.0, -1e6]])))
    assert np.isfinite(kl_divergence(np.array([[0.0, -np.inf]]), np.array([[0.0, -np.inf]])))


def test_accuracy_and_its_drop_count_each_sample_once():
    first = np.eye(3)[[0, 1, 2, 0]]
    second = np.eye(3)[[0, 1, 0, 1]]
    counts = ClassAgreement()
    counts.add(first, second, np.array([0, 1, 2, 1]))

    assert counts.agreement == 0.5
    assert counts.accuracy == (0.75, 0.75)
    low, high = counts.drop_ci95()
    assert low == -high < 0


def test_models_that_never_differ_have_a_drop_of_exactly_zero():
    counts = ClassAgreement()
    counts.add(np.eye(3), np.eye(3), np.array([0, 1, 1]))

    assert counts.drop_ci95() == (0.0, 0.0)


def test_classes_are_those_of_the_labels_over_all_batches():
    first, second = np.eye(3)[[0, 1, 2, 0]], np.eye(3)[[0, 1, 0, 1]]
    counts = ClassAgreement()
    for part in (slice(0, 2), slice(2, 4)):
        counts.add(first[part], second[part], np.array([0, 2, 2, 0])[part])

    assert counts.class_rows() == [
        {"class": 0, "samples": 2, "original": 2, "compressed": 1},
        {"class": 2, "samples": 2, "original": 1, "compressed": 0},
    ]


def test_without_labels_a_class_is_the_one_that_the_original_chooses():
    counts = ClassAgreement()
    counts.add(np.eye(3)[[0, 1, 1]], np.eye(3)[[0, 1, 2]], None)

    assert counts.class_rows() == [
        {"class": 0, "samples": 1, "original": 1, "compressed": 1},
        {"class": 1, "samples": 2, "original": 2, "compressed": 1},
    ]


def test_the_worst_samples_are_those_of_another_class_and_then_those_that_diverge_most():
    first = np.array([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [0.2, 0.0]])
    second = np.array([[0.5, 0.0], [3.0, 0.0], [0.1, 0.0], [0.0, 0.2]])
    counts = ClassAgreement()
    for part in (slice(0, 2), slice(2, 4)):
        counts.add(first[part], second[part], np.array([0, 0, 0, 1])[part])

    assert [row["index"] for row in counts.worst] == [3, 2, 0]
    assert counts.worst[0] | {"divergence": 0} == {
        "index": 3,
        "label": 1,
        "original": 0,
        "compressed": 1,
        "divergence": 0,
    }
    assert counts.worst[1]["divergence"] > counts.worst[2]["divergence"] > 0


def test_the_list_of_worst_samples_does_not_depend_on_the_batches():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 200, 5))
    whole, parts = ClassAgreement(), ClassAgreement()
    whole.add(first, second, None)
    for start in range(0, 200, 32):
        parts.add(first[start : start + 32], second[start : start + 32], None)

    assert len(whole.worst) == WORST
    assert [row["index"] for row in whole.worst] == [row["index"] for row in parts.worst]


def test_scores_that_are_not_numbers_come_first_among_the_worst():
    counts = ClassAgreement()
    counts.add(np.array([[0.3, 0.1], [1.0, 0.0]]), np.array([[0.2, 0.1], [np.nan, 0.0]]), None)

    assert [row["index"] for row in counts.worst] == [1, 0]
