"""DP-SGD (Abadi et al. 2016, Algorithm 1) that also releases its own training curves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from opacus.accountants import PRVAccountant
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LinearLR
from torch.optim.swa_utils import AveragedModel

from stages.privacy.accounting import effective_noise_multiplier
from stages.privacy.events import Steps
from stages.privacy.gradients import ClippedSum, clipped_sum_function
from stages.privacy.monitors import Monitors
from stages.privacy.noise import poisson_batch
from stages.privacy.plan import Plan

Tensors = tuple[Tensor, ...] | list[Tensor]

# Rows whose per-example tensors are held at once; larger batches are summed in chunks.
CHUNK_ROWS = 16_384


class SecretNoiseOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Opacus' optimizer for clipped sums, with noise from a given numpy generator.

    Sum and noise are added in float64; the rounding to the parameters' type comes after.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, plan: Plan, source: np.random.Generator):
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            expected_batch_size=plan.expected_batch_size,
        )
        self.source = source

    def add_noise(self) -> None:
        deviation = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            noise = torch.from_numpy(deviation * self.source.standard_normal(parameter.shape))
            total = parameter.summed_grad.double() + noise.to(parameter.device)
            parameter.grad = total.to(parameter.dtype)


@dataclass(frozen=True)
class Epoch:
    """One epoch as it is released.

    Attributes:
        epoch: its number, from 1, counting those of the runs that this one continues.
        steps: steps that this run has taken so far.
        loss: noisy mean cross entropy of the epoch's batches, each row's clipped to `loss_bound`.
        accuracy: noisy share of the epoch's batches that was classified right, in [0, 1].
        loss_deviation, accuracy_deviation: standard deviation of the noise in these two.
    """

    epoch: int
    steps: int
    loss: float
    accuracy: float
    loss_deviation: float
    accuracy_deviation: float


class PrivateTraining:
    """A training run in progress. Iterate over `epochs()` to carry it out.

    Guarantee:
        The sequence of all weights (`model`, and `average`, which follows from it) and all released
        epochs is (ε, δ) differentially private for tables that differ by one added or removed row,
        with the ε that the accountants find for `history`. It assumes that `source` is secret, that
        the model treats rows one by one, and exact real arithmetic.
    """

    def __init__(
        self,
        model: nn.Sequential,
        features: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        plan: Plan,
        source: np.random.Generator,
        *,
        classes: int,
        learning_rate: float,
        momentum: float,
    ):
        """Prepare a run; nothing is drawn yet.

        Args:
            model: the network, trained in place.
            features: (rows, features) float32 in [-1, 1]; may be memory-mapped.
            labels: (rows,) int64 in [0, classes).
            plan: what to do.
            source: where batches and noise come from.
            classes: number of labels, which sets where the released loss is clipped.
            learning_rate: at the first step; it falls linearly to 0 over the plan's steps.
            momentum: of SGD, in [0, 1).
        """
        self.model = model
        self.features = features
        self.labels = labels
        self.plan = plan
        self.source = source
        self.average = AveragedModel(model, multi_avg_fn=_update_average)
        sgd = SGD(model.parameters(), lr=learning_rate, momentum=momentum)
        self.optimizer = SecretNoiseOptimizer(sgd, plan, source)
        self.scheduler = LinearLR(sgd, start_factor=1, end_factor=0, total_iters=plan.steps)
        self.accountant = PRVAccountant()
        self.optimizer.attach_step_hook(self._account_step)
        self.monitors = Monitors(plan, len(labels))
        self.past_epochs = 0
        self.loss_bound = loss_bound(classes)
        self._clipped_sum = clipped_sum_function(model)
        self._steepest: npt.NDArray[np.int64] | None = None

    @property
    def history(self) -> list[Steps]:
        """The steps that really ran in this run."""
        return [Steps(sigma, rate, steps) for sigma, rate, steps in self.accountant.history]

    def epochs(self) -> Iterator[Epoch]:
        """Take every step of the plan, yielding at the end of each epoch."""
        start = 0
        for number, end in enumerate(self.plan.epoch_ends, start=self.past_epochs + 1):
            sums = sum((self._step() for _ in range(start, end)), np.zeros(2))
            self._probe_clipping()
            yield self._release(number, start, end, sums)
            start = end

    def _step(self) -> npt.NDArray[np.float64]:
        """Take one step; return its noisy metric sums (loss / loss_bound, correct)."""
        batch = poisson_batch(self.source, len(self.labels), self.plan.sample_rate)
        metrics = self._sum_over(batch)
        self.optimizer.step()
        self.scheduler.step()
        self.average.update_parameters(self.model)
        noisy = metrics + self.plan.metric_noise_multiplier * self.source.standard_normal(2)
        self.monitors.batch_sizes.append(len(batch))
        metric_noise = (noisy - metrics) / self.plan.metric_noise_multiplier
        self.monitors.watch_noise(self._gradient_noise(), metric_noise)
        return noisy

    def _sum_over(self, batch: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Put the batch's clipped gradient sum into the optimizer; return its exact metric sums.

        Each row moves either metric sum by at most 1.
        """
        self.optimizer.zero_grad(set_to_none=True)
        metrics = np.zeros(2)
        for start in range(0, max(1, len(batch)), CHUNK_ROWS):
            part = self._clipped_sum_of(batch[start : start + CHUNK_ROWS])
            for parameter, gradient in zip(self.model.parameters(), part.gradients, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
            losses = part.losses.nan_to_num(nan=self.loss_bound).clamp(0, self.loss_bound)
            metrics += [float(losses.sum()) / self.loss_bound, float(part.correct.sum())]
            self._note_norms(batch[start : start + CHUNK_ROWS], part.norms)
        return metrics

    def _clipped_sum_of(self, rows: npt.NDArray[np.int64]) -> ClippedSum:
        return self._clipped_sum(
            self.model,
            torch.from_numpy(self.features[rows]),
            torch.from_numpy(self.labels[rows]),
            self.plan.max_grad_norm,
        )

    def _note_norms(self, rows: npt.NDArray[np.int64], norms: Tensor) -> None:
        """Remember the batch's steepest row, on which clipping is to be probed."""
        finite = norms.nan_to_num(nan=0, posinf=0)
        self.monitors.not_finite += len(rows) - int(torch.isfinite(norms).sum())
        if len(rows):
            self._steepest = rows[[int(finite.argmax())]]

    def _probe_clipping(self) -> None:
        """Hand the norm of one row's whole contribution to the monitors.

        It is measured on the gradient itself, not by the formula that chose the clip factor.
        """
        if self._steepest is not None:
            gradients = self._clipped_sum_of(self._steepest).gradients
            norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
            self.monitors.clipped_norms.append(float(norm))

    def _gradient_noise(self) -> npt.NDArray[np.float64]:
        """The step's realised noise over its planned deviation: what was applied less the sum.

        Read off the gradient that the step really used, so that wrong noise, a wrong clip bound and
        a division by anything but the expected batch size all show.
        """
        deviation = self.plan.noise_multiplier * self.plan.max_grad_norm
        applied = torch.cat([p.grad.flatten() for p in self.optimizer.params]).double()
        summed = torch.cat([p.summed_grad.flatten() for p in self.optimizer.params]).double()
        return ((applied * self.plan.expected_batch_size - summed) / deviation).numpy()

    def _account_step(self, optimizer: DPOptimizer) -> None:
        self.accountant.step(
            noise_multiplier=effective_noise_multiplier(
                optimizer.noise_multiplier, self.plan.metric_noise_multiplier
            ),
            sample_rate=self.plan.sample_rate,
        )

    def _release(self, number: int, start: int, end: int, sums: npt.NDArray[np.float64]) -> Epoch:
        rows = (end - start) * self.plan.expected_batch_size
        loss, accuracy = sums / rows
        deviation = self.plan.metric_noise_multiplier * math.sqrt(end - start) / rows
        return Epoch(
            epoch=number,
            steps=end,
            loss=max(0.0, float(loss)) * self.loss_bound,
            accuracy=min(1.0, max(0.0, float(accuracy))),
            loss_deviation=deviation * self.loss_bound,
            accuracy_deviation=deviation,
        )


def loss_bound(classes: int) -> float:
    """Return where a row's loss is clipped for the training curve: four times that of guessing."""
    return 4 * math.log(classes)


@torch.no_grad()
def _update_average(averaged: Tensors, current: Tensors, updates: Tensor | int) -> None:
    """Move the exponential average of the weights; early ones are forgotten faster."""
    decay = min(0.9, (1 + int(updates)) / (10 + int(updates)))
    torch._foreach_lerp_(averaged, current, 1 - decay)
