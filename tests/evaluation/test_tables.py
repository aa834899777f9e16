"""Released tables as rows of CSV: nothing is lost on the way, and no row is a real person's."""

from collections import Counter

import numpy as np
import pytest

from stages.evaluation.metrics import BIN_EDGES, BINS, possible_cells
from stages.evaluation.tables import cell_rows, confusion_rows, group_rows, roc_rows, table_of
from stages.files import read_csv, write_csv

NAMES = {2: ["low", "high"], 3: ["low", 'a "b", c', "naïve ≤ 3"]}


@pytest.fixture(params=[2, 3])
def released(request):
    """A noisy table and the names of its classes."""
    classes = request.param
    noise = np.random.default_rng(0).gamma(1, 3, (classes, classes, BINS))
    return np.where(possible_cells(classes), noise, 0), NAMES[classes]


def test_a_table_comes_back_from_csv(released, tmp_path):
    table, names = released
    write_csv(tmp_path / "counts.csv", cell_rows(table, names))
    back, back_names = table_of(read_csv(tmp_path / "counts.csv"))
    assert back_names == names
    # Written to a thousandth of a row.
    np.testing.assert_allclose(back, table, atol=0.0005)


def test_a_cell_says_whose_and_where_it_is():
    table = np.zeros((2, 2, BINS))
    table[1, 0, 2] = 7.25
    (row,) = [row for row in cell_rows(table, ["low", "high"]) if row["rows"]]
    assert row == {
        "label": "high",
        "predicted": "low",
        "label_probability_from": BIN_EDGES[2],
        "label_probability_to": BIN_EDGES[3],
        "rows": 7.25,
    }


def test_confusion_rows_are_the_rounded_noisy_counts(released):
    table, names = released
    counted = Counter((row["actual"], row["predicted"]) for row in confusion_rows(table, names))
    expected = {
        (names[label], names[predicted]): round(float(rows))
        for (label, predicted), rows in np.ndenumerate(table.sum(axis=2))
    }
    assert counted == {pair: rows for pair, rows in expected.items() if rows}


def test_rows_are_rounded_by_total_not_by_cell():
    # Six cells of 0.4 are 2.4 rows, two when rounded; each alone would be none.
    table = np.where(possible_cells(2), 0.4, 0.0)
    assert len(confusion_rows(table, ["low", "high"])) == 4 * 2


def test_a_large_table_is_shown_in_proportion():
    table = np.zeros((2, 2, BINS))
    table[0, 0, -1], table[1, 0, 0], table[1, 1, -1] = 7e6, 1e6, 2e6
    rows = confusion_rows(table, ["low", "high"])
    counted = Counter((row["actual"], row["predicted"]) for row in rows)
    assert counted == {("low", "low"): 7_000, ("high", "low"): 1_000, ("high", "high"): 2_000}


def test_an_empty_table_has_no_confusion_rows():
    assert confusion_rows(np.zeros((2, 2, BINS)), ["low", "high"]) == []


def test_roc_rows_go_from_corner_to_corner():
    table = np.where(possible_cells(2), np.random.default_rng(0).gamma(1, 3, (2, 2, BINS)), 0)
    rows = roc_rows(table)
    assert len(rows) == BINS + 1
    assert rows[0] == {"false_positive_rate": 0, "true_positive_rate": 0}
    assert rows[-1] == {"false_positive_rate": 1, "true_positive_rate": 1}
    for name in rows[0]:
        assert sorted(row[name] for row in rows) == [row[name] for row in rows]


def test_roc_rows_of_several_classes_go_through_the_mean_class():
    table = np.zeros((3, 3, BINS))
    # By label: 8 of 10, 6 of 10 and 10 of 10 are right; of the wrong ones 2, 0 and 4 are called
    # class 0, 1 and 2, of 20 others each.
    table[:, :, -1] = [[8, 0, 2], [2, 6, 2], [0, 0, 10]]
    assert roc_rows(table)[1] == {
        "false_positive_rate": round((2 + 0 + 4) / 20 / 3, 4),
        "true_positive_rate": round((0.8 + 0.6 + 1.0) / 3, 4),
    }


def test_group_rows_have_the_figures_of_each_group_and_their_noise():
    groups = np.array([[[6.0, 2], [1, 3]], [[0, 0], [0, 0]]])
    redraws = groups + np.array([[[0.0, 0], [0, 0]], [[0, 0], [0, 2]]])[None]
    here, empty = group_rows("ward", ["a", "b"], groups, redraws)
    assert here == {
        "column": "ward",
        "group": "a",
        "name": "ward: a",
        "rows": 12,
        "rows_interval": 0,
        "accuracy": 0.75,
        "accuracy_interval": 0,
        "recall": 0.75,
        "recall_interval": 0,
    }
    (everyone,) = group_rows("everyone", [""], groups[:1])
    assert everyone["name"] == "everyone"
    assert (empty["rows"], empty["accuracy"]) == (0, 0)
    assert (empty["rows_interval"], empty["accuracy_interval"]) == (2, 1)
    assert [row["rows_interval"] for row in group_rows("ward", ["a", "b"], groups)] == [0, 0]
