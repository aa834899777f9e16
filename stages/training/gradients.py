"""The sum of clipped per-example gradients, without building one gradient per example."""

import math
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from stages.model.inputs import Array
from stages.model.perceptron import ACTIVATIONS, Model


@dataclass(frozen=True)
class ClippedSum:
    """What one batch of B rows contributes to a step.

    Attributes:
        gradient: (parameters,) all of the model's in its order, as `parameters_to_vector` lays them
            out: the sum over rows of gradients clipped to L2 norm `max_grad_norm`. Rows whose
            gradient is not finite count as zero.
        losses: (B,) cross entropy of each row, NaN where the model's output is.
        correct: (B,) whether the largest logit is the label's.
        norms: (B,) gradient norms before clipping; infinite or NaN for rows that count as zero.
        not_finite: how many rows do.
    """

    gradient: Array
    losses: Array
    correct: Array
    norms: Array
    not_finite: int


class ClippedSumFunction:
    """The sum of clipped gradients of a multilayer perceptron, whose weights may change in place.

    For a linear layer with input h and gradient d of the row's loss at its output, the row's weight
    gradient is the outer product d hᵀ and its bias gradient d, so the squared norm of both together
    is |d|²(|h|² + 1), and the clipped sum of weight gradients is (c·d)ᵀ h with the rows' clip
    factors c (Goodfellow 2015, "Efficient Per-Example Gradient Computations"). No gradient is ever
    formed that is not clipped, which autograd would.
    """

    def __init__(self, model: Model):
        self._model = model
        self._slope = ACTIVATIONS[model.activation].slope
        bias = model.layers[-1][1]
        xp = array_namespace(bias)
        self._one_hot = xp.eye(len(bias), dtype=bias.dtype, device=bias.device)

    @np.errstate(all="ignore")  # numbers that overflow make rows that count as zero
    def __call__(self, features: Array, labels: Array, max_grad_norm: float) -> ClippedSum:
        """Return what one batch contributes.

        Args:
            features: (B, features) float, of which there may be none.
            labels: (B,) int64.
            max_grad_norm: C > 0.
        """
        xp = array_namespace(features)
        inputs, logits = self._model.forward(features)
        logits -= xp.max(logits, axis=1, keepdims=True)
        chances = xp.exp(logits)
        totals = xp.sum(chances, axis=1, keepdims=True)
        truth = self._one_hot[labels]  # (B, classes)
        losses = xp.log(totals[:, 0]) - xp.vecdot(truth, logits)
        deltas = self._deltas(chances / totals - truth, inputs)

        pairs = list(zip(deltas, inputs, strict=True))
        squares = [xp.vecdot(d, d) * (xp.vecdot(h, h) + 1) for d, h in pairs]
        norms = xp.sqrt(sum(squares[1:], squares[0]))
        factors = max_grad_norm / xp.maximum(norms, max_grad_norm)
        if not math.isfinite(norms @ norms):
            # 0 · NaN is NaN, so a row that is not finite has to leave the sum, not get factor 0.
            rows = xp.isfinite(norms)
            pairs, factors = [(d[rows], h[rows]) for d, h in pairs], factors[rows]
        correct = xp.argmax(logits, axis=1) == labels
        pieces = []
        for d, h in pairs:
            clipped = d * factors[:, None]
            weight = _sum_of_outer_products(clipped, h)
            pieces += [xp.reshape(weight, (-1,)), xp.sum(clipped, axis=0)]
        return ClippedSum(xp.concat(pieces), losses, correct, norms, len(norms) - len(factors))

    def _deltas(self, last: Array, inputs: list[Array]) -> list[Array]:
        """Return the loss's gradient at each layer's output, (B, outputs), from the last one's."""
        deltas = [last]
        for (weight, _), h in zip(self._model.layers[:0:-1], inputs[:0:-1], strict=True):
            delta = deltas[-1] @ weight
            delta *= self._slope(h)
            deltas.append(delta)
        return deltas[::-1]


def _sum_of_outer_products(left: Array, right: Array) -> Array:
    # With the narrower factor first, the product of long thin matrices is up to 7 times as fast.
    return left.T @ right if left.shape[1] <= right.shape[1] else (right.T @ left).T
