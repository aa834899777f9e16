"""Take a row away, run all but sampling and noise again: only what may differ differs."""

import numpy as np
import pytest

from tests.faults.replay import (
    NOTABLE,
    ROUNDING,
    ROWS,
    breaches,
    differing,
    published_blindly,
    published_repeatably,
    replay,
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
    features = np.array(whole.training.features)
    features[0, 1] = value
    monkeypatch.setattr(whole.training, "features", features)
    everybody = range(len(features))
    for scale in (1.0, 30.0):
        gradient, metrics = whole.sums(everybody, scale)
        others, metrics_of_others = whole.sums(everybody[1:], scale)
        assert np.linalg.norm(gradient - others) <= whole.plan.max_grad_norm + ROUNDING
        assert np.abs(metrics - metrics_of_others).max() <= 1 + ROUNDING


# --- a table with fields of every other kind, and several rows of a person ------------------------

CLINIC = {
    "fields": [
        {"name": "who", "role": "id", "repeated": "keep latest", "latest": "seen"},
        {"name": "born", "type": "date", "role": "reference", "format": "%d.%m.%Y"},
        {
            **{"name": "seen", "type": "datetime", "parts": ["month", "weekday"]},
            "since": {"field": "born", "unit": "years", "minimum": 0, "maximum": 100},
        },
        {"name": "smokes", "type": "boolean", "missing": "category"},
        {
            **{"name": "bmi", "type": "number", "cutoffs": [18.5, 25, 30], "missing": "midpoint"},
            "constraints": {"minimum": 10, "maximum": 60},
        },
        {"name": "cost", "type": "number", "role": "label", "thresholds": [5000, 15000]},
    ],
    "report_by": ["smokes"],
}


def visit(source, who, day):
    """A row of one person, who is `who` years old."""
    smokes, bmi = source.choice(["yes", "no", ""]), source.choice(["17.5", "25", "45.1", ""])
    seen = f"2020-{day % 12 + 1:02}-{day % 28 + 1:02} 10:{day % 60:02}"
    return f"p{who},01.07.{1919 + who},{seen},{smokes},{bmi},{source.integers(25000)}"


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
