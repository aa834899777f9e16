"""What a model has learned, by public inputs: how its answers move with each feature.

One feature runs over its declared domain while the others take values spread over theirs, which is
partial dependence (Friedman 2001, "Greedy function approximation", section 8.2) on a public grid.
Only the released model and its schema are read, so this is post-processing and spends no ε. It
tells the model's habits over the declared domain, most of which may never occur, and nothing of the
population.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.model.perceptron import Model, predict_probabilities
from stages.tabular.encode import join
from stages.tabular.fields import Feature
from stages.tabular.fields.base import MISSING
from stages.tabular.schema import Schema

Values = npt.NDArray[np.float64]
Block = npt.NDArray[np.float32]  # (rows, columns) of a feature, encoded

# Rows among which the other features are spread, and points of a range that is walked through.
ROWS, POINTS = 256, 21
# The same for pairs, of which there are many: they are looked for among the strongest features.
PAIR_ROWS, PAIR_POINTS, PAIRED = 64, 11, 5

# The middle nine tenths of the rows lie between these.
BAND = (0.05, 0.95)


@dataclass(frozen=True)
class Effect:
    """What the probabilities are at each cell that a feature can have.

    Attributes:
        feature: which.
        cells: where it was looked at, in order; None is a missing cell.
        mean: (cells, classes) mean probabilities over the rows.
        low, high: (cells, classes) ends of the middle nine tenths of the rows.
        strength: how far a row's probability of a class moves as the feature runs over its domain,
            in the mean of the rows, for the class that moves most; from 0 to 1.
    """

    feature: Feature
    cells: Sequence[Any]
    mean: Values
    low: Values
    high: Values
    strength: float

    @property
    def told_class(self) -> int:
        """The class whose mean moves most; of two, the second."""
        moves = np.ptp(self.mean, axis=0)
        return 1 if len(moves) == 2 else int(moves.argmax())

    @property
    def lowest(self) -> tuple[str, float]:
        """The cell at which the mean of that class is lowest, and that mean."""
        return self._at(int(self.mean[:, self.told_class].argmin()))

    @property
    def highest(self) -> tuple[str, float]:
        """The cell at which it is highest."""
        return self._at(int(self.mean[:, self.told_class].argmax()))

    def _at(self, place: int) -> tuple[str, float]:
        return spelled(self.cells[place]), float(self.mean[place, self.told_class])


@dataclass(frozen=True)
class PairEffect:
    """The same of two features together.

    Attributes:
        features: which.
        cells: where each was looked at.
        mean: (cells of the first, cells of the second, classes) mean probabilities over the rows.
        strength: how far this is, in the quadratic mean, from what the two do one by one, for the
            class where it is farthest: the H statistic of Friedman & Popescu (2008), "Predictive
            learning via rule ensembles", equation 44, as a difference of probabilities.
    """

    features: tuple[Feature, Feature]
    cells: tuple[Sequence[Any], Sequence[Any]]
    mean: Values
    strength: float


@dataclass(frozen=True)
class Effects:
    """What a model has learned.

    Attributes:
        single: the effect of each feature, strongest first.
        pair: of the strongest features, the two that depend most on each other; None if there is
            one feature only.
    """

    single: Sequence[Effect]
    pair: PairEffect | None

    def rows(self, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield a row of CSV per feature, cell and class; of two classes the second tells all."""
        told = [*enumerate(classes)][len(classes) == 2 :]
        for effect in self.single:
            for place, cell in enumerate(effect.cells):
                for number, name in told:
                    yield {
                        "feature": effect.feature.name,
                        "strength": round(effect.strength, 4),
                        "value": spelled(cell),
                        "class": name,
                        "probability": round(float(effect.mean[place, number]), 4),
                        "low": round(float(effect.low[place, number]), 4),
                        "high": round(float(effect.high[place, number]), 4),
                    }


def spelled(cell: Any, digits: int = 5) -> str:
    """Return a cell as text, a number in so many digits."""
    if cell is None:
        return MISSING
    return f"{float(f'{cell:.{digits}g}'):.15g}" if isinstance(cell, float) else str(cell)


def find_effects(model: Model, schema: Schema) -> Effects:
    """Return what the model does with each feature, and with the pair that needs a look."""
    others = _encoded_rows(schema, ROWS)
    found = [_effect(model, schema, others, feature) for feature in schema.features]
    single = sorted(found, key=lambda effect: -effect.strength)
    few = {name: block[:PAIR_ROWS] for name, block in others.items()}
    strongest = combinations([effect.feature for effect in single[:PAIRED]], 2)
    pairs = [_pair_effect(model, schema, few, pair) for pair in strongest]
    return Effects(single, max(pairs, key=lambda pair: pair.strength, default=None))


def _spread_rows(schema: Schema, rows: int) -> dict[str, pa.Array]:
    """Return made-up rows: each feature goes evenly through its domain, in an order of its own.

    This is a Latin hypercube (McKay et al. 1979) of a public seed.
    """
    shares = np.tile((np.arange(rows) + 0.5) / rows, (len(schema.features), 1))
    shuffled = np.random.default_rng(0).permuted(shares, axis=1)
    return {f.name: f.spread(own) for f, own in zip(schema.features, shuffled, strict=True)}


def _encoded_rows(schema: Schema, rows: int) -> dict[str, Block]:
    spread = _spread_rows(schema, rows)
    return {feature.name: _encoded(feature, spread[feature.name]) for feature in schema.features}


def _encoded(feature: Feature, cells: pa.Array) -> Block:
    """Return made-up cells encoded; a date's time since another does not hang on that one's day."""
    zeros = pa.array(np.zeros(len(cells)))
    return feature.encode(cells, *[zeros] * (len(feature.inputs) - 1))


def _shown(feature: Feature, cells: pa.Array) -> list[Any]:
    return [None if cell is None else feature.shown(cell) for cell in cells.to_pylist()]


def _effect(model: Model, schema: Schema, others: Mapping[str, Block], feature: Feature) -> Effect:
    grid = feature.grid(POINTS)
    answers = _answers(model, schema, others, {feature.name: _encoded(feature, grid)})
    low, high = np.quantile(answers, BAND, axis=1)
    strength = float(np.ptp(answers, axis=0).mean(axis=0).max())
    return Effect(feature, _shown(feature, grid), answers.mean(axis=1), low, high, strength)


def _pair_effect(
    model: Model, schema: Schema, others: Mapping[str, Block], pair: tuple[Feature, Feature]
) -> PairEffect:
    first, second = (feature.grid(PAIR_POINTS)[:POINTS] for feature in pair)
    places = np.indices((len(first), len(second))).reshape(2, -1)
    cells = {
        feature.name: _encoded(feature, grid)[own]
        for feature, grid, own in zip(pair, (first, second), places, strict=True)
    }
    mean = _answers(model, schema, others, cells).mean(axis=1)
    mean = mean.reshape(len(first), len(second), -1)
    alone = mean.mean(axis=0) + mean.mean(axis=1)[:, np.newaxis] - mean.mean(axis=(0, 1))
    apart = np.sqrt(((mean - alone) ** 2).mean(axis=(0, 1)))
    shown = (_shown(pair[0], first), _shown(pair[1], second))
    return PairEffect(pair, shown, mean, float(apart.max()))


def _answers(
    model: Model, schema: Schema, others: Mapping[str, Block], cells: Mapping[str, Block]
) -> Values:
    """Return probabilities (cells, rows, classes) where each row has each of the cells."""
    rows, steps = len(next(iter(others.values()))), len(next(iter(cells.values())))
    every = {name: np.tile(block, (steps, 1)) for name, block in others.items()}
    every |= {name: np.repeat(block, rows, axis=0) for name, block in cells.items()}
    features = join(every, schema)
    return np.concatenate([*predict_probabilities(model, features)]).reshape(steps, rows, -1)
