"""The tests' oracle of clipped sums: Opacus' hooks, which build one gradient per example."""

import torch
from opacus.grad_sample import GradSampleModule
from torch import nn
from torch.nn import functional

from stages.model.inputs import Array
from stages.training.gradients import ClippedSum
from stages.training.network import as_array
from stages.training.people import ONE_ROW_EACH, Whose


class HooksClippedSum:
    """The sum of clipped gradients of any model that Opacus' hooks support.

    It builds one gradient per example: memory grows with B times the parameters.
    """

    def __init__(self, model: nn.Module):
        self._model = model

    def __call__(
        self, features: Array, labels: Array, max_grad_norm: float, whose: Whose = ONE_ROW_EACH
    ) -> ClippedSum:
        """Return what one batch contributes."""
        features, labels = torch.as_tensor(features), torch.as_tensor(labels)
        hooked = GradSampleModule(self._model, loss_reduction="sum")
        try:
            logits = hooked(features)
            losses = functional.cross_entropy(logits, labels, reduction="none")
            losses.sum().backward()
            samples = [
                weights.grad_sample.flatten(1)  # type: ignore[attr-defined]
                for weights in self._model.parameters()
            ]
        finally:
            self._model.zero_grad(set_to_none=True)
            hooked.to_standard_module()
        # (P, parameters)
        gradients = torch.cat([p.mean(dim=1) for p in _by_person(torch.cat(samples, dim=1), whose)])
        norms = gradients.norm(dim=1)
        people = torch.isfinite(norms)
        factors = max_grad_norm / norms[people].clamp(min=max_grad_norm)
        return ClippedSum(
            gradient=as_array(factors @ gradients[people]),
            losses=as_array(losses),
            correct=as_array(logits.argmax(1) == labels),
            norms=as_array(norms),
            not_finite=len(norms) - len(factors),
        )


def _by_person(gradients, whose):
    """(P, rows of each, parameters), for people with one row each and then with more."""
    return [gradients[:, None]] if whose.has_one_row_each else whose.grouped(gradients)
