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
from scipy.stats import norm

from benchmarks.released_figures import counted, exact_figures, scored_rows
from stages.evaluation.estimate import SHARE, Estimate
from stages.evaluation.layout import Layout, Table
from stages.evaluation.metrics import (
    all_metrics,
    calibration_curve,
    group_metrics,
    one_against_rest,
    operating_points,
    ranges,
    roc_area,
    roc_curve,
)
from stages.evaluation.release import CountRelease
from stages.evaluation.released import Released, figures_of_groups
from stages.evaluation.scores import (
    CELLS,
    MIDDLE,
    THRESHOLDS,
    bin_losses,
    bin_means,
    cells_of,
    choose_thresholds,
    logits,
    with_middle,
)

CLASSES = [2, 3, 5]
COARSE = np.array([MIDDLE - 8, MIDDLE, MIDDLE + 8])  # of THRESHOLDS


def layout(classes, places=COARSE):
    return Layout(classes, places)


def noisy_table(classes, seed=0):
    """A table as it is released, but for counts below zero: fractions of rows."""
    own = layout(classes)
    source = np.random.default_rng(seed)
    return own.table(own.basis @ source.gamma(2, 10, own.basis.shape[1]))


def exact_table(labels, probabilities, places):
    """The exact table of rows in some bins."""
    counts, own = counted(labels, probabilities), layout(probabilities.shape[1], places)
    return own.table(own.counts(counts.confusion, counts.scores))


@pytest.fixture
def scored():
    """400 labels and the probabilities that a middling classifier gives them."""
    return scored_rows(np.random.default_rng(0), 400, separation=1.0)


# --- bands ---------------------------------------------------------------------------------------


def test_a_prediction_is_at_most_one_band_off_as_counted_by_hand():
    scores = np.ones((3, 2, 2))
    # Of 10 rows: 4 in their band, 3 one above it, 1 one below, 2 off by two.
    confusion = np.array([[2.0, 3, 1], [0, 2, 0], [1, 1, 0]])
    table = Table(confusion, scores, THRESHOLDS[[MIDDLE]])
    assert all_metrics(table, ordered=True)["within_one_band"] == 0.8
    assert "within_one_band" not in all_metrics(table)
    confusion[0, 2] = 6
    assert all_metrics(table, ordered=True)["within_one_band"] == 8 / 15
    two = Table(np.array([[3.0, 4], [5, 6]]), np.ones((1, 2, 2)), THRESHOLDS[[MIDDLE]])
    assert all_metrics(two, ordered=True)["within_one_band"] == 1


# --- metrics against scikit-learn ----------------------------------------------------------------


def expanded(confusion):
    """Return label, prediction and weight of every cell, for functions that take rows."""
    label, predicted = np.indices(confusion.shape).reshape(2, -1)
    return label, predicted, confusion.ravel()


def by_sklearn(confusion):
    """The oracle: scikit-learn's metrics of weighted rows."""
    label, predicted, weight = expanded(confusion)
    average = "binary" if len(confusion) == 2 else "macro"
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        label, predicted, average=average, sample_weight=weight
    )
    accuracy = sklearn.metrics.accuracy_score(label, predicted, sample_weight=weight)
    majority = np.full_like(label, confusion.sum(axis=1).argmax())
    base_rate = sklearn.metrics.accuracy_score(label, majority, sample_weight=weight)
    return {
        "accuracy": accuracy,
        "base_rate": base_rate,
        "gain": accuracy - base_rate,
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(
            label, predicted, sample_weight=weight
        ),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def plain(metrics):
    return {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("classes", CLASSES)
def test_metrics_are_those_of_sklearn(classes):
    table = noisy_table(classes)
    found = plain(all_metrics(table))
    assert found.pop("loss") > 0
    assert math.isfinite(found.pop("roc_auc"))
    assert found == pytest.approx(by_sklearn(table.confusion))


@pytest.mark.parametrize("classes", CLASSES)
def test_figures_of_subgroups_are_those_of_sklearn(classes):
    tables = [noisy_table(classes, seed).confusion for seed in range(3)]
    right = np.array([np.diagonal(table) for table in tables])
    groups = np.stack([np.array([table.sum(axis=1) for table in tables]) - right, right], axis=-1)
    found = group_metrics(groups)
    for number, table in enumerate(tables):
        expected = by_sklearn(table)
        assert found["rows"][number] == pytest.approx(table.sum())
        for name in ("accuracy", "recall"):
            assert found[name][number] == pytest.approx(expected[name])


@pytest.mark.parametrize("classes", CLASSES)
def test_rates_of_each_class_against_the_rest_are_those_of_sklearn(classes):
    confusion = noisy_table(classes).confusion
    label, predicted, weight = expanded(confusion)
    for number, (false_positives, true_positives) in enumerate(one_against_rest(confusion)):
        matrix = sklearn.metrics.confusion_matrix(
            label == number, predicted == number, sample_weight=weight, normalize="true"
        )
        assert [false_positives, true_positives] == pytest.approx(matrix[:, 1])


@pytest.mark.parametrize("classes", CLASSES)
def test_labels_taken_for_predictions_would_show(classes):
    table = noisy_table(classes)
    swapped = plain(all_metrics(table._replace(confusion=table.confusion.T)))
    right = by_sklearn(table.confusion)
    assert swapped["recall"] != pytest.approx(right["recall"], rel=1e-3)
    assert swapped["precision"] != pytest.approx(right["precision"], rel=1e-3)


@pytest.mark.parametrize("classes", CLASSES)
def test_many_tables_at_once_give_what_each_gives_alone(classes):
    own = layout(classes)
    counts = np.random.default_rng(0).gamma(1, 10, (2, 3, own.size))
    together = all_metrics(own.table(counts))
    for place in np.ndindex(2, 3):
        one_of_them = {name: float(values[place]) for name, values in together.items()}
        assert one_of_them == pytest.approx(plain(all_metrics(own.table(counts[place]))))


@pytest.mark.parametrize("classes", CLASSES)
def test_empty_classes_give_zero_not_a_division_by_zero(classes):
    own = layout(classes)
    with np.errstate(all="raise"):
        for counts in (np.zeros(own.size), *np.eye(own.size)):
            found = Released(own, Estimate(counts, None)).figures()
            for name, measured in found.items():
                assert np.isfinite(measured.value), name
                assert measured.noise == 0
    nothing = all_metrics(own.table(np.zeros(own.size)))
    assert all(value == 0 for value in nothing.values())


def test_a_model_that_always_says_the_majority_gains_nothing():
    table = noisy_table(3)
    confusion = np.array([[70.0, 0, 0], [20, 0, 0], [10, 0, 0]])
    found = plain(all_metrics(table._replace(confusion=confusion)))
    assert (found["accuracy"], found["base_rate"], found["gain"]) == (0.7, 0.7, 0)


def test_what_is_shown_is_cut_to_what_can_be():
    for name, value, shown in (
        ("accuracy", 1.2, 1.0),
        ("loss", -0.1, 0.0),
        ("loss", 3.0, 3.0),
        ("gain", -0.2, -0.2),
    ):
        assert np.clip(value, *ranges([name])) == shown


# --- counting rows -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probability", "ends"),
    [
        (0.5, (0.48, 0.5)),  # a threshold belongs to the cell below it: only above it is it passed
        (0.51, (0.5, 0.52)),
        (0.012, (0.01, 0.015)),
        (0.9999, (0.99985, 0.9999)),
        (1e-9, (0, 1e-8)),
        (0.0, (0, 1e-8)),
        (1.0, (1 - 1e-8, 1)),
    ],
)
def test_a_score_is_counted_where_it_is(probability, ends):
    (cell,) = cells_of(np.array([[1 - probability, probability]]), 1)
    edges = [0, *THRESHOLDS, 1]
    assert (edges[cell], edges[cell + 1]) == pytest.approx(ends)


def test_a_tie_is_for_the_lower_class():
    tie = counted(np.array([0, 1]), np.full((2, 2), 0.5))
    assert tie.confusion.tolist() == [[1, 0], [1, 0]]
    assert tie.scores[0, :, MIDDLE].tolist() == [1, 1]


def test_rounding_puts_no_score_on_another_side_than_its_prediction():
    # By one unit in the last place, on either side.
    for low, high in itertools.permutations([np.nextafter(0.5, 0), 0.5]):
        counts = counted(np.array([1]), np.array([[low, high]]))
        assert counts.scores[0, 1, MIDDLE + 1] == counts.confusion[1, 1] == (high > low)


def test_probabilities_that_are_not_numbers_do_not_count_as_certainty():
    table = exact_table(np.array([0, 1]), np.full((2, 2), math.nan), COARSE)
    assert all_metrics(table)["loss"] >= math.log(2)


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
def test_every_row_is_counted_once_in_each_part_and_the_parts_agree(rows, seed):
    probabilities = np.array(rows)
    classes = probabilities.shape[1]
    labels = np.random.default_rng(seed).integers(0, classes, len(rows))
    counts = counted(labels, probabilities)
    confusion = sklearn.metrics.confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=range(classes)
    )
    assert np.array_equal(counts.confusion, confusion)
    assert (counts.scores.sum(axis=(1, 2)) == len(rows)).all()
    own = layout(classes)
    vector = own.counts(counts.confusion, counts.scores)
    # What follows from what by the layout holds of every exact count.
    free = np.linalg.lstsq(own.basis, vector, rcond=None)[0]
    np.testing.assert_allclose(own.basis @ free, vector, atol=1e-9)


# --- bins ----------------------------------------------------------------------------------------


def test_bins_hold_equal_shares_of_rows():
    cells = np.random.default_rng(0).integers(0, 50, CELLS).astype(float)
    places = choose_thresholds(cells, 0.0, 8)
    shares = np.add.reduceat(cells, [0, *(places + 1)]) / cells.sum()
    np.testing.assert_allclose(shares, 1 / 8, atol=cells.max() / cells.sum())


def test_where_there_is_but_noise_bins_are_those_of_jeffreys():
    # Of six bins the quantiles of Beta(1/2, 1/2): sin²(π·k / 12).
    noise = np.random.default_rng(0).normal(0, 1e-3, CELLS)
    places = choose_thresholds(noise + 1e-9, 1e3, 6)
    expected = np.sin(np.pi * np.arange(1, 6) / 12) ** 2
    np.testing.assert_allclose(THRESHOLDS[places], expected, atol=0.02)


def test_where_nobody_is_there_are_no_bins():
    cells = np.where(np.arange(CELLS) < MIDDLE, 0.0, 100.0)
    assert (choose_thresholds(cells, 0.0, 16) >= MIDDLE - 1).all()


def test_the_nearest_threshold_becomes_the_middle():
    assert with_middle(np.array([3, MIDDLE - 2, 70])).tolist() == [3, MIDDLE, 70]
    assert with_middle(np.array([3, MIDDLE])).tolist() == [3, MIDDLE]


# --- curves against exact scores -----------------------------------------------------------------


def test_roc_points_are_those_of_the_exact_scores(scored):
    labels, probabilities = scored
    table = exact_table(labels, probabilities, np.arange(len(THRESHOLDS)))
    false_positives, true_positives = roc_curve(table.scores[0])
    for place, threshold in enumerate(THRESHOLDS[::-1], start=1):
        called = probabilities[:, 1] > threshold
        assert false_positives[place] == pytest.approx(called[labels == 0].mean())
        assert true_positives[place] == pytest.approx(called[labels == 1].mean())
    assert (false_positives[0], true_positives[0]) == (0, 0)
    assert (false_positives[-1], true_positives[-1]) == (1, 1)


def test_operating_points_are_those_of_sklearn(scored):
    labels, probabilities = scored
    table = exact_table(labels, probabilities, COARSE)
    points = operating_points(table.scores[0])
    for place, threshold in enumerate(table.thresholds):
        called = probabilities[:, 1] > threshold
        (tn, fp), (fn, tp) = sklearn.metrics.confusion_matrix(labels, called)
        assert {name: values[place] for name, values in points.items()} == pytest.approx(
            {
                "called": called.mean(),
                "sensitivity": tp / (tp + fn),
                "specificity": tn / (tn + fp),
                "positive_predictive_value": tp / (tp + fp),
                "negative_predictive_value": tn / (tn + fn),
            }
        )


def test_the_roc_area_counts_pairs_within_a_bin_by_how_the_share_grows():
    # Of scores spread evenly over [0, 1] a share of 1/4 + x / 2 is of the class. Their area is
    # ∫ G·f dx = 2/3 with the density f = 1/2 + x of its rows and G = 3x/2 - x²/2 of the others.
    ones = np.array([12.5, 17.5, 22.5, 27.5])
    assert roc_area(np.stack([40 - ones, ones])) == pytest.approx(2 / 3)
    # Half of the pairs within a bin would be too few.
    zeros = 40 - ones
    halves = (ones * (np.cumsum(zeros) - zeros / 2)).sum() / ones.sum() / zeros.sum()
    assert halves == pytest.approx(2 / 3 - 1 / 96)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_loss_and_area_are_the_exact_ones_up_to_a_few_ten_thousandths(classes, sharpness):
    source = np.random.default_rng(0)
    labels, probabilities = scored_rows(source, 50_000, classes, sharpness=sharpness)
    # Without noise in which bins there are: this is what bins alone make of the figures.
    released, _ = CountRelease(1e-9, classes).release(counted(labels, probabilities), 1e9, 0)
    found, exact = all_metrics(released.table), exact_figures(labels, probabilities)
    assert found["loss"] == pytest.approx(exact["loss"], abs=4e-4)
    assert found["roc_auc"] == pytest.approx(exact["roc_auc"], abs=1e-4)


def test_losses_of_bins_that_take_rows_as_spread_evenly_would_be_wrong():
    # Logits of N(1, 1.5²) in bins of width 2.
    edges = np.arange(-6.0, 9.0, 2.0)
    rows = np.diff(norm(1, 1.5).cdf([-np.inf, *edges, np.inf]))
    exact = quad(lambda z: norm(1, 1.5).pdf(z) * np.logaddexp(0, z), -12, 14)[0]
    found = rows @ bin_losses(1 / (1 + np.exp(-edges)))[0]
    even = [quad(lambda z: np.logaddexp(0, z), low, low + 2)[0] / 2 for low in edges[:-1]]
    assert abs(rows[1:-1] @ even - exact) > 0.02
    assert found == pytest.approx(exact, abs=0.007)


def test_calibration_is_that_of_sklearn_on_the_same_bins(scored):
    labels, probabilities = scored
    table = exact_table(labels, probabilities, COARSE)
    cells = np.searchsorted(THRESHOLDS[COARSE], probabilities[:, 1])
    # sklearn's bins are even: bin k of ours is (k + 1/2) / 4 there.
    expected, _ = sklearn.calibration.calibration_curve(labels, (cells + 0.5) / 4, n_bins=4)
    assert calibration_curve(table.scores[0]) == pytest.approx(expected)


def test_means_of_bins_lie_within_them():
    thresholds = THRESHOLDS[COARSE]
    edges = [0, *thresholds, 1]
    means = bin_means(thresholds)
    assert all(low < mean < high for low, mean, high in zip(edges, means, edges[1:], strict=False))
    assert logits(np.array([0.5])) == 0


def test_the_end_beyond_two_close_thresholds_reaches_as_far_as_the_other():
    # Where it was as short as what noise put close, the loss of scores that are too sure was too
    # low: by 0.8 ± in that quarter of releases of 5 classes on 268 rows which has the smallest ±.
    below, above = bin_means(1 / (1 + np.exp([3.0, 2.9, -3.0])))[[0, -1]]
    assert below == pytest.approx(1 - above)
    assert below < 0.01


# --- estimates -----------------------------------------------------------------------------------


def two_counts(root):
    return Estimate(np.array([60.0, 40.0]), root)


def share(counts):
    return counts[..., 0] / counts.sum(axis=-1)


def test_an_exact_share_is_off_by_the_binomial_alone():
    # ± 1.96·√(0.6·0.4 / 100)
    measured = two_counts(None).measure(share)
    assert (measured.value, measured.noise) == (0.6, 0)
    assert measured.new_patients == pytest.approx(1.96 * math.sqrt(0.24 / 100), rel=1e-3)


def test_noise_and_sampling_add_up_in_squares():
    # Noise of deviation 2 in either count moves the share by 2·√(0.4² + 0.6²) / 100.
    measured = two_counts(2 * np.eye(2)).measure(share)
    noise = 1.96 * 2 * math.sqrt(0.52) / 100
    assert measured.noise == pytest.approx(noise, rel=0.1)  # a quantile of 1,000
    sampling = 1.96 * math.sqrt(0.24 / 100)
    assert measured.new_patients == pytest.approx(math.hypot(measured.noise, sampling), rel=1e-3)


def test_what_noise_adds_on_average_is_taken_off():
    # The square of a count with noise of deviation 5 is 25 too large on average.
    measured = two_counts(5 * np.eye(2)).measure(lambda counts: counts[..., 0] ** 2)
    assert measured.value == pytest.approx(3600 - 25, abs=3)


def test_noise_that_makes_equal_classes_look_unequal_does_not_widen_what_is_said_of_it():
    # Mean recall of five classes of 50. Of 200 releases the deviation is known within 5 %; ± is
    # 1.32 times as wide as it should be where noise is drawn again around one release alone.
    source, deviation = np.random.default_rng(3), 8.0
    people = np.tile([10.0, 40.0], 5)

    def recall(counts):
        classes = counts.reshape(*counts.shape[:-1], 5, 2)
        return np.clip(classes[..., 1] / classes.sum(axis=-1), -1, 2).mean(axis=-1)

    found = [
        Estimate(people + source.normal(0, deviation, 10), deviation * np.eye(10)).measure(recall)
        for _ in range(200)
    ]
    happened = 1.96 * np.sqrt(np.mean([(one.value - 0.8) ** 2 for one in found]))
    assert 0.9 * happened < np.mean([one.noise for one in found]) < 1.22 * happened


def test_nobody_is_told_of_errors_that_cannot_be_shown():
    # Of 0.98 ± 0.03 whatever is above 1 is shown as 1, so only errors downwards are that large:
    # 1.645 deviations have chance 0.95.
    counts = Estimate(np.array([2.0, 98.0]), None)
    measured = counts.measure(lambda counts: counts[..., 1] / counts.sum(axis=-1), within=SHARE)
    deviation = math.sqrt(0.98 * 0.02 / 100)
    assert measured.new_patients == pytest.approx(1.645 * deviation, rel=0.02)


def test_plausible_counts_are_the_nearest_that_people_can_have():
    # Of noise that moves both alike (root (1, 1)) or each by itself, −6 and 20: found on a grid.
    root = np.array([[3.0, 2.0], [3.0, -2.0]])
    estimate = Estimate(np.array([-6.0, 20.0]), root)
    grid = np.stack(np.meshgrid(np.linspace(0, 40, 401), np.linspace(0, 40, 401)), axis=-1)
    far = ((grid - estimate.values) @ np.linalg.inv(root).T) ** 2
    nearest = grid.reshape(-1, 2)[far.sum(axis=-1).argmin()]
    assert nearest == pytest.approx([0, 22.3], abs=0.05)
    # As many in all as are estimated, 14.
    assert estimate.plausible == pytest.approx(nearest * 14 / nearest.sum(), abs=0.05)
    assert two_counts(np.eye(2)).plausible == pytest.approx([60, 40])


def greatest_and_first_of(classes, how_many=500):
    """± that the greatest share of `classes` equal ones was off, and ± that the first one was."""
    source = np.random.default_rng(0)
    deviation, people = 3.0, 50 * classes
    off = []
    for counts in source.multinomial(people, np.full(classes, 1 / classes), how_many):
        noisy = counts + source.normal(0, deviation, classes)
        estimate = Estimate(noisy, deviation * np.eye(classes))

        def shares(counts):
            return counts / counts.sum(axis=-1, keepdims=True)

        found = [
            estimate.measure_greatest(shares),
            estimate.measure(lambda counts: shares(counts).max(axis=-1)),
        ]
        off.append([(one.value - 1 / classes) / one.new_patients for one in found])
    return np.abs(off).T


def test_the_greatest_of_equal_shares_is_covered_together_with_those_it_might_have_been():
    # Of 500 intervals that hold with chance 0.95, 460 or fewer do so once in 1,000 cases.
    greatest, as_if_alone = greatest_and_first_of(5)
    assert (greatest <= 1).sum() > 460
    assert (as_if_alone <= 1).sum() <= 460


def test_what_is_greatest_for_certain_is_measured_as_if_alone():
    estimate = Estimate(np.array([600.0, 200, 200]), 10 * np.eye(3))
    greatest = estimate.measure_greatest(lambda counts: counts / counts.sum(axis=-1)[..., None])
    alone = estimate.measure(share)
    assert greatest.value == pytest.approx(alone.value)
    assert greatest.noise == pytest.approx(alone.noise, rel=0.01)
    assert greatest.new_patients == pytest.approx(alone.new_patients, rel=0.05)


def test_interval_of_the_roc_area_is_that_of_delong(scored):
    # Variance of the placements of ones among zeros and of zeros among ones (DeLong et al. 1988).
    labels, probabilities = scored
    counts, own = counted(labels, probabilities), layout(2, np.arange(len(THRESHOLDS)))
    exact = Estimate(own.counts(counts.confusion, counts.scores), None)
    found = Released(own, exact).figures()["roc_auc"]
    ones, zeros = probabilities[labels == 1, 1], probabilities[labels == 0, 1]
    order = (ones[:, None] > zeros) + (ones[:, None] == zeros) / 2
    variance = order.mean(axis=1).var(ddof=1) / len(ones)
    variance += order.mean(axis=0).var(ddof=1) / len(zeros)
    assert found.value == pytest.approx(order.mean(), abs=2e-3)
    assert found.new_patients == pytest.approx(1.96 * math.sqrt(variance), rel=0.03)


def test_subgroups_have_figures_and_both_intervals():
    # Of two groups of two labels: wrong and right rows of each.
    counts = np.array([[[2.0, 6], [1, 3]], [[0, 0], [0, 0]]])
    found = figures_of_groups(Estimate(counts.ravel(), np.eye(8)), 2)
    np.testing.assert_allclose(found["rows"].value, [12, 0], atol=1e-9)
    assert found["accuracy"].value[0] == pytest.approx(0.75, abs=0.02)
    # √4 counts of noise 1; of nobody no less than nobody is shown, so that ± has one side.
    assert found["rows"].noise == pytest.approx([1.96 * 2, 1.645 * 2], rel=0.1)
    assert (found["accuracy"].new_patients[0] > found["accuracy"].noise[0]).all()


def test_a_table_has_room_for_all_of_its_counts():
    for classes in CLASSES:
        own = layout(classes)
        table = own.table(np.arange(own.size, dtype=float))
        assert isinstance(table, Table)
        assert table.confusion.size + table.scores.size == own.size
