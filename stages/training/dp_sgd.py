"""DP-SGD (Abadi et al. 2016, Algorithm 1) that also releases its own training curves."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from array_api_compat import array_namespace
from opacus.accountants import PRVAccountant
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim import SGD

from stages.model.perceptron import Array
from stages.privacy.events import Steps
from stages.tabular.prepared import Side
from stages.training.accounting import effective_noise_multiplier
from stages.training.auto import Settings
from stages.training.curves import Curve, Epoch, loss_bound
from stages.training.gradients import ClippedSum, ClippedSumFunction
from stages.training.monitors import Monitors
from stages.training.network import as_arrays
from stages.training.noise import poisson_batch
from stages.training.plan import Plan
from stages.training.processes import ALONE, Processes

# Loss, correct answers and number of rows.
METRICS = 3

# Rows whose activations are held at once, which fit into a core's cache; larger batches are summed
# in chunks.
CHUNK_ROWS = 1_024


class SecretNoiseOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Opacus' optimizer for clipped sums, with noise from a given numpy generator.

    Sum and noise are added in float64; the rounding to the parameters' type comes after. Among
    several processes the first one's noise is everybody's, so that there is one noise in all.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        plan: Plan,
        source: np.random.Generator,
        processes: Processes,
    ):
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            expected_batch_size=plan.expected_batch_size,
        )
        self.source = source
        self.processes = processes

    def accumulate(self) -> None:
        # As Opacus does, whose deep copy costs as much as half the noise.
        for parameter in self.params:
            parameter.summed_grad = parameter.grad.clone()

    def add_noise(self) -> None:
        deviation = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            noise = torch.from_numpy(self.source.standard_normal(parameter.shape))
            noise = self.processes.share(noise.to(parameter.device))
            noisy = (noise * deviation).add_(parameter.summed_grad)
            parameter.grad = noisy.to(parameter.dtype)


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
        table: Side,
        plan: Plan,
        settings: Settings,
        source: np.random.Generator,
        processes: Processes = ALONE,
    ):
        """Prepare a run; nothing is drawn yet.

        Args:
            model: the network, trained in place and on its own device.
            table: features (rows, features) float32 in [-1, 1] and labels (rows,) int64, which may
                be memory-mapped.
            plan: what to do.
            settings: how to use what the plan releases: learning rate, momentum, average.
            source: where batches and noise come from.
            processes: those that train this model together, each with the whole table.
        """
        self.model = model
        shard = processes.shard(len(table.labels))
        self.features = np.asarray(table.features[shard])
        self.labels = np.asarray(table.labels[shard])
        self.plan = plan
        self.source = source
        self.processes = processes
        self.average = copy.deepcopy(model)
        self.weights, self.average_weights = as_vector(model), as_vector(self.average)
        self.settings = settings
        sgd = SGD(
            [self.weights], lr=settings.learning_rate, momentum=settings.momentum, foreach=False
        )
        self.optimizer = SecretNoiseOptimizer(sgd, plan, source, processes)
        self.accountant = PRVAccountant()
        self.optimizer.attach_step_hook(self._account_step)
        self.monitors = Monitors(plan, len(table.labels))
        self.monitors_passed: list[str] = []
        self.past_epochs = self.past_steps = 0
        self.curve = Curve(plan, loss_bound(len(list(model.parameters())[-1])))
        self._clipped_sum = ClippedSumFunction(as_arrays(model))
        # The rows of the last chunk and their norms, on the steepest of which clipping is probed.
        self._last: tuple[npt.NDArray[np.int64], Array] | None = None

    @property
    def history(self) -> list[Steps]:
        """The steps that really ran in this run."""
        return [Steps(sigma, rate, steps) for sigma, rate, steps in self.accountant.history]

    def epochs(self) -> Iterator[Epoch]:
        """Take every step of the plan, yielding at the end of each epoch."""
        start = 0
        for number, end in enumerate(self.plan.epoch_ends, start=self.past_epochs + 1):
            sums = sum((self._step(step) for step in range(start, end)), np.zeros(METRICS))
            self._probe_clipping()
            yield self.curve.epoch(number, start, end, sums)
            start = end

    def checked_history(self) -> list[Steps]:
        """Return the steps that ran, once every monitor has passed.

        Raises:
            BrokenGuaranteeError: one has not, here or in another process.
        """
        self.monitors_passed = self.monitors.require_passed(self.history)
        self.processes.wait_for_all()  # one whose monitors failed never comes
        return self.history

    def follow(self) -> None:
        """Take part in a run that the first process reports on and writes."""
        for _ in self.epochs():
            pass
        self.checked_history()

    def _step(self, step: int) -> npt.NDArray[np.float64]:
        """Take a step, numbered from 0; return its noisy metric sums (training/curves.py).

        Every process takes it, whatever its own batch holds.
        """
        metrics = self._sum_over(
            poisson_batch(self.source, len(self.labels), self.plan.sample_rate)
        )
        (weights,), (group,) = self.optimizer.params, self.optimizer.param_groups
        summed = weights.grad  # the optimizer works on a copy, so that this cannot move with it
        group["lr"] = self.settings.learning_rate * (1 - step / self.plan.steps)
        self.optimizer.step()
        self._update_average(self.past_steps + step)
        noisy = metrics + self.plan.metric_noise_multiplier * self._metric_noise()
        metric_noise = (noisy - metrics) / self.plan.metric_noise_multiplier
        self.monitors.watch_noise(self._gradient_noise(summed), metric_noise)
        return noisy

    def _metric_noise(self) -> npt.NDArray[np.float64]:
        drawn = torch.from_numpy(self.source.standard_normal(METRICS))
        noise: npt.NDArray[np.float64] = self.processes.share(drawn).numpy()
        return noise

    def _update_average(self, updates: int) -> None:
        """Move the exponential average of the weights; early ones are forgotten faster."""
        decay = min(self.settings.average_decay, (1 + updates) / (10 + updates)) if updates else 0.0
        self.average_weights.data.lerp_(self.weights.data, 1 - decay)

    def _sum_over(self, batch: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Put the clipped gradient sum into the optimizer; return the exact metric sums.

        Both are over the batches of all processes. No row moves a metric sum by more than ½.
        """
        gradient: Array = None
        sums = np.zeros(4)
        for start in range(0, max(1, len(batch)), CHUNK_ROWS):
            rows = batch[start : start + CHUNK_ROWS]
            part = self._clipped_sum_of(rows)
            gradient = part.gradient if gradient is None else gradient + part.gradient
            xp = array_namespace(part.losses)
            # A loss that is no number is not below the bound.
            bound = self.curve.loss_bound
            losses = xp.where(part.losses < bound, part.losses, bound)
            loss, correct = float(xp.sum(losses)) / bound, int(xp.count_nonzero(part.correct))
            sums += [loss, correct, len(rows), part.not_finite]
            if len(rows):
                self._last = rows, part.norms
        self.weights.grad = self.processes.add_up(torch.as_tensor(gradient))
        loss, correct, size, not_finite = self.processes.add_up(torch.from_numpy(sums)).numpy()
        self.monitors.own_rows += len(batch)
        self.monitors.batch_sizes.append(int(size))
        self.monitors.not_finite += int(not_finite)
        return np.array([loss - size / 2, correct - size / 2, size / 2])

    def _clipped_sum_of(self, rows: npt.NDArray[np.int64]) -> ClippedSum:
        features, labels = self.features[rows], self.labels[rows]
        return self._clipped_sum(
            self._on_device(features), self._on_device(labels), self.plan.max_grad_norm
        )

    def _on_device(self, array: npt.NDArray[Any]) -> Array:
        """Return a numpy array as it is for a model on a CPU, as a tensor beside any other."""
        device = self.weights.device
        return array if device.type == "cpu" else torch.from_numpy(array).to(device)

    def _probe_clipping(self) -> None:
        """Hand the norm of one row's whole contribution to the monitors.

        It is measured on the gradient itself, not by the formula that chose the clip factor.
        """
        if self._last is not None:
            rows, norms = self._last
            xp = array_namespace(norms)
            steepest = int(xp.argmax(xp.where(xp.isfinite(norms), norms, 0.0)))
            gradient = self._clipped_sum_of(rows[[steepest]]).gradient
            self.monitors.clipped_norms.append(float(xp.linalg.vector_norm(gradient)))

    def _gradient_noise(self, summed: Tensor) -> npt.NDArray[np.float64]:
        """The step's realised noise over its planned deviation: what was applied less the sum.

        Read off the gradient that the step really used, so that wrong noise, a wrong clip bound and
        a division by anything but the expected batch size all show.
        """
        deviation = self.plan.noise_multiplier * self.plan.max_grad_norm
        (weights,) = self.optimizer.params
        applied = weights.grad.cpu().numpy()
        noise = np.multiply(applied, self.plan.expected_batch_size, dtype=np.float64)
        noise -= summed.cpu().numpy()
        noise /= deviation
        return noise

    def _account_step(self, optimizer: DPOptimizer) -> None:
        self.accountant.step(
            noise_multiplier=effective_noise_multiplier(
                optimizer.noise_multiplier, self.plan.metric_noise_multiplier
            ),
            sample_rate=self.plan.sample_rate,
        )


def as_vector(model: nn.Module) -> nn.Parameter:
    """Return a model's parameters as one vector, of which they are views from now on.

    One long tensor takes a step about as fast as one short one, and a model has many short ones.
    """
    vector = nn.Parameter(parameters_to_vector(model.parameters()).detach())
    vector_to_parameters(vector.data, model.parameters())
    return vector
