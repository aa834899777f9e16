"""DP-SGD (Abadi et al. 2016, Algorithm 1) that releases its own curves and chooses on the way.

A plan fixes noise, sampling rate and number of steps before a row is read, and every step is the
same mechanism to the accountants: a Gaussian one on a Poisson sample. What a step computes may
follow from what earlier ones released. So one plan holds the first steps of several networks, a
count of what each of them gets right, the further steps of the best, and the matching of its
confidence to its accuracy, at the price of a plan that trains a single network.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from array_api_compat import array_namespace
from torch import Tensor, nn

from stages.model.inputs import Array
from stages.privacy.events import Steps
from stages.tabular.prepared import Side
from stages.training.accounting import effective_noise_multiplier
from stages.training.auto import Settings
from stages.training.curves import Curve, Epoch, loss_bound
from stages.training.engine import DPOptimizer, PRVAccountant
from stages.training.gradients import ClippedSum
from stages.training.learner import Learner
from stages.training.monitors import Monitors
from stages.training.noise import poisson_batch
from stages.training.people import Numbers, People, Whose
from stages.training.pilot import Question, Verdict
from stages.training.plan import Plan
from stages.training.processes import ALONE, Processes
from stages.training.result import PilotScore
from stages.training.temperature import Temperature

# Loss, correct answers and number of rows.
METRICS = 3

Values = npt.NDArray[np.float64]

# Gives sums over people, of their rows' features (B, features) and labels (B,).
Asked = Callable[[Array, Array, Whose], Sequence[float]]


class PrivateTraining:
    """A training run in progress. Iterate over `epochs()` to carry it out.

    Attributes:
        learner: the network that learns at present; once the pilot is over, the chosen one.
        scores: of the pilot's candidates; empty where there is but one.
        temperature: what is known of how sure the model may be.

    Guarantee:
        The sequence of all weights of all candidates (and of their averages, which follow), the
        scores, the temperature and all released epochs are together (ε, δ) differentially private
        for tables that differ by one added or removed row, or person with all their rows, with the
        ε that the accountants find for `history`. It assumes that `source` is secret, that networks
        treat rows one by one, and exact real arithmetic. That later steps follow from what earlier
        ones released is covered, as adaptive composition; noise, sampling rate and number of steps
        never do.
    """

    def __init__(
        self,
        candidates: Sequence[tuple[nn.Sequential, Settings]],
        table: Side,
        plan: Plan,
        source: np.random.Generator,
        processes: Processes = ALONE,
    ):
        """Prepare a run; nothing is drawn yet.

        Args:
            candidates: networks, each trained in place and on its own device, and how each uses
                what the plan releases; as many as the plan's schedule says.
            table: features (rows, features) float32 in [-1, 1] and labels (rows,) int64, which may
                be memory-mapped, and whose rows they are.
            plan: what to do.
            source: where batches and noise come from.
            processes: those that train together, each with the whole table.
        """
        everybody = People.of(table)
        self.people = everybody.part(processes.shard(len(everybody)))
        self.plan = plan
        self.source = source
        self.processes = processes
        self.accountant = PRVAccountant()
        self.learners = [
            Learner(network, plan, settings, source, processes) for network, settings in candidates
        ]
        for learner in self.learners:
            learner.call_after_steps(self._account_step)
        self.learner = self.learners[0]
        self.monitors = Monitors(plan, len(everybody))
        self.monitors_passed: list[str] = []
        self.past_epochs = 0
        classes = len(list(self.model.parameters())[-1])
        self.curves = [Curve(plan, loss_bound(classes)) for _ in self.learners]
        self.scores: list[PilotScore] = []
        self.temperature = Temperature(self.learner.averaged)
        self._after_step: Callable[[], object] = lambda: None
        # The people of the last chunk and their norms, on the steepest of whom clipping is probed.
        self._last: tuple[Numbers, Array] | None = None

    @property
    def model(self) -> nn.Sequential:
        """The network that learns at present."""
        return self.learner.model

    @property
    def average(self) -> nn.Sequential:
        """The network with the averaged weights of the one that learns at present."""
        return self.learner.average

    @property
    def history(self) -> list[Steps]:
        """The steps that really ran in this run."""
        return [Steps(sigma, rate, steps) for sigma, rate, steps in self.accountant.history]

    @property
    def steps_taken(self) -> int:
        """How many these are."""
        return sum(steps.steps for steps in self.history)

    def epochs(self, after_step: Callable[[], object] = lambda: None) -> Iterator[Epoch]:
        """Take every step of the plan, yielding the epochs of the network that is kept.

        Args:
            after_step: called after each step.
        """
        self._after_step = after_step
        schedule = self.plan.schedule
        parts = list(pairwise([0, *self.plan.epoch_ends]))
        on_trial = [part for part in parts if part[1] <= schedule.pilot]
        told: list[list[Epoch]] = [[] for _ in self.learners]
        for number, part in enumerate(on_trial):
            for learner, epochs in zip(self.learners, told, strict=True):
                self.learner = learner
                epochs.append(self._epoch(number, part))
        if schedule.scoring:
            self._choose()
        yield from told[self._place]
        for number, part in enumerate(parts[len(on_trial) :], start=len(on_trial)):
            yield self._epoch(number, part)
        self._calibrate()

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

    @property
    def _place(self) -> int:
        return self.learners.index(self.learner)

    @property
    def curve(self) -> Curve:
        """The released curve of the network that learns at present."""
        return self.curves[self._place]

    # --- steps that learn ------------------------------------------------------------------------

    def _epoch(self, number: int, steps: tuple[int, int]) -> Epoch:
        """Take the learner's steps from one number to another, its epoch of a number from 0."""
        sums = sum((self._step(step) for step in range(*steps)), np.zeros(METRICS))
        self._probe_clipping()
        epoch = self.curve.epoch(self.past_epochs + number + 1, *steps, sums)
        return replace(epoch, steps=self.steps_taken)

    def _step(self, step: int) -> Values:
        """Take the learner's step of that number, from 0; return its noisy metric sums.

        Every process takes it, whatever its own batch holds.
        """
        metrics = self._sum_over(self._draw())
        summed = cast(Tensor, self.learner.weights.grad)  # the optimizer works on a copy of it
        self.learner.step(self.plan.schedule.share_of_rate(step))
        noisy = self._cover(metrics, self.plan.metric_noise_multiplier)
        metric_noise = (noisy - metrics) / self.plan.metric_noise_multiplier
        self.monitors.watch_noise(self._gradient_noise(summed), metric_noise)
        self._after_step()
        return noisy

    def _draw(self) -> Numbers:
        return poisson_batch(self.source, len(self.people), self.plan.sample_rate)

    def _cover(self, exact: Values, deviation: float) -> Values:
        """Return exact sums with noise, the same in all processes."""
        drawn = torch.from_numpy(self.source.standard_normal(len(exact)))
        noise: Values = self.processes.share(drawn).numpy()
        return exact + deviation * noise

    def _sum_over(self, batch: Numbers) -> Values:
        """Put the clipped gradient sum into the optimizer; return the exact metric sums.

        Both are over the batches of all processes. Nobody moves a metric sum by more than ½.
        """
        gradient: Array = None
        sums = np.zeros(4)
        for people in self.people.chunks(batch):
            part, whose = self._clipped_sum_of(people)
            gradient = part.gradient if gradient is None else gradient + part.gradient
            xp = array_namespace(part.losses)
            # A loss that is no number is not below the bound.
            bound = self.curve.loss_bound
            losses = xp.where(part.losses < bound, part.losses, bound)
            loss = float(xp.sum(whose.mean(losses))) / bound
            correct = float(xp.sum(whose.mean(part.correct)))
            sums += [loss, correct, len(people), part.not_finite]
            if len(people):
                self._last = people, part.norms
        self.learner.weights.grad = self.processes.add_up(torch.as_tensor(gradient))
        loss, correct, size, not_finite = self.processes.add_up(torch.from_numpy(sums)).numpy()
        self.monitors.own_people += len(batch)
        self.monitors.batch_sizes.append(int(size))
        self.monitors.not_finite += int(not_finite)
        return np.array([loss - size / 2, correct - size / 2, size / 2])

    def _clipped_sum_of(self, people: Numbers) -> tuple[ClippedSum, Whose]:
        features, labels, whose = self._rows(people)
        return self.learner.clipped_sum(features, labels, self.plan.max_grad_norm, whose), whose

    def _rows(self, people: Numbers) -> tuple[Array, Array, Whose]:
        """Return features and labels of some people's rows, where the model is, and whose."""
        features, labels, whose = self.people.rows(people)
        return self._on_device(features), self._on_device(labels), whose

    def _on_device(self, array: npt.NDArray[Any]) -> Array:
        """Return a numpy array as it is for a model on a CPU, as a tensor beside any other."""
        device = self.learner.weights.device
        return array if device.type == "cpu" else torch.from_numpy(array).to(device)

    def _probe_clipping(self) -> None:
        """Hand the norm of one person's whole contribution to the monitors.

        It is measured on the gradient itself, not by the formula that chose the clip factor.
        """
        if self._last is not None:
            people, norms = self._last
            xp = array_namespace(norms)
            steepest = int(xp.argmax(xp.where(xp.isfinite(norms), norms, 0.0)))
            part, _ = self._clipped_sum_of(people[[steepest]])
            self.monitors.clipped_norms.append(float(xp.linalg.vector_norm(part.gradient)))

    def _gradient_noise(self, summed: Tensor) -> Values:
        """The step's realised noise over its planned deviation: what was applied less the sum.

        Read off the gradient that the step really used, so that wrong noise, a wrong clip bound and
        a division by anything but the expected batch size all show.
        """
        deviation = self.plan.noise_multiplier * self.plan.max_grad_norm
        (weights,) = self.learner.optimizer.params
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

    # --- steps that ask --------------------------------------------------------------------------

    def _ask(self, question: Asked, sensitivity: float) -> Values:
        """Take a step that releases no gradient but noisy sums over its batch.

        Args:
            question: gives the sums over people.
            sensitivity: by how much a person moves the sums together, in L2 norm.

        Guarantee:
            The noise is that of a step that learns, for its sensitivity, so that the accountants
            see one more step of the same plan.
        """
        exact = self._answer(question, self._draw())
        deviation = self.plan.effective_noise_multiplier
        noisy = self._cover(exact, deviation * sensitivity)
        self.accountant.step(noise_multiplier=deviation, sample_rate=self.plan.sample_rate)
        self.monitors.watch_answers((noisy - exact) / (deviation * sensitivity))
        self._after_step()
        return noisy

    def _answer(self, question: Asked, batch: Numbers) -> Values:
        """Return the exact sums over the batches of all processes."""
        parts = [question(*self._rows(people)) for people in self.people.chunks(batch)]
        told = np.append(np.sum(parts, axis=0), len(batch)).astype(np.float64)
        sums: Values = self.processes.add_up(torch.from_numpy(told)).numpy()
        self.monitors.own_people += len(batch)
        self.monitors.batch_sizes.append(int(sums[-1]))
        return sums[:-1]

    def _choose(self) -> None:
        """Go on with the candidate that gets most right."""
        question = Question([learner.averaged for learner in self.learners])
        steps, sums = self.plan.schedule.scoring, np.zeros(len(self.learners))
        for _ in range(steps):
            sums += self._ask(question, question.sensitivity)
        rows = steps * float(np.mean([curve.batch_size for curve in self.curves]))
        noise = self.plan.effective_noise_multiplier * question.sensitivity * math.sqrt(steps)
        verdict = Verdict.of(sums, rows, noise)
        self.learner = self.learners[verdict.winner]
        self.scores = [
            PilotScore(
                activation=learner.settings.activation,
                pieces=learner.settings.pieces,
                accuracy=accuracy,
                accuracy_noise=verdict.noise,
                chosen=learner is self.learner,
            )
            for learner, accuracy in zip(self.learners, verdict.accuracies, strict=True)
        ]

    def _calibrate(self) -> None:
        """Learn the temperature of the averaged model; nobody moves a sum by more than 1."""
        self.temperature = Temperature(self.learner.averaged)
        for _ in range(self.plan.schedule.calibration):
            (excess,) = self._ask(lambda *rows: [self.temperature.excess(*rows)], sensitivity=1.0)
            deviation = self.plan.effective_noise_multiplier
            self.temperature.learn(float(excess), self.curve.batch_size, deviation)
