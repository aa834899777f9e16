"""The released model's temperature, learned privately: confidence is matched to accuracy.

Clipping and noise leave logits that are too large or too small by one factor, mostly (Zhang et al.
2022, "A Closer Look at the Calibration of Differentially Private Learners"), and one inverse
temperature β on the last layer mends that (Guo et al. 2017, "On Calibration of Modern Neural
Networks"). A row's

    excess = (its largest probability at β) - (1 if that class is its label, else 0)

lies in [-1, 1] whatever the logits, so that the sum over a batch moves by at most 1 with a row, or
with a person, who adds the mean over their rows. Its mean grows with β, and is zero where
confidence equals accuracy. The plan's last steps release that sum under the noise of any other
step, and a Kalman filter on log β takes it in: where there is more noise than there is to learn, β
stays where it mostly was on other tables.
"""

import math

import numpy as np
from array_api_compat import array_namespace

from stages.model.inputs import Array
from stages.model.perceptron import Model
from stages.training.people import ONE_ROW_EACH, Whose

# Of log β before anything is known of the table, from simulations (benchmarks/UTILITY.md).
PRIOR_MEAN, PRIOR_VARIANCE = math.log(0.8), 0.5**2

# By how much the mean excess grows with log β, about, and its variance among rows.
SLOPE = 0.1
EXCESS_VARIANCE = 0.1


class Temperature:
    """What is known of a model's β, from released numbers alone."""

    def __init__(self, model: Model):
        """`model` may change in place until the first `excess` is asked for."""
        self.model = model
        self._mean, self._variance = PRIOR_MEAN, PRIOR_VARIANCE

    @property
    def beta(self) -> float:
        """The inverse temperature, by what is known so far."""
        return math.exp(self._mean)

    @np.errstate(all="ignore")  # logits that overflow make rows that count as zero
    def excess(self, features: Array, labels: Array, whose: Whose = ONE_ROW_EACH) -> float:
        """Return the sum of excess confidence over rows (B, features) with labels (B,)."""
        xp = array_namespace(features)
        _, logits = self.model.forward(features)
        below = self.beta * (logits - xp.max(logits, axis=1, keepdims=True))
        confidence = 1 / xp.sum(xp.exp(below), axis=1)
        right = xp.astype(xp.argmax(logits, axis=1) == labels, confidence.dtype)
        excess = xp.where(xp.isfinite(confidence), confidence - right, 0.0)
        return float(xp.sum(whose.mean(excess)))

    def learn(self, excess: float, rows: float, noise: float) -> None:
        """Take in a released sum.

        Args:
            excess: the sum over a batch, with noise.
            rows: about how many rows, or people, the batch holds, as released.
            noise: standard deviation of the noise in the sum.
        """
        variance = (noise / rows) ** 2 + EXCESS_VARIANCE / rows
        gain = self._variance * SLOPE / (SLOPE**2 * self._variance + variance)
        self._mean -= gain * excess / rows
        self._variance *= 1 - gain * SLOPE
