"""What the model has learned is shown as it is, on models whose truth is known."""

import numpy as np
import pytest
from scipy.special import expit

from stages.model.classifier import Classifier
from stages.model.effects import ROWS, _spread_rows, find_effects, spelled
from stages.model.perceptron import Model
from stages.tabular.schema import Schema
from tests.examples import SCHEMAS
from tests.tabular.conftest import schema_of


def number(name, low=-1, high=1, **more):
    return {
        "name": name,
        "type": "number",
        "constraints": {"minimum": low, "maximum": high},
        **more,
    }


def logistic(weights, bias=0.0):
    """A linear model of two classes whose log odds are `weights` times the encoded columns."""
    weight = np.array([np.zeros(len(weights)), weights], np.float32)
    return Model([(weight, np.array([0, bias], np.float32))], "tanh")


def by_name(effects):
    return {effect.feature.name: effect for effect in effects.single}


def test_a_linear_model_is_shown_as_it_is(tmp_path):
    schema = schema_of(tmp_path, number("weak"), number("none"), number("strong", 0, 10))
    effects = find_effects(logistic([-1, 0, 3]), schema)
    assert [effect.feature.name for effect in effects.single] == ["strong", "weak", "none"]
    found = by_name(effects)
    assert found["none"].strength == 0
    assert (np.diff(found["strong"].mean[:, 1]) > 0).all()
    assert (np.diff(found["weak"].mean[:, 1]) < 0).all()
    # The mean over w from -1 to 1: ∫ σ(3x - w) dw / 2 = log((1 + e^(3x+1)) / (1 + e^(3x-1))) / 2.
    x = np.linspace(-1, 1, 21)
    truth = (np.logaddexp(0, 3 * x + 1) - np.logaddexp(0, 3 * x - 1)) / 2
    np.testing.assert_allclose(found["strong"].mean[:, 1], truth, atol=1e-3)
    np.testing.assert_allclose(found["strong"].cells, np.linspace(0, 10, 21))
    # Nine tenths of the rows: w from -0.9 to 0.9.
    np.testing.assert_allclose(found["strong"].high[:, 1], expit(3 * x + 0.9), atol=5e-3)
    np.testing.assert_allclose(found["strong"].low[:, 1], expit(3 * x - 0.9), atol=5e-3)


def test_a_threshold_at_30_is_shown_where_it_is(tmp_path):
    age = {"name": "age", "type": "integer", "constraints": {"minimum": 18, "maximum": 64}}
    at_30 = 2 * (30 - 18) / (64 - 18) - 1
    layers = [
        (np.array([[200, 0]], np.float32), np.array([-200 * at_30], np.float32)),
        (np.array([[0], [5]], np.float32), np.zeros(2, np.float32)),
    ]
    effects = find_effects(Model(layers, "tanh"), schema_of(tmp_path, age, number("other")))
    effect = by_name(effects)["age"]
    assert effects.single[0] is effect
    below = np.array(effect.cells) < 30
    assert (effect.mean[below, 1] < 0.01).all()
    assert (effect.mean[np.array(effect.cells) > 30, 1] > 0.99).all()
    assert effect.lowest[0] == "18"
    assert effect.strength == pytest.approx(expit(5) - expit(-5), abs=1e-3)


def test_an_interaction_is_shown_though_neither_feature_moves_the_mean(tmp_path):
    fields = (number("a"), number("b"), number("alone"))
    schema = schema_of(tmp_path, *fields, interactions=[["a", "b"]])
    effects = find_effects(logistic([0, 0, 2, 6]), schema)
    found = by_name(effects)
    for name in ("a", "b"):
        # 0.5 whatever it is, but for how 256 rows are spread; each row by itself moves far.
        np.testing.assert_allclose(found[name].mean[:, 1], 0.5, atol=0.05)
        assert found[name].strength > 0.5
    assert effects.pair is not None
    assert {feature.name for feature in effects.pair.features} == {"a", "b"}
    a, b = (np.array(cells) for cells in effects.pair.cells)
    product = a[:, np.newaxis] * b
    assert (effects.pair.mean[product > 0.1, 1] > 0.5).all()
    assert (effects.pair.mean[product < -0.1, 1] < 0.5).all()


def test_the_others_are_spread_evenly_over_what_is_declared():
    schema = Schema.load(SCHEMAS / "clinic.schema.json")
    rows = _spread_rows(schema, ROWS)
    assert rows["age"].null_count == 0
    assert np.bincount(rows["smoker"].indices, minlength=2).tolist() == [ROWS / 2] * 2
    wards = np.bincount(rows["ward"].indices, minlength=14)
    assert (np.abs(wards[:12] - ROWS / 12) < 1).all()
    assert wards[12:].tolist() == [0, 0]
    # Evenly on the scale of its logarithm, on which the model sees it.
    dose = np.log1p(rows["dose"].to_numpy()) / np.log1p(1000)
    np.testing.assert_allclose(np.sort(dose), (np.arange(ROWS) + 0.5) / ROWS)


def test_every_value_is_looked_at_edges_and_what_is_missing_included():
    schema = Schema.load(SCHEMAS / "clinic.schema.json")
    cells = {feature.name: feature.grid(21).to_pylist() for feature in schema.features}
    assert cells["ward"] == [*(f"ward {n}" for n in range(12)), "(other)", "(missing)"]
    assert cells["smoker"] == ["no", "yes"]
    assert cells["age"][0] == 18
    assert cells["age"][-2:] == [90, None]
    assert all(age == round(age) for age in cells["age"][:-1])
    assert cells["dose"][0] == 0
    assert cells["dose"][-2:] == [pytest.approx(1000), None]


def test_a_frame_has_a_row_per_value_and_class(tmp_path):
    schema = schema_of(tmp_path, number("a", missing="midpoint"), number("b"))
    frame = Classifier(logistic([1, 1, 0]), schema).effects()
    assert [*frame.columns] == [
        *("feature", "strength", "value", "class", "probability", "low", "high")
    ]
    assert frame["feature"].tolist() == ["a"] * 22 + ["b"] * 21
    assert frame["value"].tolist()[20:22] == ["1", "(missing)"]
    assert set(frame["class"]) == {schema.class_names[1]}
    assert ((frame["low"] <= frame["high"]) & frame["probability"].between(0, 1)).all()


def test_of_three_classes_each_is_told():
    schema = Schema.load(SCHEMAS / "clinic.schema.json")
    columns = len(schema.feature_names)
    weight = np.random.default_rng(0).normal(size=(3, columns)).astype(np.float32)
    classifier = Classifier(Model([(weight, np.zeros(3, np.float32))], "relu"), schema)
    told = classifier.effects().groupby(["feature", "value"])["class"].apply(list)
    assert set(map(tuple, told)) == {("home", "ward", "intensive")}


def test_a_single_feature_has_no_pair(tmp_path):
    assert find_effects(logistic([1]), schema_of(tmp_path, number("a"))).pair is None


@pytest.mark.parametrize(
    ("cell", "text"),
    [(None, "(missing)"), ("no", "no"), (22.5, "22.5"), (1 / 3, "0.33333"), (123456.7, "123460")],
)
def test_cells_are_spelled_in_few_digits(cell, text):
    assert spelled(cell) == text
