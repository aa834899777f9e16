"""The sum of people's clipped gradients, without building one gradient per row or person."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from stages.model.inputs import Array
from stages.model.perceptron import ACTIVATIONS, Model
from stages.training.people import ONE_ROW_EACH, Whose

# Of rows that nearly cancel float32 leaves little but rounding. So a person's squared norm is taken
# for more, by this share of what it were if none cancelled: more than inner products of a few
# hundred numbers are off, and enough for the rounding of what is clipped by it to stay below a
# ten-thousandth of the clip.
ROUNDING = 2.0**-20


@dataclass(frozen=True)
class ClippedSum:
    """What one batch of P people with B rows contributes to a step.

    Attributes:
        gradient: (parameters,) all of the model's in its order, as `parameters_to_vector` lays them
            out: the sum over people of gradients clipped to L2 norm `max_grad_norm`, that of a
            person being the mean over their rows. People whose gradient is not finite count as
            zero.
        losses: (B,) cross entropy of each row, NaN where the model's output is.
        correct: (B,) whether the largest logit is the label's.
        norms: (P,) gradient norms before clipping; infinite or NaN for people that count as zero.
        not_finite: how many people do.
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
    factors c (Goodfellow 2015, "Efficient Per-Example Gradient Computations"). Of a person with
    rows r, s, … it is the sum of (d_r·d_s)(h_r·h_s + 1) over all pairs of rows, whatever the number
    of weights. No gradient is ever formed that is not clipped, which autograd would.
    """

    def __init__(self, model: Model):
        self._model = model
        self._slope = ACTIVATIONS[model.activation].slope
        bias = model.layers[-1][1]
        xp = array_namespace(bias)
        self._one_hot = xp.eye(len(bias), dtype=bias.dtype, device=bias.device)

    @np.errstate(all="ignore")  # numbers that overflow make rows that count as zero
    def __call__(
        self, features: Array, labels: Array, max_grad_norm: float, whose: Whose = ONE_ROW_EACH
    ) -> ClippedSum:
        """Return what one batch contributes.

        Args:
            features: (B, features) float, of which there may be none.
            labels: (B,) int64.
            max_grad_norm: C > 0.
            whose: whose the rows are.
        """
        xp = array_namespace(features)
        inputs, logits = self._model.forward(features)
        logits -= xp.max(logits, axis=1, keepdims=True)
        chances = xp.exp(logits)
        totals = xp.sum(chances, axis=1, keepdims=True)
        truth = self._one_hot[labels]  # (B, classes)
        losses = xp.log(totals[:, 0]) - xp.vecdot(truth, logits)
        deltas = self._deltas(whose.share(chances / totals - truth), inputs)

        pairs = list(zip(deltas, inputs, strict=True))
        squares = [_squared_norms(d, h, whose, xp) for d, h in pairs]
        norms = xp.sqrt(sum(squares[1:], squares[0]))
        of_rows = whose.spread(max_grad_norm / xp.maximum(norms, max_grad_norm))
        not_finite = 0
        if not math.isfinite(norms @ norms):
            # 0 · NaN is NaN, so a row that is not finite has to leave the sum, not get factor 0.
            finite = xp.isfinite(norms)
            rows = whose.spread(finite)
            pairs, of_rows = [(d[rows], h[rows]) for d, h in pairs], of_rows[rows]
            not_finite = len(norms) - int(xp.count_nonzero(finite))
        correct = xp.argmax(logits, axis=1) == labels
        pieces = []
        for d, h in pairs:
            clipped = d * of_rows[:, None]
            weight = _sum_of_outer_products(clipped, h)
            pieces += [xp.reshape(weight, (-1,)), xp.sum(clipped, axis=0)]
        return ClippedSum(xp.concat(pieces), losses, correct, norms, not_finite)

    def _deltas(self, last: Array, inputs: list[Array]) -> list[Array]:
        """Return the loss's gradient at each layer's output, (B, outputs), from the last one's."""
        deltas = [last]
        for (weight, _), h in zip(self._model.layers[:0:-1], inputs[:0:-1], strict=True):
            delta = deltas[-1] @ weight
            delta *= self._slope(h)
            deltas.append(delta)
        return deltas[::-1]


def _squared_norms(d: Array, h: Array, whose: Whose, xp: Any) -> Array:
    """(P,) squared norms of the people's gradients of a layer's weights and biases together."""
    if whose.has_one_row_each:
        return xp.vecdot(d, d) * (xp.vecdot(h, h) + 1)
    return xp.concat(
        [
            _squared_norms_of_sums(*groups, xp)
            for groups in zip(whose.grouped(d), whose.grouped(h), strict=True)
        ]
    )


def _squared_norms_of_sums(d: Array, h: Array, xp: Any) -> Array:
    """(P,) squared norms of sums over rows, from d (P, rows, outputs) and h (P, rows, inputs)."""
    products = _products_of_pairs(d, xp) * (_products_of_pairs(h, xp) + 1)
    longest = xp.sum(xp.sqrt(xp.linalg.diagonal(products)), axis=1)
    return xp.sum(products, axis=(1, 2)) + ROUNDING * longest**2


def _products_of_pairs(vectors: Array, xp: Any) -> Array:
    """(P, rows, rows) inner products of each person's vectors (P, rows, n)."""
    # By a copy, as BLAS takes four times as long for many small products of one with itself.
    return vectors @ xp.matrix_transpose(xp.asarray(vectors, copy=True))


def _sum_of_outer_products(left: Array, right: Array) -> Array:
    # With the narrower factor first, the product of long thin matrices is up to 7 times as fast.
    return left.T @ right if left.shape[1] <= right.shape[1] else (right.T @ left).T
