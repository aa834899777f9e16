"""A network that learns from noisy sums of clipped gradients; who may do so is DP-SGD's to say."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from stages.model.perceptron import Model
from stages.training.auto import Settings
from stages.training.engine import DPOptimizer, DPOptimizerFastGradientClipping
from stages.training.gradients import ClippedSumFunction
from stages.training.momentum import Momentum
from stages.training.network import as_arrays
from stages.training.plan import Plan
from stages.training.processes import Processes


class SecretNoiseOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Opacus' optimizer for clipped sums, with noise from a given numpy generator.

    Sum and noise are added in float64; the rounding to the parameters' type comes after. Among
    several processes the first one's noise is everybody's, so that there is one noise in all.
    """

    def __init__(
        self,
        optimizer: Momentum,
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


class Learner:
    """A network, the average of its weights on the way, and what moves them.

    Attributes:
        settings: how it learns.
        model, average: the network as it is, and with averaged weights.
        weights, average_weights: of these two, each one vector.
        optimizer: takes the step from the exact sum of clipped gradients, which it covers with
            noise.
        clipped_sum: gives that sum.
        updates: steps taken so far, those of the runs that this one continues included.
    """

    def __init__(
        self,
        network: nn.Sequential,
        plan: Plan,
        settings: Settings,
        source: np.random.Generator,
        processes: Processes,
    ):
        """Prepare to train `network` in place and on its own device; nothing is drawn yet."""
        self.settings = settings
        self.model = network
        self.average = copy.deepcopy(network)
        self.weights, self.average_weights = as_vector(network), as_vector(self.average)
        momentum = Momentum(self.weights, settings.learning_rate, settings.momentum)
        self.optimizer = SecretNoiseOptimizer(momentum, plan, source, processes)
        self.clipped_sum = ClippedSumFunction(as_arrays(network))
        self.updates = 0

    def call_after_steps(self, hook: Callable[[DPOptimizer], None]) -> None:
        """Have a function called whenever noise was drawn for a step."""
        self.optimizer.attach_step_hook(hook)

    @property
    def averaged(self) -> Model:
        """The network with averaged weights, as arrays that change with them."""
        return as_arrays(self.average)

    def step(self, share: float) -> None:
        """Step along the sum in `weights.grad`, at a share of the learning rate."""
        (group,) = self.optimizer.param_groups
        group["lr"] = self.settings.learning_rate * share
        self.optimizer.step()
        self._update_average()

    def _update_average(self) -> None:
        """Move the exponential average of the weights; early ones are forgotten faster."""
        decay = min(self.settings.average_decay, (1 + self.updates) / (10 + self.updates))
        self.average_weights.data.lerp_(self.weights.data, 1 - decay if self.updates else 1.0)
        self.updates += 1


def as_vector(model: nn.Module) -> nn.Parameter:
    """Return a model's parameters as one vector, of which they are views from now on.

    One long tensor takes a step about as fast as one short one, and a model has many short ones.
    """
    vector = nn.Parameter(parameters_to_vector(model.parameters()).detach())
    vector_to_parameters(vector.data, model.parameters())
    return vector
