"""Every test metric, from one table of counts.

A table has shape (…, labels, predictions, bins): how many rows of a label were predicted as what,
by the probability that the model gave to the true label, in bins with edges `BIN_EDGES`.
Leading axes hold alternative tables, for which all metrics come out at once.
"""

import math

import numpy as np
import numpy.typing as npt

# Symmetric about 0.5, so that for two classes the bins of the true label's probability are those of
# class 1's; narrow at the ends, where the log loss is steep.
BIN_EDGES = np.array([0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 1])
BINS = len(BIN_EDGES) - 1

Table = npt.NDArray[np.float64]
Values = npt.NDArray[np.float64]


def possible_cells(classes: int) -> npt.NDArray[np.bool_]:
    """Return (classes, classes, BINS) bool: which cells a row can be in.

    A row predicted right has at least 1 / classes on its label, one predicted wrong at most 1/2.
    """
    right = BIN_EDGES[1:] > 1 / classes
    wrong = BIN_EDGES[:-1] < 1 / 2
    diagonal = np.eye(classes, dtype=bool)[:, :, None]
    return np.where(diagonal, right, wrong)


def count_rows(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return the (classes, classes, BINS) table of rows.

    Args:
        labels: (rows,) in [0, classes).
        probabilities: (rows, classes), each row adding up to 1. Ties go to the lower class.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    true = np.nan_to_num(probabilities[np.arange(len(labels)), labels], nan=0.0)
    # Ties and rounding must not put a row just across the edge of what is possible for it.
    true = np.where(predicted == labels, np.maximum(true, 1 / classes), true)
    true = np.where(predicted == labels, true, np.minimum(true, np.nextafter(0.5, 0)))
    table = np.zeros((classes, classes, BINS), dtype=np.int64)
    np.add.at(table, (labels, predicted, np.digitize(true, BIN_EDGES[1:-1])), 1)
    return table


def all_metrics(table: Table, *, ordered: bool = False) -> dict[str, Values]:
    """Return every metric of a table (…, classes, classes, BINS), each of shape (…).

    With two classes precision, recall, F1 and ROC AUC are those of class 1; with more, precision,
    recall and F1 are means over classes. A metric whose denominator is empty is 0.

    Args:
        table: the counts.
        ordered: whether the classes are bands; then `within_one_band` is a metric too.
    """
    confusion = table.sum(axis=-1)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    recalls = _ratio(right, confusion.sum(axis=-1))
    precisions = _ratio(right, confusion.sum(axis=-2))
    f1s = _ratio(2 * right, confusion.sum(axis=-1) + confusion.sum(axis=-2))
    rows = confusion.sum(axis=(-1, -2))
    metrics = {
        "accuracy": _ratio(right.sum(axis=-1), rows),
        "loss": _ratio((table * _bin_losses()).sum(axis=(-1, -2, -3)), rows),
        "balanced_accuracy": recalls.mean(axis=-1),
    }
    if ordered:
        metrics["within_one_band"] = within_one_band(table)
    if table.shape[-3] == 2:
        return metrics | {
            "precision": precisions[..., 1],
            "recall": recalls[..., 1],
            "f1": f1s[..., 1],
            "roc_auc": _area(*roc_curve(table)),
        }
    return metrics | {
        "precision": precisions.mean(axis=-1),
        "recall": recalls.mean(axis=-1),
        "f1": f1s.mean(axis=-1),
    }


def within_one_band(table: Table) -> Values:
    """Return the share (…) of rows that are predicted as their own band or one beside it."""
    confusion = table.sum(axis=-1)
    label, predicted = np.indices(confusion.shape[-2:])
    near = (confusion * (abs(label - predicted) <= 1)).sum(axis=(-1, -2))
    return _ratio(near, confusion.sum(axis=(-1, -2)))


def metrics_of(table: Table, *, ordered: bool = False) -> dict[str, float]:
    """Return every metric of one table (classes, classes, BINS)."""
    return {name: float(value) for name, value in all_metrics(table, ordered=ordered).items()}


def group_metrics(groups: Table) -> dict[str, Values]:
    """Return rows, accuracy and recall of tables (…, classes, classes), each of shape (…).

    With two classes recall is that of class 1, with more the mean over classes.
    """
    right = np.diagonal(groups, axis1=-2, axis2=-1)
    rows = groups.sum(axis=(-1, -2))
    recalls = _ratio(right, groups.sum(axis=-1))
    recall = recalls[..., 1] if groups.shape[-1] == 2 else recalls.mean(axis=-1)
    return {"rows": rows, "accuracy": _ratio(right.sum(axis=-1), rows), "recall": recall}


def one_against_rest(table: Table) -> Values:
    """Return (…, classes, 2): false and true positive rate of predicting each class."""
    confusion = table.sum(axis=-1)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    of_label, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    others = confusion.sum(axis=(-1, -2))[..., None] - of_label
    return np.stack([_ratio(predicted - right, others), _ratio(right, of_label)], axis=-1)


def score_histogram(table: Table) -> Table:
    """Return (…, 2, BINS) counts by label and bin of class 1's probability, for two classes."""
    by_true = table.sum(axis=-2)
    return np.stack([by_true[..., 0, ::-1], by_true[..., 1, :]], axis=-2)


def roc_curve(table: Table) -> tuple[Values, Values]:
    """Return false and true positive rates (…, BINS + 1), from the strictest threshold on."""
    strictest_first = score_histogram(table)[..., ::-1]
    reached = np.cumsum(strictest_first, axis=-1)
    start = np.zeros((*reached.shape[:-1], 1))
    rates = _ratio(np.concatenate([start, reached], axis=-1), reached[..., -1:])
    return rates[..., 0, :], rates[..., 1, :]


def calibration_curve(table: Table) -> tuple[Values, Values]:
    """Return share of class 1 and rows, each (…, BINS), by bin of class 1's probability."""
    histogram = score_histogram(table)
    rows = histogram.sum(axis=-2)
    return _ratio(histogram[..., 1, :], rows), rows


def intervals(table: Table, redraws: Table, *, ordered: bool = False) -> dict[str, float]:
    """Return ± of each metric: with chance 0.95 the exact figure lies that near the released one.

    Two things part them: the noise, measured by adding it once more, and the bins, which hide the
    order and spread of scores within them.

    Args:
        table: (classes, classes, BINS) as released.
        redraws: (draws, classes, classes, BINS) copies with noise added once more.
        ordered: whether the classes are bands.
    """
    moved = all_metrics(redraws, ordered=ordered)
    hidden = _hidden_by_bins(table)
    return {
        name: math.hypot(
            float(np.quantile(np.abs(moved[name] - value), 0.95)), 1.96 * hidden.get(name, 0.0)
        )
        for name, value in all_metrics(table, ordered=ordered).items()
    }


def _hidden_by_bins(table: Table) -> dict[str, float]:
    """Return the standard deviation of what the bins hide of the loss and of the ROC area.

    The loss as if the rows of a cell all sat at one even-chance place of their bin. The area as if
    how well a bin's own rows are in order were anything between never and always, evenly, and their
    order otherwise random (variance of the Mann-Whitney statistic).
    """
    rows = max(float(table.sum()), 1.0)
    hidden = {"loss": float(np.linalg.norm(table * _bin_loss_deviations())) / rows}
    if table.shape[0] == 2:
        zeros, ones = score_histogram(table)
        pairs = zeros * ones
        variance = (pairs * (zeros + ones + 1) / 12 + pairs**2 / 12).sum()
        hidden["roc_auc"] = math.sqrt(variance) / max(float(zeros.sum() * ones.sum()), 1.0)
    return hidden


def _bin_losses() -> Values:
    """Mean of -log p over each bin of p: the integral of -log p is p - p·log p."""
    safe = np.where(BIN_EDGES > 0, BIN_EDGES, 1)
    integral = BIN_EDGES - BIN_EDGES * np.log(safe)
    losses: Values = np.diff(integral) / np.diff(BIN_EDGES)
    return losses


def _bin_loss_deviations() -> Values:
    """Standard deviation of -log p over each bin; ∫ log² p = p·(log² p - 2·log p + 2)."""
    log = np.log(np.where(BIN_EDGES > 0, BIN_EDGES, 1))
    integral = BIN_EDGES * (log**2 - 2 * log + 2)
    deviations: Values = np.sqrt(np.diff(integral) / np.diff(BIN_EDGES) - _bin_losses() ** 2)
    return deviations


def _area(x: Values, y: Values) -> Values:
    area: Values = (np.diff(x, axis=-1) * (y[..., 1:] + y[..., :-1]) / 2).sum(axis=-1)
    return area


def _ratio(numerator: Values, denominator: Values) -> Values:
    denominator = np.broadcast_to(denominator, numerator.shape)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)
