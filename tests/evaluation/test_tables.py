"""Released tables as rows of CSV: nothing is lost on the way, and no row is a real person's."""

from collections import Counter

import numpy as np
import pytest

from stages.evaluation.estimate import Measured
from stages.evaluation.layout import Layout
from stages.evaluation.scores import MIDDLE, THRESHOLDS
from stages.evaluation.tables import (
    classes_told,
    confusion_rows,
    counts_of,
    group_rows,
    roc_rows,
    score_rows,
    shown,
    write_drawn,
)
from stages.files import read_csv, write_csv

NAMES = {2: ["low", "high"], 3: ["low", 'a "b", c', "naïve ≤ 3"]}
PLACES = np.array([0, MIDDLE, len(THRESHOLDS) - 1])


@pytest.fixture(params=[2, 3])
def unscored(request):
    """Where counts are, noisy ones of predictions alone, and the names of their classes."""
    layout = Layout(request.param, PLACES[:0])
    return layout, np.random.default_rng(0).normal(20, 15, layout.size), NAMES[request.param]


@pytest.fixture(params=[2, 3])
def released(request):
    """Where counts are, noisy ones, and the names of their classes."""
    layout = Layout(request.param, PLACES)
    return layout, np.random.default_rng(0).normal(20, 15, layout.size), NAMES[request.param]


def test_counts_come_back_from_csv(released, tmp_path):
    layout, counts, names = released
    table = layout.table(counts)
    write_csv(tmp_path / "counts.csv", score_rows(table, names))
    back, values = counts_of(table.confusion.tolist(), read_csv(tmp_path / "counts.csv"))
    assert np.array_equal(back.places, layout.places)
    assert back.classes == layout.classes
    # Written to a thousandth of a row.
    np.testing.assert_allclose(values, counts, atol=0.0005)


def test_a_count_says_whose_and_where_it_is(released):
    layout, counts, names = released
    rows = score_rows(layout.table(counts), names)
    assert rows[0] == {
        "probability_of": names[1] if len(names) == 2 else names[0],
        "label": names[0] if len(names) == 2 else "other",
        "probability_from": 0.0,
        "probability_to": 1e-8,
        "rows": round(counts[layout.classes**2], 3),
    }
    assert rows[-1]["label"] == rows[-1]["probability_of"] == names[-1]
    assert (rows[-1]["probability_from"], rows[-1]["probability_to"]) == (1 - 1e-8, 1.0)


def test_counts_without_scores_come_back_and_their_csv_tells_of_labels(unscored, tmp_path):
    layout, counts, names = unscored
    table = layout.table(counts)
    rows = score_rows(table, names)
    own = [row["rows"] for row in rows if row["label"] == row["probability_of"]]
    of_label = table.confusion.sum(axis=1)
    np.testing.assert_allclose(own, of_label[1:] if len(names) == 2 else of_label, atol=0.0005)
    assert {(row["probability_from"], row["probability_to"]) for row in rows} == {(0.0, 1.0)}
    assert classes_told(rows) == names
    write_csv(tmp_path / "counts.csv", rows)
    back, values = counts_of(table.confusion.tolist(), read_csv(tmp_path / "counts.csv"))
    assert not back.scored
    np.testing.assert_array_equal(values, counts)


def test_people_are_shown_as_whole_numbers():
    assert shown(np.array([-3.2, 0.4, 7.6])).tolist() == [0, 0, 8]


def test_confusion_rows_are_the_rounded_noisy_counts():
    rows = confusion_rows(np.array([[7.4, -2.0], [0.6, 3.0]]), ["low", "high"])
    counted = Counter((row["actual"], row["predicted"]) for row in rows)
    assert counted == {("low", "low"): 7, ("high", "low"): 1, ("high", "high"): 3}


def test_a_large_table_is_shown_in_proportion():
    rows = confusion_rows(np.array([[7e6, 0], [1e6, 2e6]]), ["low", "high"])
    counted = Counter((row["actual"], row["predicted"]) for row in rows)
    assert counted == {("low", "low"): 7_000, ("high", "low"): 1_000, ("high", "high"): 2_000}


def test_what_is_drawn_of_nobody_has_its_columns_and_no_rows(unscored, tmp_path):
    # As it may come out where there is little but noise.
    layout, counts, names = unscored
    write_drawn(layout.table(-np.abs(counts)), names, tmp_path)
    assert (tmp_path / "confusion.csv").read_text() == "actual,predicted\n"
    assert (tmp_path / "roc.csv").read_text() == "false_positive_rate,true_positive_rate\n"


def test_roc_rows_go_from_corner_to_corner_and_never_fall(released):
    layout, counts, _ = released
    rows = roc_rows(layout.table(counts))
    assert rows[0]["false_positive_rate"] == 0
    assert rows[-1] == {"false_positive_rate": 1, "true_positive_rate": 1}
    for name in rows[0]:
        values = [row[name] for row in rows]
        assert sorted(values) == values
        assert 0 <= min(values) <= max(values) <= 1


def test_the_roc_of_several_classes_is_the_mean_of_theirs():
    layout = Layout(3, PLACES)
    counts = np.zeros(layout.size)
    table = layout.table(counts)
    table.scores[:] = [[8, 2, 0, 0], [0, 0, 5, 5]]  # two classes that are told apart
    table.scores[2] = [[5, 0, 0, 5], [5, 0, 0, 5]]  # and one that is not
    middle = next(row for row in roc_rows(table) if row["false_positive_rate"] == 0.5)
    assert middle["true_positive_rate"] == pytest.approx((1 + 1 + 0.5) / 3, abs=1e-4)


def test_group_rows_have_the_figures_of_each_group_and_both_intervals():
    one = Measured(np.array([0.75, 0.5]), np.array([0.1, 0.2]), np.array([0.3, 0.4]))
    rows = Measured(np.array([12.0, 3]), np.array([2.0, 2]), np.array([5.0, 5]))
    here, there = group_rows("ward", ["a", "b"], {"rows": rows, "accuracy": one}, noisy=True)
    assert here == {
        "column": "ward",
        "group": "a",
        "name": "ward: a",
        "rows": 12,
        "rows_noise": 2,
        "accuracy": 0.75,
        "accuracy_new_patients": 0.3,
        "accuracy_noise": 0.1,
    }
    assert (there["group"], there["accuracy_new_patients"]) == ("b", 0.4)
    (exact, _) = group_rows("ward", ["a", "b"], {"rows": rows, "accuracy": one}, noisy=False)
    assert "accuracy_noise" not in exact
    (everyone,) = group_rows("everyone", [""], {"rows": one}, noisy=False)
    assert everyone["name"] == "everyone"
