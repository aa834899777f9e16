"""How good class probabilities are: standard figures, and what the best temperature would do."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.table import Probabilities
from stages.tabular.prepared import Labels

BINS = 15

# Inverse temperatures that are tried: from next to certain down to next to nothing known.
BETAS = (0.02, 50.0)


@dataclass(frozen=True)
class Scores:
    """Of one model on the test rows.

    Attributes:
        accuracy: share of rows that get their label.
        log_loss: mean, in nats.
        best_log_loss: the same, at the temperature that is best in hindsight.
        calibration_error: expected calibration error.
        roc_auc: NaN for more than two classes.
    """

    accuracy: float
    log_loss: float
    best_log_loss: float
    calibration_error: float
    roc_auc: float

    @classmethod
    def of(cls, truth: Labels, probabilities: Probabilities) -> "Scores":
        """Return the scores of (rows, classes) probabilities for (rows,) labels."""
        loss = _loss(truth, probabilities)
        return cls(
            accuracy=float(np.mean(probabilities.argmax(axis=1) == truth)),
            log_loss=loss,
            best_log_loss=min(
                loss, _loss(truth, tempered(probabilities, best_beta(truth, probabilities)))
            ),
            calibration_error=expected_calibration_error(truth, probabilities),
            roc_auc=_roc_auc(truth, probabilities),
        )


def tempered(probabilities: Probabilities, beta: float) -> Probabilities:
    """Return probabilities whose logarithms are scaled by `beta` and normalised anew."""
    smallest = np.finfo(float).tiny
    logs = beta * np.log(np.maximum(probabilities, smallest))
    odds: Probabilities = np.exp(logs - logs.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def best_beta(truth: Labels, probabilities: Probabilities) -> float:
    """Return the inverse temperature with the least log loss, which is convex in it."""
    found = optimize.minimize_scalar(
        lambda log_beta: _loss(truth, tempered(probabilities, math.exp(log_beta))),
        bounds=tuple(math.log(beta) for beta in BETAS),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return math.exp(found.x)


def expected_calibration_error(truth: Labels, probabilities: Probabilities) -> float:
    """Return how far accuracy is from confidence, on average (Guo et al. 2017, equation 5).

    Over bins of equal width of the largest probability, weighted by their rows.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(truth))


def _loss(truth: Labels, probabilities: Probabilities) -> float:
    return float(log_loss(truth, probabilities, labels=np.arange(probabilities.shape[1])))


def _roc_auc(truth: Labels, probabilities: Probabilities) -> float:
    if probabilities.shape[1] > 2:
        return math.nan
    return float(roc_auc_score(truth, probabilities[:, 1]))
