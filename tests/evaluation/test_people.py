"""Test figures of people: each weighs one, and moves the counts by no more than one row would."""

import numpy as np
import pytest

from benchmarks.released_figures import scored_rows
from stages.evaluation.counted import Counted, add_rows, nothing
from stages.evaluation.counting import PARTS
from stages.evaluation.release import CountRelease, noise_for
from stages.tabular.prepared import Side

CLASSES = [2, 4]
LEVELS = {"ward": 3}


def people_of(source, people, classes):
    """Labels, probabilities, groups and persons of people with one to nine rows, shuffled."""
    persons = np.repeat(np.arange(people, dtype=np.uint64), source.integers(1, 10, people))
    source.shuffle(persons)
    labels, probabilities = scored_rows(source, len(persons), classes)
    return labels, probabilities, source.integers(0, 3, (len(persons), 1)), persons


def count(labels, probabilities, groups, persons) -> Counted:
    side = Side(np.empty((len(labels), 0), np.float32), labels, persons)
    counted = nothing(probabilities.shape[1], LEVELS, PARTS)
    add_rows(counted, labels, probabilities, groups, side.parts_of_a_person(PARTS))
    return counted


def arrays(counted):
    return [counted.confusion, *counted.scores, *counted.groups.values()]


@pytest.mark.parametrize("whole", [1, 7, PARTS])
def test_the_parts_of_a_person_are_as_equal_as_can_be_and_add_up(whole):
    persons = np.array([5, 9, 5, 5, 9, 2], np.uint64)
    side = Side(np.empty((6, 0), np.float32), np.zeros(6, np.int64), persons)
    parts = side.parts_of_a_person(whole)
    for person in (2, 5, 9):
        own = parts[persons == person]
        assert own.sum() == whole
        assert own.max() - own.min() <= 1
        assert own.min() >= 0
    assert side._replace(persons=None).parts_of_a_person(1).tolist() == [1] * 6


@pytest.mark.parametrize("classes", CLASSES)
def test_without_any_one_person_each_table_of_counts_loses_one_person(classes):
    rows = people_of(np.random.default_rng(0), 40, classes)
    whole = count(*rows)
    for person in range(40):
        others = count(*(part[rows[3] != person] for part in rows))
        for ours, theirs in zip(arrays(whole), arrays(others), strict=True):
            moved = ours - theirs
            assert moved.min() >= 0
            assert moved.sum() == PARTS
            # Shares that add up to one are no longer than one.
            assert np.linalg.norm(moved / PARTS) <= 1


def test_counting_rows_would_move_by_more():
    rows = people_of(np.random.default_rng(0), 40, 2)
    most = np.bincount(rows[3].astype(int)).argmax()
    by_row = nothing(2, LEVELS)
    add_rows(by_row, *rows[:3])
    others = nothing(2, LEVELS)
    add_rows(others, *(part[rows[3] != most] for part in rows[:3]))
    assert (by_row.confusion - others.confusion).sum() > 1


@pytest.mark.parametrize("classes", CLASSES)
def test_figures_are_means_over_people(classes):
    labels, probabilities, groups, persons = people_of(np.random.default_rng(1), 60, classes)
    counted = count(labels, probabilities, groups, persons)
    right = probabilities.argmax(axis=1) == labels
    by_person = [right[persons == person].mean() for person in np.unique(persons)]
    accuracy = np.trace(counted.confusion) / counted.confusion.sum()
    assert accuracy == pytest.approx(np.mean(by_person), abs=1e-5)
    assert accuracy != pytest.approx(right.mean(), abs=1e-4)
    assert counted.confusion.sum() == 60 * PARTS


@pytest.mark.parametrize("classes", CLASSES)
def test_people_with_one_row_each_are_released_as_rows(classes):
    source = np.random.default_rng(2)
    labels, probabilities = scored_rows(source, 268, classes)
    groups = source.integers(0, 3, (268, 1))
    persons = source.permutation(268).astype(np.uint64)
    by_row = nothing(classes, LEVELS)
    add_rows(by_row, labels, probabilities, groups)
    mechanism = CountRelease(noise_for(1.0, 1e-5), classes, 1)
    people = mechanism.release(count(labels, probabilities, groups, persons), 268, 7)
    rows = mechanism.release(by_row, 268, 7)
    assert np.array_equal(people[0].counts.values, rows[0].counts.values)
    assert np.array_equal(people[1]["ward"].values, rows[1]["ward"].values)
