"""The sum of clipped per-example gradients, without building one gradient per example."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn
from torch.nn import functional

# Opacus' guard against division by zero.
NORM_FLOOR = 1e-6


@dataclass(frozen=True)
class ClippedSum:
    """What one batch of B rows contributes to a step.

    Attributes:
        gradients: one tensor per model parameter, in the parameters' order and shapes: the sum over
            rows of gradients clipped to L2 norm `max_grad_norm`. Rows whose gradient is not finite
            count as zero.
        losses: (B,) cross entropy of each row, NaN where the model's output is.
        correct: (B,) whether the largest logit is the label's.
        norms: (B,) gradient norms before clipping; infinite or NaN for rows that count as zero.
    """

    gradients: list[Tensor]
    losses: Tensor
    correct: Tensor
    norms: Tensor


ClippedSumFunction = Callable[[nn.Sequential, Tensor, Tensor, float], ClippedSum]


def clipped_sum_function(model: nn.Module) -> ClippedSumFunction:
    """Return the fastest function that is exact for `model`.

    Closed form for a Sequential in which every layer that has parameters is a Linear of its own;
    Opacus' per-example hooks for anything else.
    """
    if not isinstance(model, nn.Sequential):
        return hooks_clipped_sum
    owners = [layer for layer in model if list(layer.parameters())]
    all_linear = all(type(layer) is nn.Linear for layer in owners)
    return (
        linear_clipped_sum if all_linear and len(set(owners)) == len(owners) else hooks_clipped_sum
    )


def linear_clipped_sum(
    model: nn.Sequential, features: Tensor, labels: Tensor, max_grad_norm: float
) -> ClippedSum:
    """Sum clipped gradients of a Sequential whose parameters all belong to Linear layers.

    For a Linear layer with input h and gradient d of the row's loss at its output, the row's weight
    gradient is the outer product d hᵀ and its bias gradient d, so the squared norm of both together
    is |d|²(|h|² + 1), and the clipped sum of weight gradients is (c·d)ᵀ h with the rows' clip
    factors c (Goodfellow 2015, "Efficient Per-Example Gradient Computations").

    Args:
        model: Sequential of Linear layers, each there once, and layers without parameters.
        features: (B, features) float; B may be 0.
        labels: (B,) int64.
        max_grad_norm: C > 0.
    """
    layers: list[nn.Linear] = []
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    hidden = features
    for layer in model:
        if isinstance(layer, nn.Linear):
            layers.append(layer)
            inputs.append(hidden)
            hidden = layer(hidden)
            outputs.append(hidden)
        else:
            hidden = layer(hidden)
    losses = functional.cross_entropy(hidden, labels, reduction="none")  # (B,)
    deltas = torch.autograd.grad(losses.sum(), outputs)  # per layer (B, outputs)

    with torch.no_grad():
        norms = (
            torch.stack(
                [
                    delta.square().sum(1) * (h.square().sum(1) + float(layer.bias is not None))
                    for layer, delta, h in zip(layers, deltas, inputs, strict=True)
                ]
            )
            .sum(0)
            .sqrt()
        )  # (B,)
        rows = _finite_rows(norms)
        factors = _clip_factors(norms[rows], max_grad_norm)[:, None]
        gradients = []
        for layer, delta, h in zip(layers, deltas, inputs, strict=True):
            clipped = factors * delta[rows]
            gradients.append(clipped.T @ h[rows])
            if layer.bias is not None:
                gradients.append(clipped.sum(0))
    return ClippedSum(gradients, losses.detach(), hidden.argmax(1) == labels, norms)


def hooks_clipped_sum(
    model: nn.Module, features: Tensor, labels: Tensor, max_grad_norm: float
) -> ClippedSum:
    """Sum clipped gradients of any model that Opacus' hooks support, one gradient per example.

    The arguments are those of `linear_clipped_sum`; memory grows with B times the parameters.
    """
    hooked = GradSampleModule(model, loss_reduction="sum")
    try:
        logits = hooked(features)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        losses.sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            samples = [
                parameter.grad_sample.flatten(1)  # type: ignore[attr-defined]
                for parameter in model.parameters()
            ]
            norms = torch.cat(samples, dim=1).norm(dim=1)
            rows = _finite_rows(norms)
            factors = _clip_factors(norms[rows], max_grad_norm)
            gradients = [
                (factors @ sample[rows]).view_as(parameter)
                for sample, parameter in zip(samples, model.parameters(), strict=True)
            ]
    finally:
        model.zero_grad(set_to_none=True)
        hooked.to_standard_module()
    return ClippedSum(gradients, losses.detach(), logits.argmax(1) == labels, norms)


def _finite_rows(norms: Tensor) -> slice | Tensor:
    # 0 · NaN is NaN, so a row that is not finite has to leave the sum, not just get factor 0.
    finite = torch.isfinite(norms)
    return slice(None) if bool(finite.all()) else finite


def _clip_factors(norms: Tensor, max_grad_norm: float) -> Tensor:
    return (max_grad_norm / (norms + NORM_FLOOR)).clamp(max=1.0)
