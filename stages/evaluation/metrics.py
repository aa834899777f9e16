"""Every test metric, from one table of counts (see `layout.Table`).

Counts are estimates: they have fractions, and may be below zero. What is computed here is not cut,
so that it has no bias; it is shown within `ranges`.
"""

from collections.abc import Iterable

import numpy as np

from stages.evaluation.layout import Table
from stages.evaluation.scores import Values, bin_losses

# Where a metric can be at all, other than in [0, 1].
_RANGES = {"loss": (0.0, np.inf), "gain": (-1.0, 1.0), "rows": (0.0, np.inf)}

# As far as a share is let run away whose denominator may be nothing but noise.
_LEAST, _MOST = -1.0, 2.0


def all_metrics(table: Table, *, ordered: bool = False) -> dict[str, Values]:
    """Return every metric of tables, each of shape (…).

    With two classes precision, recall, F1 and ROC area are those of class 1; with more they are
    means over classes, each against the rest. A metric whose denominator is empty is 0. Log loss
    and ROC area are there if scores were counted.

    Args:
        table: the counts.
        ordered: whether the classes are bands; then `within_one_band` is a metric too.
    """
    confusion = table.confusion
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    of_label, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    rows = of_label.sum(axis=-1)
    recalls, precisions = _ratio(right, of_label), _ratio(right, predicted)
    f1s = _ratio(2 * right, of_label + predicted)
    own = (lambda each: each[..., -1]) if confusion.shape[-1] == 2 else _mean
    share_right, base_rate = accuracy(table), shares_of_classes(table).max(axis=-1)
    near = {"within_one_band": _within_one_band(confusion, rows)} if ordered else {}
    return {
        "accuracy": share_right,
        "base_rate": base_rate,
        "gain": share_right - base_rate,
        **({"loss": _loss(table)} if table.has_scores else {}),
        "balanced_accuracy": _mean(recalls),
        "precision": own(precisions),
        "recall": own(recalls),
        "f1": own(f1s),
        **({"roc_auc": own(roc_area(table.scores))} if table.has_scores else {}),
        **near,
    }


def accuracy(table: Table) -> Values:
    """Return (…): the share of rows that are classified right."""
    right = np.trace(table.confusion, axis1=-2, axis2=-1)
    return _ratio(right, table.confusion.sum(axis=(-1, -2)))


def shares_of_classes(table: Table) -> Values:
    """Return (…, classes): the accuracy of always saying each class, the greatest the base rate."""
    of_label = table.confusion.sum(axis=-1)
    return _ratio(of_label, of_label.sum(axis=-1, keepdims=True))


def _within_one_band(confusion: Values, rows: Values) -> Values:
    """Return the share (…) of rows that are predicted as their own band or one beside it."""
    label, predicted = np.indices(confusion.shape[-2:])
    return _ratio((confusion * (abs(label - predicted) <= 1)).sum(axis=(-1, -2)), rows)


def ranges(names: Iterable[str]) -> tuple[Values, Values]:
    """Return the least and the greatest (metrics,) that metrics can be, and are shown as."""
    least, greatest = zip(*(_RANGES.get(name, (0.0, 1.0)) for name in names), strict=True)
    return np.array(least), np.array(greatest)


def _mean(values: Values) -> Values:
    mean: Values = values.mean(axis=-1)
    return mean


def _loss(table: Table) -> Values:
    # Of several classes' scores each counts for its own rows.
    own = slice(None) if table.scores.shape[-3] == 1 else slice(1, None)
    rows = table.scores[..., own, :]
    total = (rows * bin_losses(table.thresholds)[own]).sum(axis=(-1, -2, -3))
    # By the very rows that are added up, so that it is known of their ± that they are the same.
    people = rows.sum(axis=(-1, -2, -3))
    return np.divide(total, people, out=np.zeros_like(total), where=people > 0)


def group_metrics(groups: Values) -> dict[str, Values]:
    """Return rows, accuracy and recall of groups (…, classes, 2), each of shape (…).

    With two classes recall is that of class 1, with more the mean over classes.
    """
    rows, right = groups.sum(axis=(-1, -2)), groups[..., 1]
    recalls = _ratio(right, groups.sum(axis=-1))
    recall = recalls[..., 1] if groups.shape[-2] == 2 else _mean(recalls)
    return {"rows": rows, "accuracy": _ratio(right.sum(axis=-1), rows), "recall": recall}


def shares_of_labels(confusion: Values) -> Values:
    """Return (…, classes, classes): of the rows of each label, the share of each prediction."""
    return _ratio(confusion, confusion.sum(axis=-1, keepdims=True))


def one_against_rest(confusion: Values) -> Values:
    """Return (…, classes, 2): false and true positive rate of predicting each class."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    of_label, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    others = of_label.sum(axis=-1, keepdims=True) - of_label
    return np.stack([_ratio(predicted - right, others), _ratio(right, of_label)], axis=-1)


def roc_area(scores: Values) -> Values:
    """Return the ROC area (…) of scores (…, 2, bins).

    Pairs in different bins are in the order of these. Of those in one bin half would be in order
    were scores within it as good as random; by how much they are better follows from how the share
    of the class grows from bin to bin: where of m rows in a bin that share grows by s, m²·s / 12
    more pairs are in order than half of them.
    """
    zeros, ones = scores[..., 0, :], scores[..., 1, :]
    pairs = ones * (np.cumsum(zeros, axis=-1) - zeros / 2)
    # A bin's growth is half that to either neighbour; of the outermost the whole of that to one.
    weights = np.full(zeros.shape[-1] - 1, 1 / 12)
    weights[0] += 1 / 24
    weights[-1] += 1 / 24
    growth = zeros[..., :-1] * ones[..., 1:] - ones[..., :-1] * zeros[..., 1:]
    in_order = pairs.sum(axis=-1) + (weights * growth).sum(axis=-1)
    return _ratio(in_order, zeros.sum(axis=-1) * ones.sum(axis=-1))


def roc_curve(scores: Values) -> Values:
    """Return (…, 2, bins + 1): false and true positive rates, from the strictest threshold on."""
    reached = np.cumsum(scores[..., ::-1], axis=-1)
    start = np.zeros((*reached.shape[:-1], 1))
    return _ratio(np.concatenate([start, reached], axis=-1), reached[..., -1:])


def calibration_curve(scores: Values) -> Values:
    """Return (…, bins): the share of the class among the rows of each bin."""
    return _ratio(scores[..., 1, :], scores.sum(axis=-2))


def operating_points(scores: Values) -> dict[str, Values]:
    """Return, at each threshold (…, bins - 1), what follows if the class is called from it on."""
    above = np.cumsum(scores[..., ::-1], axis=-1)[..., -2::-1]
    of_label = scores.sum(axis=-1, keepdims=True)
    below = of_label - above
    return {
        "called": _ratio(above.sum(axis=-2), of_label.sum(axis=-2)),
        "sensitivity": _ratio(above[..., 1, :], of_label[..., 1, :]),
        "specificity": _ratio(below[..., 0, :], of_label[..., 0, :]),
        "positive_predictive_value": _ratio(above[..., 1, :], above.sum(axis=-2)),
        "negative_predictive_value": _ratio(below[..., 0, :], below.sum(axis=-2)),
    }


def _ratio(numerator: Values, denominator: Values) -> Values:
    denominator = np.broadcast_to(denominator, numerator.shape)
    ratio = np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)
    return np.clip(ratio, _LEAST, _MOST)
