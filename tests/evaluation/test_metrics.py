"""Metrics from a table of counts: those that scikit-learn finds, as far as the bins can tell."""

import itertools
import math

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from stages.evaluation.metrics import (
    BIN_EDGES,
    BINS,
    all_metrics,
    calibration_curve,
    count_rows,
    group_metrics,
    intervals,
    metrics_of,
    one_against_rest,
    possible_cells,
    roc_curve,
    score_histogram,
)

CLASSES = [2, 3, 5]


def noisy_table(classes, seed=0):
    """A table as it is released: fractions of rows in every possible cell."""
    source = np.random.default_rng(seed)
    return np.where(possible_cells(classes), source.gamma(1, 10, (classes, classes, BINS)), 0)


def expanded(table):
    """Return label, predicted, bin and weight of every cell, for functions that take rows."""
    cells = np.array(list(np.ndindex(table.shape)))
    return *cells.T, table.ravel()


@pytest.fixture
def scored():
    """400 labels and the probabilities that a middling classifier gives them."""
    source = np.random.default_rng(0)
    labels = source.integers(0, 2, 400)
    chance = 1 / (1 + np.exp(-source.normal(2.0 * labels - 1)))
    return labels, np.column_stack([1 - chance, chance])


# --- bands ---------------------------------------------------------------------------------------


def test_a_prediction_is_at_most_one_band_off_as_counted_by_hand():
    table = np.zeros((3, 3, BINS))
    # Of 10 rows: 4 in their band, 3 one above it, 1 one below, 2 off by two.
    table[0, 0, 8], table[1, 1, 8], table[0, 1, 3] = 2, 2, 3
    table[2, 1, 3], table[0, 2, 3], table[2, 0, 3] = 1, 1, 1
    assert metrics_of(table, ordered=True)["within_one_band"] == 0.8
    assert "within_one_band" not in metrics_of(table)
    moved = intervals(table, np.stack([table, table]), ordered=True)
    assert moved["within_one_band"] == 0
    table[0, 2, 3] = 6
    assert metrics_of(table, ordered=True)["within_one_band"] == 8 / 15


def test_of_two_bands_none_is_more_than_one_off():
    assert metrics_of(noisy_table(2), ordered=True)["within_one_band"] == 1


# --- metrics against scikit-learn ----------------------------------------------------------------


def by_sklearn(table):
    """The oracle: scikit-learn's metrics of weighted rows."""
    label, predicted, cell, weight = expanded(table)
    average = "binary" if len(table) == 2 else "macro"
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        label, predicted, average=average, sample_weight=weight
    )
    losses = [
        quad(lambda p: -math.log(p), low, high)[0] / (high - low)
        for low, high in itertools.pairwise(BIN_EDGES)
    ]
    metrics = {
        "accuracy": sklearn.metrics.accuracy_score(label, predicted, sample_weight=weight),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(
            label, predicted, sample_weight=weight
        ),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "loss": np.average(np.array(losses)[cell], weights=weight),
    }
    if len(table) == 2:
        score = np.where(label == 1, cell, BINS - 1 - cell)
        metrics["roc_auc"] = sklearn.metrics.roc_auc_score(label, score, sample_weight=weight)
    return metrics


def counted(labels, probabilities):
    """The exact table as the metrics take it."""
    return count_rows(labels, probabilities).astype(float)


def plain(metrics):
    return {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("classes", CLASSES)
def test_metrics_are_those_of_sklearn(classes):
    table = noisy_table(classes)
    assert plain(all_metrics(table)) == pytest.approx(by_sklearn(table))


@pytest.mark.parametrize("classes", CLASSES)
def test_figures_of_subgroups_are_those_of_sklearn(classes):
    tables = [noisy_table(classes, seed) for seed in range(3)]
    found = group_metrics(np.array(tables).sum(axis=-1))
    for number, table in enumerate(tables):
        expected = by_sklearn(table)
        assert found["rows"][number] == pytest.approx(table.sum())
        for name in ("accuracy", "recall"):
            assert found[name][number] == pytest.approx(expected[name])


@pytest.mark.parametrize("classes", CLASSES)
def test_rates_of_each_class_against_the_rest_are_those_of_sklearn(classes):
    table = noisy_table(classes)
    label, predicted, _, weight = expanded(table)
    for number, (false_positives, true_positives) in enumerate(one_against_rest(table)):
        matrix = sklearn.metrics.confusion_matrix(
            label == number, predicted == number, sample_weight=weight, normalize="true"
        )
        assert [false_positives, true_positives] == pytest.approx(matrix[:, 1])


@pytest.mark.parametrize("classes", CLASSES)
def test_labels_taken_for_predictions_would_show(classes):
    table = noisy_table(classes)
    swapped, right = plain(all_metrics(table.swapaxes(0, 1))), by_sklearn(table)
    assert swapped["recall"] != pytest.approx(right["recall"], rel=1e-3)
    assert swapped["precision"] != pytest.approx(right["precision"], rel=1e-3)


@pytest.mark.parametrize("classes", CLASSES)
def test_many_tables_at_once_give_what_each_gives_alone(classes):
    tables = np.array([[noisy_table(classes, seed=3 * i + j) for j in range(3)] for i in range(2)])
    together = all_metrics(tables)
    for place in np.ndindex(2, 3):
        one_of_them = {name: float(values[place]) for name, values in together.items()}
        assert one_of_them == pytest.approx(plain(all_metrics(tables[place])))


def empty_somewhere(classes):
    """Tables without rows, with one label only, and with one prediction only."""
    yield np.zeros((classes, classes, BINS))
    for place in range(classes):
        for axis in (0, 1):
            only = np.zeros((classes, classes, 1))
            np.moveaxis(only, axis, 0)[place] = 1
            yield only * noisy_table(classes)


@pytest.mark.parametrize("classes", CLASSES)
def test_empty_classes_give_zero_not_a_division_by_zero(classes):
    with np.errstate(all="raise"):
        for table in empty_somewhere(classes):
            assert all(map(math.isfinite, plain(all_metrics(table)).values()))
            assert all(map(math.isfinite, intervals(table, table[None]).values()))
    nothing = all_metrics(np.zeros((classes, classes, BINS)))
    assert all(value == 0 for value in nothing.values())


def test_an_empty_class_alone_does_not_hide_the_others():
    # Three of four rows of label 0 are right, label 1 has none.
    table = np.zeros((2, 2, BINS))
    table[0, 0, -1], table[0, 1, 0] = 3, 1
    found = plain(all_metrics(table))
    assert found["accuracy"] == 0.75
    assert (found["recall"], found["precision"], found["f1"], found["roc_auc"]) == (0, 0, 0, 0)
    assert found["balanced_accuracy"] == 0.375


# --- counting rows -------------------------------------------------------------------------------


def cell_of(label, probabilities):
    """Return (predicted, lower edge, upper edge) of where one row is counted."""
    table = count_rows(np.array([label]), np.array([probabilities]))
    ((_, predicted, cell),) = np.argwhere(table)
    return predicted, BIN_EDGES[cell], BIN_EDGES[cell + 1]


@pytest.mark.parametrize(
    ("label", "probabilities", "expected"),
    [
        # a tie goes to the lower class: right for label 0 ...
        (0, [0.5, 0.5], (0, 0.5, 0.65)),
        # ... and wrong for label 1, whose 0.5 counts as just below
        (1, [0.5, 0.5], (0, 0.35, 0.5)),
        (0, [1.0, 0.0], (0, 0.98, 1)),
        (1, [1.0, 0.0], (0, 0, 0.02)),
        (1, [0.0, 1.0], (1, 0.98, 1)),
        # a third, rounded down, is right all the same
        (0, [1 / 3, 1 / 3, 1 / 3], (0, 0.2, 0.35)),
        (0, [0.2, 0.2, 0.2, 0.2, 0.2], (0, 0.2, 0.35)),
        (0, [math.nextafter(0.2, 0)] * 5, (0, 0.2, 0.35)),
        # an edge belongs to the bin above it
        (0, [0.65, 0.35], (0, 0.65, 0.8)),
        (0, [0.02, 0.98], (1, 0.02, 0.05)),
    ],
)
def test_a_row_is_counted_where_its_probability_is(label, probabilities, expected):
    assert cell_of(label, probabilities) == expected


def test_plain_binning_of_a_tie_would_fill_an_impossible_cell():
    # What the special case is for: 0.5 lies in [0.5, 0.65), where no wrong row can be.
    assert not possible_cells(2)[1, 0, np.digitize(0.5, BIN_EDGES) - 1]


def test_a_cell_is_possible_if_a_row_can_be_in_it():
    # By trying: the label's probability in steps of 1/200, the rest on one class or spread evenly.
    for classes in CLASSES:
        seen = np.zeros((classes, classes, BINS), dtype=bool)
        for label, other in itertools.permutations(range(classes), 2):
            for p in np.linspace(0.0025, 0.9975, 200):
                one = np.zeros(classes)
                one[label], one[other] = p, 1 - p
                even = np.full(classes, (1 - p) / (classes - 1))
                even[label] = p
                seen |= count_rows(np.array([label, label]), np.array([one, even])) > 0
        assert np.array_equal(seen, possible_cells(classes))


def normalised(weights):
    return np.array(weights) / np.sum(weights)


# Whole numbers, so that ties, zeros and ones are common.
probabilities_with_ties = st.integers(2, 6).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(0, 4), min_size=classes, max_size=classes).filter(any).map(normalised)
        | st.lists(st.floats(1e-6, 1), min_size=classes, max_size=classes).map(normalised),
        min_size=1,
        max_size=8,
    )
)


@settings(deadline=None)
@given(rows=probabilities_with_ties, seed=st.integers(0, 99))
@example(rows=[np.array([0.5, 0.5])] * 8, seed=0)
def test_every_row_is_counted_once_in_a_possible_cell(rows, seed):
    probabilities = np.array(rows)
    classes = probabilities.shape[1]
    labels = np.random.default_rng(seed).integers(0, classes, len(rows))
    table = count_rows(labels, probabilities)
    assert not table[~possible_cells(classes)].any()
    confusion = sklearn.metrics.confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=range(classes)
    )
    assert np.array_equal(table.sum(axis=2), confusion)


def test_probabilities_that_are_not_numbers_do_not_count_as_certainty():
    labels = np.array([0, 1])
    table = counted(labels, np.full((2, 2), math.nan))
    assert not table[~possible_cells(2)].any()
    assert all_metrics(table)["loss"] >= math.log(2)


# --- curves against exact scores -----------------------------------------------------------------


def test_scores_are_counted_by_the_probability_of_class_1(scored):
    labels, probabilities = scored
    histogram = score_histogram(counted(labels, probabilities))
    for label in (0, 1):
        expected, _ = np.histogram(probabilities[labels == label, 1], BIN_EDGES)
        assert np.array_equal(histogram[label], expected)


def test_roc_points_are_those_of_the_exact_scores(scored):
    labels, probabilities = scored
    false_positives, true_positives = roc_curve(counted(labels, probabilities))
    exact_false, exact_true, thresholds = sklearn.metrics.roc_curve(
        labels, probabilities[:, 1], drop_intermediate=False
    )
    # For each edge from the top, sklearn's point at the last threshold that is not below it.
    at_edges = [np.flatnonzero(thresholds >= edge)[-1] for edge in BIN_EDGES[::-1]]
    assert false_positives == pytest.approx(exact_false[at_edges])
    assert true_positives == pytest.approx(exact_true[at_edges])


def test_roc_area_is_the_exact_one_up_to_pairs_within_a_bin(scored):
    # The order of a 0 and a 1 in the same bin is unknown, and counted as half.
    labels, probabilities = scored
    table = counted(labels, probabilities)
    zeros, ones = score_histogram(table)
    unknown = (zeros * ones).sum() / (zeros.sum() * ones.sum()) / 2
    exact = sklearn.metrics.roc_auc_score(labels, probabilities[:, 1])
    assert 0.01 < unknown < 0.05
    assert all_metrics(table)["roc_auc"] == pytest.approx(exact, abs=unknown)


def test_loss_is_the_exact_one_up_to_the_width_of_the_bins(scored):
    # Within a bin -log p varies by log(upper / lower); nobody here is in the first, without bound.
    labels, probabilities = scored
    table = counted(labels, probabilities)
    by_bin = table.sum(axis=(0, 1))
    assert by_bin[0] == 0
    widths = np.log(BIN_EDGES[2:] / BIN_EDGES[1:-1])
    unknown = np.average(widths, weights=by_bin[1:])
    exact = sklearn.metrics.log_loss(labels, probabilities)
    assert all_metrics(table)["loss"] == pytest.approx(exact, abs=unknown)


def test_calibration_is_that_of_sklearn_on_the_same_bins(scored):
    labels, probabilities = scored
    share, rows = calibration_curve(counted(labels, probabilities))
    cells = np.searchsorted(BIN_EDGES, probabilities[:, 1]) - 1
    # sklearn's bins are even: bin k of ours is (k + 1/2) / BINS there. It leaves out empty ones.
    expected, _ = sklearn.calibration.calibration_curve(
        labels, (cells + 0.5) / BINS, n_bins=BINS, strategy="uniform"
    )
    assert share[rows > 0] == pytest.approx(expected)
    assert np.array_equal(rows, np.bincount(cells, minlength=BINS))


# --- intervals -----------------------------------------------------------------------------------


def test_interval_without_noise_is_what_the_bins_hide():
    # Three 0s and two 1s in one bin are 6 pairs. In random order, the Mann-Whitney statistic has
    # the variance 6·(3 + 2 + 1) / 12 = 3; how well they are in order adds 6² / 12 = 3. The area is
    # a sixth of the statistic.
    table = np.zeros((2, 2, BINS))
    table[0, 0, 7], table[1, 0, 4] = 3, 2
    assert np.array_equal(score_histogram(table)[:, 4], [3, 2])
    found = intervals(table, table[None])
    assert found["roc_auc"] == pytest.approx(1.96 * math.sqrt(6) / 6)
    # Figures that do not depend on where in its bin a row is are exact.
    assert found["accuracy"] == found["recall"] == found["f1"] == 0


def test_rows_of_one_cell_hide_their_loss_together():
    # All ten rows at one place of (0.98, 1]: ± 1.96 standard deviations of -log p over that bin.
    table = np.zeros((2, 2, BINS))
    table[1, 1, -1] = 10
    mean = quad(lambda p: -math.log(p), 0.98, 1)[0] / 0.02
    variance = quad(lambda p: (-math.log(p) - mean) ** 2, 0.98, 1)[0] / 0.02
    assert intervals(table, table[None])["loss"] == pytest.approx(1.96 * math.sqrt(variance))


def test_interval_is_the_distance_that_19_of_20_redraws_keep():
    # Accuracies of 0.50, 0.51 ... 0.60 away from 0.5: the 95th percentile of 0 ... 0.1 is 0.095.
    table = np.zeros((2, 2, BINS))
    table[0, 0, -1], table[0, 1, 0] = 50, 50
    redraws = np.repeat(table[None], 11, axis=0)
    redraws[:, 0, 0, -1] += np.arange(11)
    redraws[:, 0, 1, 0] -= np.arange(11)
    assert intervals(table, redraws)["accuracy"] == pytest.approx(0.095)
