"""The one release of counts: it spends ε and no more, and the figures made from it are honest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opendp.domains import atom_domain, vector_domain
from opendp.measurements import make_laplace
from opendp.metrics import l1_distance
from scipy import stats
from sklearn import metrics as sklearn_metrics

from stages.evaluation import release
from stages.evaluation.metrics import BINS, all_metrics, count_rows, intervals, possible_cells
from stages.evaluation.release import CountRelease
from stages.privacy.events import DiscreteLaplace

# A right mechanism fails a test with a fixed seed at one seed in ten million, and a test on
# OpenDP's own noise, which has no seed, once in a thousand million runs.
FALSE_ALARM = 1e-7
UNSEEDED_FALSE_ALARM = 1e-9

EPSILONS = [0.25, 1.0, 3.5]


def mechanism(epsilon, classes=2):
    return CountRelease(epsilon, possible_cells(classes))


def scored_rows(source, rows, skill=1.5):
    """Return labels and probabilities as a calibrated classifier gives them.

    Scores x of the two labels are N(±skill, 1), so the log odds at x are 2·skill·x.
    """
    labels = source.integers(0, 2, rows)
    scores = source.normal(skill * (2 * labels - 1))
    chance = 1 / (1 + np.exp(-2 * skill * scores))
    return labels, np.column_stack([1 - chance, chance])


@pytest.fixture
def counts():
    """A table of 268 test rows, as many as the sample has."""
    return count_rows(*scored_rows(np.random.default_rng(0), 268))


# --- what it spends ------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_both_parts_spend_epsilon_together(epsilon):
    both = mechanism(epsilon)
    assert 1 / both.totals_scale + 1 / both.cells_scale == pytest.approx(epsilon)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_opendp_itself_says_that_both_parts_spend_epsilon(epsilon):
    both = mechanism(epsilon)
    space = vector_domain(atom_domain(T="i64")), l1_distance(T="i64")
    spent = [make_laplace(*space, scale=s).map(1) for s in (both.totals_scale, both.cells_scale)]
    assert sum(spent) == pytest.approx(epsilon)
    assert sum(spent) <= epsilon * (1 + 1e-9)


def noised(monkeypatch, labels, probabilities):
    """Return what noise is added to, and its scales."""
    calls = []

    def record(counts, scale):
        calls.append((counts, scale))
        return counts

    monkeypatch.setattr(release, "_discrete_laplace", record)
    classes = probabilities.shape[1]
    mechanism(1.0, classes).release(count_rows(labels, probabilities))
    return calls


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_row_moves_one_total_and_one_cell_by_one(monkeypatch, classes):
    source = np.random.default_rng(0)
    labels = source.integers(0, classes, 30)
    probabilities = source.dirichlet(np.ones(classes), 30)
    whole = noised(monkeypatch, labels, probabilities)
    for row in range(30):
        without = noised(monkeypatch, np.delete(labels, row), np.delete(probabilities, row, axis=0))
        moved = [abs(a - b).sum() for (a, _), (b, _) in zip(whole, without, strict=True)]
        assert moved == [1, 1]
        assert sum(d / scale for d, (_, scale) in zip(moved, whole, strict=True)) == pytest.approx(
            1
        )


@pytest.mark.parametrize("groupings", [1, 2, 5])
def test_subgroups_have_a_share_of_the_same_epsilon(groupings):
    both = CountRelease(1.0, possible_cells(2), groupings)
    scales = [both.totals_scale, both.cells_scale, *[both.groups_scale] * groupings]
    assert sum(1 / scale for scale in scales) == pytest.approx(1.0)
    assert list(both.events) == [DiscreteLaplace(1 / scale) for scale in scales]


# --- its noise -----------------------------------------------------------------------------------


def is_discrete_laplace(values, scale, false_alarm):
    """Chi-square against P(k) = (1 - a) / (1 + a)·a^|k| with a = e^(-1 / scale)."""
    decay = np.exp(-1 / scale)
    far = 12
    inner = (1 - decay) / (1 + decay) * decay ** np.abs(np.arange(-far, far + 1))
    chances = np.concatenate([[(1 - inner.sum()) / 2], inner, [(1 - inner.sum()) / 2]])
    cells = np.clip(np.ravel(values), -far - 1, far + 1) + far + 1
    seen = np.bincount(cells, minlength=len(chances))
    return stats.chisquare(seen, chances * len(cells)).pvalue > false_alarm


@pytest.fixture
def noise_of(monkeypatch):
    """Return a function that releases an empty table of 40,000 totals and as many cells, raw."""
    monkeypatch.setattr(CountRelease, "consistent", lambda _, totals, cells: (totals, cells))

    def draw(simulated):
        table = np.zeros((200, 200, 1), dtype=np.int64)
        both = CountRelease(1.0, np.ones(table.shape, dtype=bool))
        if simulated:
            return both.redraws(table.astype(float), 1, np.random.default_rng(0))
        return both.release(table)

    return draw


@pytest.mark.parametrize(
    ("simulated", "level"), [(False, UNSEEDED_FALSE_ALARM), (True, FALSE_ALARM)]
)
def test_noise_is_discrete_laplace_of_the_stated_scale(noise_of, simulated, level):
    both = mechanism(1.0)
    totals, cells = (part.astype(int) for part in noise_of(simulated))
    assert is_discrete_laplace(totals, both.totals_scale, level)
    assert is_discrete_laplace(cells, both.cells_scale, level)
    for wrong in (0.9, 1.1):
        assert not is_discrete_laplace(totals, wrong * both.totals_scale, level)


def test_noise_on_subgroups_is_discrete_laplace_of_the_stated_scale():
    level = UNSEEDED_FALSE_ALARM
    both = CountRelease(1.0, possible_cells(2), groupings=2)
    far_from_zero = np.full((10_000, 2, 2), 1_000)
    noise = both.release_groups(far_from_zero) - 1_000
    assert is_discrete_laplace(noise.astype(int), both.groups_scale, level)
    for wrong in (0.9, 1.1):
        assert not is_discrete_laplace(noise.astype(int), wrong * both.groups_scale, level)


def test_simulated_noise_on_subgroups_is_the_same_and_repeats():
    both = CountRelease(1.0, possible_cells(2), groupings=2)
    far_from_zero = np.full((10_000, 2, 2), 1_000)
    noise = both.release_groups(far_from_zero, 7) - 1_000
    assert is_discrete_laplace(noise.astype(int), both.groups_scale, FALSE_ALARM)
    assert np.array_equal(both.release_groups(far_from_zero, 7) - 1_000, noise)


def test_subgroups_are_never_negative():
    both = CountRelease(0.1, possible_cells(2), groupings=2)
    assert both.release_groups(np.zeros((500, 2, 2), dtype=np.int64)).min() == 0


def test_releases_are_secret_and_simulations_repeat(counts):
    both = mechanism(0.25)
    # Two discrete Laplace draws of scale 8 agree with chance 1/16: that 20 do is 1e-24.
    assert not np.array_equal(both.release(counts), both.release(counts))
    assert np.array_equal(both.release(counts, 7), both.release(counts, 7))
    assert not np.array_equal(both.release(counts, 7), both.release(counts, 8))


# --- what makes it consistent --------------------------------------------------------------------


def test_totals_are_weighted_with_the_sum_of_their_cells():
    # Both parts have the same scale, and a total of two classes has six possible cells, so that the
    # sum of cells has six times the variance: (6·70 + 42) / 7 = 66. The missing 24 go to the cells.
    right = possible_cells(2)[0, 0]
    cells = np.zeros((2, 2, BINS))
    cells[0, 0, right] = 7
    totals = np.array([[70.0, 0], [0, 0]])
    table = mechanism(1.0).consistent(totals, cells)
    assert table[0, 0, right] == pytest.approx(np.full(6, 11.0))
    assert table.sum() == pytest.approx(66)


def test_cells_below_zero_are_cut_and_the_rest_scaled_to_the_total():
    # 30 - 12 = 18 agrees with the total of 18; without the cell below zero 30 have to become 18.
    cells = np.zeros((2, 2, BINS))
    cells[0, 0, possible_cells(2)[0, 0]] = [30, 0, 0, 0, 0, -12]
    table = mechanism(1.0).consistent(np.array([[18.0, 0], [0, 0]]), cells)
    assert table[0, 0, possible_cells(2)[0, 0]] == pytest.approx([18, 0, 0, 0, 0, 0])


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), classes=st.sampled_from([2, 3, 5]), spread=st.integers(1, 50)
)
def test_any_noisy_counts_become_a_table_that_could_be_real(seed, classes, spread):
    source = np.random.default_rng(seed)
    cells = source.integers(-spread, spread + 1, (4, classes, classes, BINS))
    totals = source.integers(-spread, 5 * spread, (4, classes, classes))
    possible = possible_cells(classes)
    both = CountRelease(1.0, possible)
    table = both.consistent(totals, cells)
    assert (table >= 0).all()
    assert (table[:, ~possible] == 0).all()
    # Totals are those of both estimates weighted by inverse variance, as far as that is positive.
    members = possible.sum(axis=2)
    weighted = (members * totals + (cells * possible).sum(axis=3)) / (members + 1)
    np.testing.assert_allclose(table.sum(axis=3), np.maximum(weighted, 0), atol=1e-9)


def test_a_table_that_could_be_real_stays_as_it_is(counts):
    np.testing.assert_allclose(mechanism(1.0).consistent(counts.sum(axis=2), counts), counts)


@pytest.mark.parametrize("simulation_seed", [None, 0])
def test_without_noise_the_release_is_exact(counts, simulation_seed):
    # At scale 2e-4 a single draw differs from 0 with chance 2·e^-5000.
    np.testing.assert_allclose(mechanism(1e4).release(counts, simulation_seed), counts)


def test_weighting_takes_a_seventh_of_the_variance_off_the_totals():
    # 1 / (1 + 1/6) = 6/7 of that of the direct count. Of 80,000 totals, a variance is known to 1 %.
    full = np.where(possible_cells(2), 1000.0, 0.0)
    both = mechanism(1.0)
    totals = both.redraws(full, 20_000, np.random.default_rng(0)).sum(axis=3)
    decay = np.exp(-1 / both.totals_scale)
    direct = 2 * decay / (1 - decay) ** 2  # of discrete Laplace
    assert (totals - 6000).var() / direct == pytest.approx(6 / 7, abs=0.06)


# --- how useful it is ----------------------------------------------------------------------------


def noise_in_accuracy(epsilon, counts):
    redraws = mechanism(epsilon).redraws(counts.astype(float), 20_000, np.random.default_rng(0))
    return float(all_metrics(redraws)["accuracy"].std())


# The deviation of 20,000 draws is known to 1 %.
@pytest.mark.parametrize(("epsilon", "most"), [(1.0, 0.015), (3.5, 0.005)])
def test_noise_moves_accuracy_on_268_rows_by_less_than_promised(counts, epsilon, most):
    assert 0.5 * most < noise_in_accuracy(epsilon, counts) <= most


def test_a_budget_spent_on_cells_alone_would_break_that_promise(counts, monkeypatch):
    monkeypatch.setattr(release, "TOTALS_SHARE", 0.05)
    assert noise_in_accuracy(1.0, counts) > 0.015


def exact_metrics(labels, probabilities):
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="binary"
    )
    return {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "loss": sklearn_metrics.log_loss(labels, probabilities),
        "roc_auc": exact_roc_auc(labels, probabilities)["roc_auc"],
    }


def exact_roc_auc(labels, probabilities):
    return {"roc_auc": sklearn_metrics.roc_auc_score(labels, probabilities[:, 1])}


RELEASES = 200


def distances(exact, epsilon, skill=1.5):
    """Release 200 tables of 268 new rows each; return by metric how many intervals each was off."""
    source = np.random.default_rng(1)
    both = mechanism(epsilon)
    found = []
    for seed in range(RELEASES):
        labels, probabilities = scored_rows(source, 268, skill)
        table = both.release(count_rows(labels, probabilities), simulation_seed=seed)
        widths = intervals(table, both.redraws(table, 1000, np.random.default_rng(0)))
        released = all_metrics(table)
        found.append(
            {
                name: abs(float(released[name]) - value) / widths[name]
                for name, value in exact(labels, probabilities).items()
            }
        )
    return {name: np.array([off[name] for off in found]) for name in found[0]}


def covers_as_stated(off):
    """Whether the share of figures within their interval could be 95 %."""
    return stats.binom.cdf((off <= 1).sum(), RELEASES, 0.95) > FALSE_ALARM


def test_intervals_cover_the_exact_figures_as_often_as_stated():
    off = distances(exact_metrics, epsilon=1.0)
    assert len(off) == 7
    assert [name for name in off if not covers_as_stated(off[name])] == []
    # Intervals half as wide do not.
    assert [name for name in off if covers_as_stated(2 * off[name])] == []


def test_intervals_cover_the_exact_roc_area_of_a_weak_classifier():
    assert covers_as_stated(distances(exact_roc_auc, epsilon=3.5, skill=0.5)["roc_auc"])
