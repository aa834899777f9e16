"""The tables that `make bench-utility` measures on, real ones and generated ones.

All that a method may know of a table beforehand is public by construction: real tables have round
bounds that were written down from what the columns mean, generated ones are clipped where their
generator says. Features are scaled by these bounds to [-1, 1], as the pipeline does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn import datasets
from torch import nn

from stages.model.perceptron import Architecture
from stages.tabular.encode import encode, labels
from stages.tabular.prepared import Features, Labels
from stages.tabular.reader import read_batches
from stages.tabular.schema import Schema
from stages.training.network import build_network

Probabilities = npt.NDArray[np.float64]

HIDDEN_SIZES = (128, 64)

# Test rows that a small generated table has, so that its figures are sharp.
FEWEST_TEST_ROWS = 4_000


@dataclass(frozen=True)
class Table:
    """A table and how much of it is for training.

    Attributes:
        features: (rows, features) float32 in [-1, 1].
        labels: (rows,) int64 in [0, classes).
        train_size: rows of each repeat's training side; the others test.
        classes: number of labels.
    """

    features: Features
    labels: Labels
    train_size: int
    classes: int

    def split(self, seed: int) -> tuple[Features, Labels, Features, Labels]:
        """Return training features and labels, then those for testing, of a random split."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        train, test = order[: self.train_size], order[self.train_size :]
        return self.features[train], self.labels[train], self.features[test], self.labels[test]


@dataclass(frozen=True)
class Task:
    """Train on these rows, predict those.

    Attributes:
        x, y: training features in [-1, 1] and labels.
        x_test: features whose labels are to be predicted.
        classes: number of labels.
        epsilon, delta: what a private method may spend.
        seed: of all of the method's own randomness.
    """

    x: Features
    y: Labels
    x_test: Features
    classes: int
    epsilon: float
    delta: float
    seed: int

    def network(self, activation: str = "relu") -> nn.Sequential:
        """Return the project's network for this table, untrained."""
        return build_network(self.architecture(activation), self.seed)

    def architecture(self, activation: str) -> Architecture:
        """Return the network's shape."""
        return Architecture(self.x.shape[1], self.classes, HIDDEN_SIZES, activation)


def _table(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    train_size: int | None = None,
) -> Table:
    x, low, high = np.asarray(x, float), np.asarray(low, float), np.asarray(high, float)
    scaled = 2 * (np.clip(x, low, high) - low) / (high - low) - 1
    found = np.asarray(y).astype(np.int64)
    train_size = train_size or round(0.8 * len(found))
    return Table(scaled.astype(np.float32), found, train_size, int(found.max()) + 1)


def _with_label_noise(
    y: npt.NDArray[np.int64], share: float, source: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return labels of which a share is drawn at random instead."""
    drawn = source.integers(0, y.max() + 1, len(y))
    return np.where(source.random(len(y)) < share, drawn, y)


# --- real tables ---------------------------------------------------------------------------------


# The sample's column that says nearly everything.
SMOKER = 4


def _sample() -> Table:
    schema = Schema.load("data/sample_medical_data.schema.json")
    batches = list(read_batches("data/sample_medical_data.csv", schema))
    features = np.concatenate([encode(batch, schema) for batch in batches])
    classes = np.concatenate([labels(batch, schema) for batch in batches])
    return Table(features, classes, round(0.8 * len(classes)), 2)


def _breast_cancer() -> Table:
    # Ten properties of cell nuclei: their mean, its standard error, and the worst.
    mean = [30, 40, 200, 2_500, 0.2, 0.4, 0.5, 0.25, 0.4, 0.1]
    error = [3, 5, 25, 300, 0.03, 0.15, 0.4, 0.05, 0.1, 0.03]
    worst = [40, 50, 250, 4_000, 0.25, 1, 1.25, 0.3, 0.7, 0.2]
    found = datasets.load_breast_cancer()
    return _table(found.data, found.target, 0, [*mean, *error, *worst])


def _digits() -> Table:
    found = datasets.load_digits()
    return _table(found.data, found.target, 0, 16)


def _wine() -> Table:
    found = datasets.load_wine()
    low = [10, 0, 1, 10, 60, 0, 0, 0, 0, 0, 0, 1, 0]
    high = [16, 6, 4, 30, 170, 5, 6, 1, 4, 15, 2, 4, 1_800]
    return _table(found.data, found.target, low, high)


# --- generated tables ----------------------------------------------------------------------------


def _linear(
    rows: int,
    features: int,
    classes: int,
    *,
    positive: float = 0.5,
    informative: int | None = None,
    noise: float = 0.05,
) -> Table:
    """A noisy linear rule, a share of whose labels is random."""
    source = np.random.default_rng(rows + features)
    total = rows + max(rows // 4, FEWEST_TEST_ROWS)
    told = informative or features
    x = source.normal(size=(total, features)).clip(-3, 3)
    weights = source.normal(size=(features, classes))
    weights[told:] = 0
    scores = x @ weights / np.sqrt(told)
    if classes == 2:
        score = scores[:, 1] - scores[:, 0]
        noisy = score / score.std() + 0.25 * source.logistic(size=total)
        y = (noisy > np.quantile(score / score.std(), 1 - positive)).astype(np.int64)
    else:
        y = (3 * scores + source.gumbel(size=scores.shape)).argmax(axis=1)
    return _table(x, _with_label_noise(y, noise, source), -3, 3, rows)


def _xor(rows: int, features: int) -> Table:
    """The product of two features, with some of two others."""
    source = np.random.default_rng(rows + features)
    total = rows + FEWEST_TEST_ROWS
    x = source.normal(size=(total, features)).clip(-3, 3)
    score = x[:, 0] * x[:, 1] + 0.5 * x[:, 2] + 0.5 * np.abs(x[:, 3])
    y = (score + 0.2 * source.logistic(size=total) > np.median(score)).astype(np.int64)
    return _table(x, _with_label_noise(y, 0.05, source), -3, 3, rows)


def _hastie(rows: int) -> Table:
    """Inside or outside of a ball in ten dimensions."""
    x, y = datasets.make_hastie_10_2(rows + FEWEST_TEST_ROWS, random_state=1)
    return _table(x, y > 0, -4, 4, rows)


def _shells(rows: int) -> Table:
    """Three nested shells in five dimensions."""
    x, y = datasets.make_gaussian_quantiles(
        n_samples=rows + FEWEST_TEST_ROWS, n_features=5, n_classes=3, random_state=2
    )
    return _table(x, y, -4, 4, rows)


def _clusters(
    rows: int,
    features: int,
    *,
    classes: int = 2,
    positive: float | None = None,
    informative: int,
    apart: float,
) -> Table:
    """Normal clusters at the corners of a cube, two to a class, and useless features."""
    x, y = datasets.make_classification(
        rows + max(rows // 4, FEWEST_TEST_ROWS),
        features,
        n_informative=informative,
        n_redundant=0,
        n_classes=classes,
        weights=None if positive is None else [1 - positive],
        flip_y=0.02,
        class_sep=apart,
        random_state=4,
    )
    return _table(x, y, -4, 4, rows)


def _moons(rows: int) -> Table:
    """Two interleaved half circles, and three useless features."""
    total = rows + FEWEST_TEST_ROWS
    x, y = datasets.make_moons(total, noise=0.25, random_state=21)
    useless = np.random.default_rng(21).uniform(-1, 1, (total, 3))
    return _table(np.hstack([(x - [0.5, 0.25]) / 2, useless]), y, -1, 1, rows)


def _decision_tree(rows: int, features: int, classes: int) -> Table:
    """Boxes whose sides a random tree of depth 6 has cut, 5 % of whose labels are random."""
    source = np.random.default_rng(22)
    total = rows + FEWEST_TEST_ROWS
    x = source.uniform(0, 1, (total, features))
    node = np.zeros(total, dtype=np.int64)
    for depth in range(6):
        feature = source.integers(0, features, 2**depth)
        at = source.uniform(0.3, 0.7, 2**depth)
        node = 2 * node + (x[np.arange(total), feature[node]] > at[node])
    y = source.integers(0, classes, 2**6)[node]
    return _table(x, _with_label_noise(y, 0.05, source), 0, 1, rows)


def _survey(rows: int) -> Table:
    """Answers to twelve questions with four choices each, two of which matter together."""
    source = np.random.default_rng(23)
    total = rows + FEWEST_TEST_ROWS
    answers = source.integers(0, 4, (total, 12))
    weights = source.normal(size=(12, 4))
    score = weights[np.arange(12), answers].sum(axis=1)
    score += 3 * (answers[:, 0] == answers[:, 1])
    y = score + source.logistic(size=total) > np.median(score)
    return _table(np.eye(4)[answers].reshape(total, -1), y, 0, 1, rows)


def _impedance(rows: int) -> Table:
    """Friedman's second function, a product and a ratio, in three classes of equal size."""
    x, value = datasets.make_friedman2(rows + FEWEST_TEST_ROWS, noise=50, random_state=24)
    y = np.digitize(value, [230, 560])
    return _table(x, y, [0, 100, 0, 1], [100, 2_000, 1, 11], rows)


def _rings(rows: int) -> Table:
    """A disc within a ring, and four useless features."""
    total = rows + FEWEST_TEST_ROWS
    x, y = datasets.make_circles(total, noise=0.15, factor=0.5, random_state=31)
    useless = np.random.default_rng(31).uniform(-1.5, 1.5, (total, 4))
    return _table(np.hstack([x, useless]), y, -1.5, 1.5, rows)


def _friedman(rows: int) -> Table:
    """Friedman's first function, a product, a square and two slopes, above its median."""
    x, value = datasets.make_friedman1(rows + FEWEST_TEST_ROWS, 10, noise=1, random_state=32)
    return _table(x, value > 14.4, 0, 1, rows)


def _blobs(rows: int) -> Table:
    """One normal cluster to a class, of different widths."""
    x, y = datasets.make_blobs(
        rows + FEWEST_TEST_ROWS,
        16,
        centers=8,
        center_box=(-3, 3),
        cluster_std=np.linspace(1.5, 3.5, 8),
        random_state=33,
    )
    return _table(x, y, -10, 10, rows)


def _counts(rows: int) -> Table:
    """Counts with long tails, some of which add up on a scale of logarithms."""
    source = np.random.default_rng(34)
    total = rows + FEWEST_TEST_ROWS
    x = source.poisson(source.gamma(1, 4, (total, 15)))
    score = np.log1p(x) @ np.where(np.arange(15) < 6, source.normal(size=15), 0)
    noisy = score + 0.5 * source.logistic(size=total)
    return _table(x, noisy > np.quantile(noisy, 0.88), 0, 20, rows)


def _census(rows: int) -> Table:
    """Two numbers and six categories of 4 to 12 levels, 24 % in class 1."""
    source = np.random.default_rng(35)
    total = rows + rows // 4
    numbers = source.beta(2, 3, (total, 2))
    columns, score = [numbers], 4 * numbers[:, 0] - 6 * (numbers[:, 0] - 0.4) ** 2 + numbers[:, 1]
    for levels in (4, 5, 7, 9, 10, 12):
        level = np.minimum(source.geometric(2.5 / levels, total), levels) - 1
        columns.append(np.eye(levels)[level])
        score = score + source.normal(size=levels)[level]
    noisy = score + 0.6 * source.logistic(size=total)
    return _table(np.hstack(columns), noisy > np.quantile(noisy, 0.76), 0, 1, rows)


def _patches(rows: int) -> Table:
    """The surroundings of nine points in a plane, three to a class, and four useless features."""
    source = np.random.default_rng(36)
    x = source.uniform(-1, 1, (rows + FEWEST_TEST_ROWS, 6))
    points = source.uniform(-1, 1, (9, 2))
    nearest = ((x[:, None, :2] - points) ** 2).sum(axis=2).argmin(axis=1)
    return _table(x, _with_label_noise(nearest % 3, 0.05, source), -1, 1, rows)


# --- the suite -----------------------------------------------------------------------------------

# Sizes are training rows × features; a share is that of class 1 where classes are uneven.
# The rule's constants were fitted on these, with few repeats.
FITTED: dict[str, Callable[[], Table]] = {
    "sample": _sample,
    "breast cancer": _breast_cancer,
    "digits": _digits,
    "wine": _wine,
    "linear 500×5": lambda: _linear(500, 5, 2),
    "linear 5,000×20": lambda: _linear(5_000, 20, 2, informative=6),
    "xor 4,000×10": lambda: _xor(4_000, 10),
    "linear 10,000×10, 9 %": lambda: _linear(10_000, 10, 2, positive=0.07),
    "linear 8,000×30, 5 classes": lambda: _linear(8_000, 30, 5),
    "ball 6,000×10": lambda: _hastie(6_000),
    "shells 3,000×5, 3 classes": lambda: _shells(3_000),
    "moons 1,500×5": lambda: _moons(1_500),
    "tree 6,000×8, 3 classes": lambda: _decision_tree(6_000, 8, 3),
    "survey 9,000×48": lambda: _survey(9_000),
    "impedance 2,500×4, 3 classes": lambda: _impedance(2_500),
    "linear 2,500×100": lambda: _linear(2_500, 100, 2, informative=20),
    "linear 700×12, 4 classes": lambda: _linear(700, 12, 4),
    "clusters 12,000×40, 9 %": lambda: _clusters(
        12_000, 40, positive=0.08, informative=8, apart=1.2
    ),
    "clusters 160,000×12": lambda: _clusters(160_000, 12, informative=8, apart=0.8),
}

# Nobody had trained on these when the rule was written.
UNSEEN: dict[str, Callable[[], Table]] = {
    "rings 1,200×6": lambda: _rings(1_200),
    "friedman 4,000×10": lambda: _friedman(4_000),
    "blobs 1,000×16, 8 classes": lambda: _blobs(1_000),
    "counts 7,000×15, 12 %": lambda: _counts(7_000),
    "census 26,000×49, 24 %": lambda: _census(26_000),
    "linear 14,000×60, 30 % noise": lambda: _linear(14_000, 60, 2, informative=30, noise=0.3),
    "patches 5,000×6, 3 classes": lambda: _patches(5_000),
    "clusters 100,000×25, 4 classes": lambda: _clusters(
        100_000, 25, classes=4, informative=10, apart=1
    ),
}

TABLES = FITTED | UNSEEN
