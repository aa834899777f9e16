"""Take a row away, run all but sampling and noise again: only what may differ differs."""

from dataclasses import replace

import numpy as np
import pytest

from tests.faults.clinic import (
    ALL_ROWS,
    AT_MOST,
    CLINIC,
    FIELDS,
    shuffled_histories,
    visit,
    visits_of,
)
from tests.faults.replay import (
    NOTABLE,
    ROUNDING,
    ROWS,
    breaches,
    differing,
    published_blindly,
    published_repeatably,
    replay,
    rows_by_person,
    side_that_lost,
    without,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return replay(tmp_path_factory.mktemp("whole") / "project")


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory):
    """The replays without each of the rows in turn."""
    folder = tmp_path_factory.mktemp("neighbours")
    return [replay(folder / str(number), without(ROWS, number)) for number in range(len(ROWS))]


def test_without_any_one_row_only_what_may_move_moves(whole, neighbours):
    assert {
        number: found
        for number, other in enumerate(neighbours)
        if (found := breaches(whole, other))
    } == {}


def test_each_row_is_on_one_side_and_both_sides_were_tried(whole, neighbours):
    lost = [side_that_lost(whole, other) for other in neighbours]
    assert sorted(lost) == sorted(
        (side, row) for side in ("train", "test") for row in range(len(whole.sides[side][1]))
    )


def test_the_notable_rows_are_what_they_are_called(whole, neighbours):
    sides = {name: side_that_lost(whole, neighbours[n])[0] for name, n in NOTABLE.items()}
    for name, side in sides.items():
        assert "testing" not in name or side == "test"
        assert "training" not in name or side == "train"
    assert ROWS.count(ROWS[NOTABLE["equal to another"]]) == 2
    assert sum("northwest" in row for row in ROWS) == 1
    assert NOTABLE["last"] == len(ROWS) - 1


def test_equal_rows_are_on_the_same_side(whole, neighbours):
    equal = [n for n, row in enumerate(ROWS) if row == ROWS[NOTABLE["equal to another"]]]
    assert len({side_that_lost(whole, neighbours[n])[0] for n in equal}) == 1


def test_some_row_reaches_each_bound(whole, neighbours):
    # Else the bounds would not have been tested: a row that is clipped, a loss that is clipped, a
    # count that moves.
    gradients, losses = [], []
    for other in neighbours:
        side, row = side_that_lost(whole, other)
        if side == "train":
            gradient, metrics = whole.sums([row], scale=30.0)
            gradients.append(np.linalg.norm(gradient))
            losses.append(metrics[0])
    assert max(gradients) == pytest.approx(whole.plan.max_grad_norm, rel=1e-3)
    assert max(losses) == pytest.approx(0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -1e30])
def test_a_row_of_any_numbers_moves_the_sums_no_further(whole, monkeypatch, value):
    # The stages refuse such cells; the mechanism does not rely on it.
    features = np.array(whole.training.people.features)
    features[0, 1] = value
    people = replace(whole.training.people, features=features)
    monkeypatch.setattr(whole.training, "people", people)
    everybody = range(len(features))
    for scale in (1.0, 30.0):
        gradient, metrics = whole.sums(everybody, scale)
        others, metrics_of_others = whole.sums(everybody[1:], scale)
        assert np.linalg.norm(gradient - others) <= whole.plan.max_grad_norm + ROUNDING
        assert np.abs(metrics - metrics_of_others).max() <= 1 + ROUNDING


# --- a table with fields of every other kind, and several rows of a person ------------------------


@pytest.fixture(scope="module")
def visits():
    """The visits of 60 people, of whom every third came twice."""
    source = np.random.default_rng(1)
    once = [visit(source, who, 5) for who in range(60)]
    return [*once, *(visit(source, who, 7) for who in range(0, 60, 3))]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory, visits):
    return replay(tmp_path_factory.mktemp("clinic") / "project", visits, CLINIC)


@pytest.mark.parametrize("who", [0, 1, 3, 7, 20, 33, 58])
def test_without_any_one_person_only_what_may_move_moves(tmp_path, clinic, visits, who):
    others = [row for row in visits if not row.startswith(f"p{who},")]
    assert len(visits) - len(others) == (2 if who % 3 == 0 else 1)
    assert breaches(clinic, replay(tmp_path / "project", others, CLINIC)) == []


@pytest.mark.parametrize("who", [0, 1, 20])
def test_a_new_latest_row_moves_its_own_person_and_nobody_else(tmp_path, clinic, visits, who):
    later = [*visits, visit(np.random.default_rng(9), who, 11)]
    without_who = [row for row in visits if not row.startswith(f"p{who},")]
    other = replay(tmp_path / "later", later, CLINIC)
    neither = replay(tmp_path / "neither", without_who, CLINIC)
    # Both differ from the table without the person by the row of that person, on the same side.
    assert breaches(clinic, neither) == breaches(other, neither) == []
    assert side_that_lost(clinic, neither)[0] == side_that_lost(other, neither)[0]
    assert side_that_lost(clinic, other) is None


# --- all rows of a person ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def histories():
    return shuffled_histories()


@pytest.fixture(scope="module")
def all_rows(tmp_path_factory, histories):
    return replay(tmp_path_factory.mktemp("all rows") / "project", histories, ALL_ROWS)


@pytest.mark.parametrize("who", range(0, 60, 5))
def test_without_any_one_person_with_all_rows_only_what_may_move_moves(
    tmp_path, all_rows, histories, who
):
    others = [row for row in histories if not row.startswith(f"p{who},")]
    assert len(histories) - len(others) == visits_of(who)
    assert breaches(all_rows, replay(tmp_path / "project", others, ALL_ROWS)) == []


def test_people_of_either_side_with_many_rows_were_tried(all_rows):
    for side in all_rows.sides.values():
        sizes = {len(rows) for rows in rows_by_person(side)}
        assert sizes == {1, 2, AT_MOST}, "nobody has more rows than are to be used"
    assert len(all_rows.training.people) == len(rows_by_person(all_rows.sides["train"]))


def test_with_one_row_a_person_everything_is_what_it_was(tmp_path):
    source = np.random.default_rng(3)
    rows = [visit(source, who, 5) for who in range(60)]
    keep_one = {**ALL_ROWS, "fields": [{"name": "who", "role": "id"}, *FIELDS[1:]]}
    one = published_repeatably(tmp_path / "one", rows, keep_one)
    every = published_repeatably(tmp_path / "every", rows, ALL_ROWS)
    # The schema, which a model takes along, says which of the two it was.
    assert differing(one, every) == [
        "models/checkpoint/history.json",
        "models/classifier/schema.json",
        "models/classifier/sha256sums",
    ]


# --- round the mechanisms ------------------------------------------------------------------------


PUBLISHED = [
    pytest.param("metrics", id="metrics"),
    pytest.param("plots", id="plots"),
    pytest.param("models/classifier", id="classifier"),
    pytest.param("models/checkpoint", id="checkpoint"),
]

# As many rows, to stay within the tolerance for the declared size, but hardly one in common.
OTHER_ROWS = [row.replace(",no,", ",yes,").replace("southeast", "northwest") for row in ROWS]


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """What is published about several tables if the mechanisms tell nothing of them."""
    folder = tmp_path_factory.mktemp("blind")
    tables = {name: without(ROWS, number) for name, number in NOTABLE.items()}
    tables |= {"whole": ROWS, "another table": OTHER_ROWS}
    return {name: published_blindly(folder / name, rows) for name, rows in tables.items()}


@pytest.mark.parametrize("top", PUBLISHED)
def test_what_is_published_depends_on_rows_through_the_mechanisms_only(blind, top):
    whole = within(top, blind["whole"])
    assert whole
    for name, other in blind.items():
        assert differing(whole, within(top, other)) == [], name


def within(top, files):
    return {name: content for name, content in files.items() if name.startswith(f"{top}/")}


@pytest.mark.parametrize("top", PUBLISHED)
def test_training_does_not_see_the_test_side(tmp_path, whole, neighbours, top):
    number = next(n for n, o in enumerate(neighbours) if side_that_lost(whole, o)[0] == "test")
    first = published_repeatably(tmp_path / "whole")
    other = published_repeatably(tmp_path / "other", without(ROWS, number))
    assert differing(within(top, first), within(top, other)) == []


def test_a_training_row_does_matter_to_training(tmp_path, whole, neighbours):
    # The control of the tests above: without their constants the outputs do differ.
    number = next(n for n, o in enumerate(neighbours) if side_that_lost(whole, o)[0] == "train")
    first = published_repeatably(tmp_path / "whole")
    other = published_repeatably(tmp_path / "other", without(ROWS, number))
    assert "models/classifier/weights.safetensors" in differing(first, other)
