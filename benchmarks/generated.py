"""Generated tables: each is of one kind, clipped at bounds that its generator knows."""

import numpy as np
import numpy.typing as npt
from sklearn import datasets

from benchmarks.table import Table, table_of

# Test rows that a small generated table has, so that its figures are sharp, and a large one.
FEWEST_TEST_ROWS, MOST_TEST_ROWS = 4_000, 50_000

Floats = npt.NDArray[np.float64]


def _with_label_noise(
    y: npt.NDArray[np.int64], share: float, source: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return labels of which a share is drawn at random instead."""
    drawn = source.integers(0, y.max() + 1, len(y))
    return np.where(source.random(len(y)) < share, drawn, y)


def linear(
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
    return table_of(x, _with_label_noise(y, noise, source), -3, 3, rows)


def xor(rows: int, features: int) -> Table:
    """The product of two features, with some of two others."""
    source = np.random.default_rng(rows + features)
    total = rows + FEWEST_TEST_ROWS
    x = source.normal(size=(total, features)).clip(-3, 3)
    score = x[:, 0] * x[:, 1] + 0.5 * x[:, 2] + 0.5 * np.abs(x[:, 3])
    y = (score + 0.2 * source.logistic(size=total) > np.median(score)).astype(np.int64)
    return table_of(x, _with_label_noise(y, 0.05, source), -3, 3, rows)


def ball(rows: int) -> Table:
    """Inside or outside of a ball in ten dimensions."""
    x, y = datasets.make_hastie_10_2(rows + FEWEST_TEST_ROWS, random_state=1)
    return table_of(x, y > 0, -4, 4, rows)


def clusters(
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
    return table_of(x, y, -4, 4, rows)


def moons(rows: int) -> Table:
    """Two interleaved half circles, and three useless features."""
    total = rows + FEWEST_TEST_ROWS
    x, y = datasets.make_moons(total, noise=0.25, random_state=21)
    useless = np.random.default_rng(21).uniform(-1, 1, (total, 3))
    return table_of(np.hstack([(x - [0.5, 0.25]) / 2, useless]), y, -1, 1, rows)


def decision_tree(rows: int, features: int, classes: int) -> Table:
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
    return table_of(x, _with_label_noise(y, 0.05, source), 0, 1, rows)


def survey(rows: int) -> Table:
    """Answers to twelve questions with four choices each, two of which matter together."""
    source = np.random.default_rng(23)
    total = rows + FEWEST_TEST_ROWS
    answers = source.integers(0, 4, (total, 12))
    weights = source.normal(size=(12, 4))
    score = weights[np.arange(12), answers].sum(axis=1)
    score += 3 * (answers[:, 0] == answers[:, 1])
    y = score + source.logistic(size=total) > np.median(score)
    return table_of(np.eye(4)[answers].reshape(total, -1), y, 0, 1, rows, numbers=0)


def rings(rows: int) -> Table:
    """A disc within a ring, and four useless features."""
    total = rows + FEWEST_TEST_ROWS
    x, y = datasets.make_circles(total, noise=0.15, factor=0.5, random_state=31)
    useless = np.random.default_rng(31).uniform(-1.5, 1.5, (total, 4))
    return table_of(np.hstack([x, useless]), y, -1.5, 1.5, rows)


def friedman(rows: int) -> Table:
    """Friedman's first function, a product, a square and two slopes, above its median."""
    x, value = datasets.make_friedman1(rows + FEWEST_TEST_ROWS, 10, noise=1, random_state=32)
    return table_of(x, value > 14.4, 0, 1, rows)


def census(rows: int) -> Table:
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
    return table_of(np.hstack(columns), noisy > np.quantile(noisy, 0.76), 0, 1, rows, numbers=2)


# --- kinds that the rule was not fitted on -------------------------------------------------------


def thresholds(rows: int, features: int) -> Table:
    """Points for each of eight numbers that is beyond its limit, as clinical scores have them."""
    source, total = _drawn(41, rows)
    x = source.gamma(3, 1, (total, features))
    points, limits = source.integers(1, 4, 8), source.uniform(1.5, 5, 8)
    score = ((x[:, :8] > limits) * points * [1, -1, 1, 1, -1, 1, 1, -1]).sum(axis=1)
    return table_of(x, _above(score, 0.7, 0.5, source), 0, 10, rows)


def waves(rows: int, features: int) -> Table:
    """A wave of each of four numbers, with one to two periods, all added."""
    source, total = _drawn(42, rows)
    x = source.uniform(0, 1, (total, features))
    score = np.sin(2 * np.pi * x[:, :4] * [1, 1.3, 1.6, 2]).sum(axis=1)
    return table_of(x, _above(score, 0.2, 0.5, source), 0, 1, rows)


def spirals(rows: int) -> Table:
    """Three arms of a spiral, and two useless features."""
    source, total = _drawn(43, rows)
    arm, along = source.integers(0, 3, total), np.sqrt(source.uniform(0.02, 1, total))
    angle = 2 * np.pi * (arm / 3 + 0.75 * along)
    plane = along[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    plane += source.normal(0, 0.05, plane.shape)
    return table_of(np.hstack([plane, source.uniform(-1, 1, (total, 2))]), arm, -1, 1, rows)


def checkerboard(rows: int) -> Table:
    """Three by three squares of alternating colours, two useless features, 5 % random labels."""
    source, total = _drawn(44, rows)
    x = source.uniform(0, 1, (total, 4))
    colour = np.floor(3 * x[:, :2]).sum(axis=1).astype(np.int64) % 2
    return table_of(x, _with_label_noise(colour, 0.05, source), 0, 1, rows)


def experts(rows: int, features: int) -> Table:
    """One of four linear rules, told by a category."""
    source, total = _drawn(45, rows)
    x = source.normal(size=(total, features)).clip(-3, 3)
    category = source.integers(0, 4, total)
    weights = source.normal(size=features) + 0.8 * source.normal(size=(4, features))
    score = (x * weights[category]).sum(axis=1)
    columns = np.hstack([x, np.eye(4)[category] * 6 - 3])
    y = _above(score, 0.2 * float(score.std()), 0.5, source)
    return table_of(columns, y, -3, 3, rows, numbers=features)


def risk(rows: int) -> Table:
    """Fourteen correlated measurements, of some of which both ends are bad; 15 % are ill."""
    source, total = _drawn(46, rows)
    hidden = source.normal(size=(total, 4))
    x = hidden @ source.normal(size=(4, 14)) / 2 + 0.6 * source.normal(size=(total, 14))
    score = x[:, :5] @ source.uniform(0.3, 1, 5) + 0.7 * (x[:, 5:8] ** 2).sum(axis=1)
    return table_of(x, _above(score, 0.4, 0.85, source), -4, 4, rows)


def genotypes(rows: int, places: int) -> Table:
    """Counts of rare variants at each place, twelve of which matter; two others only together."""
    source, total = _drawn(47, rows)
    x = source.binomial(2, source.uniform(0.1, 0.5, places), (total, places))
    score = x[:, :12] @ source.normal(size=12) + 1.5 * ((x[:, 12] > 0) & (x[:, 13] > 0))
    return table_of(x, _above(score, 0.4, 0.5, source), 0, 2, rows)


def grades(rows: int, features: int) -> Table:
    """Five grades in order, cut from one noisy sum of bent numbers."""
    source, total = _drawn(48, rows)
    x = source.normal(size=(total, features)).clip(-3, 3)
    score = np.tanh(1.5 * x) @ source.normal(size=features)
    noisy = score + 0.2 * score.std() * source.logistic(size=total)
    cuts = np.quantile(noisy, [0.15, 0.4, 0.7, 0.9])
    return table_of(x, np.digitize(noisy, cuts), -3, 3, rows)


def assays(rows: int, features: int) -> Table:
    """Concentrations over decades, in bounds that few come near; ratios tell the class of three."""
    source, total = _drawn(49, rows)
    x = source.lognormal(0, 1, (total, features))
    ratios = np.log(x[:, :6]) - np.log(x[:, 6:12])
    scores = ratios @ source.normal(size=(6, 3)) + source.gumbel(size=(total, 3))
    return table_of(x, scores.argmax(axis=1), 0, 12, rows)


def interactions(rows: int, features: int) -> Table:
    """What the smaller of two numbers is, three times, and a category that turns one around."""
    source, total = _drawn(50, rows)
    x = source.uniform(-1, 1, (total, features))
    turned = source.random(total) < 0.5
    score = np.minimum(x[:, 0:3], x[:, 3:6]).sum(axis=1) + np.where(turned, x[:, 6], -x[:, 6])
    columns = np.hstack([x, 2.0 * turned[:, None] - 1])
    y = _above(score, 0.12, 0.5, source)
    return table_of(columns, y, -1, 1, rows, numbers=features)


def teacher(rows: int, features: int, classes: int) -> Table:
    """What a random network with one hidden layer of 24 says, 3 % of whose labels are random."""
    source, total = _drawn(51, rows)
    x = source.normal(size=(total, features)).clip(-3, 3)
    hidden = np.maximum(0, x @ source.normal(size=(features, 24)) / np.sqrt(features))
    scores = (hidden - hidden.mean(axis=0)) @ source.normal(size=(24, classes))
    scores -= scores.mean(axis=0)
    return table_of(x, _with_label_noise(scores.argmax(axis=1), 0.03, source), -3, 3, rows)


def smooth(rows: int, features: int) -> Table:
    """A smooth rule: products, a wave and a bump, of which logistic noise tells the odds."""
    source, total = _drawn(52, rows)
    x = source.normal(size=(total, features)).clip(-3, 3)
    score = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + np.exp(-(x[:, 3:5] ** 2).sum(axis=1))
    score += x[:, 5:].mean(axis=1) * np.sqrt(features - 5)
    return table_of(x, _above(score, 0.25, 0.5, source), -3, 3, rows)


def _drawn(seed: int, rows: int) -> tuple[np.random.Generator, int]:
    """Return where a table is drawn from, and how many rows it has in all."""
    test = min(MOST_TEST_ROWS, max(rows // 4, FEWEST_TEST_ROWS))
    return np.random.default_rng(seed), rows + test


def _above(
    score: Floats, noise: float, share_below: float, source: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Return whether a score, with logistic noise of some scale, is above its quantile."""
    noisy = score + noise * source.logistic(size=len(score))
    above: npt.NDArray[np.bool_] = noisy > np.quantile(noisy, share_below)
    return above
