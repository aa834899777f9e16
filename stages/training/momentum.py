"""Gradient descent with momentum: what `torch.optim.SGD` does, and starts in no time.

Any optimizer of PyTorch loads its compiler when it is made, for a second, whether or not anything
is compiled.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn


class Momentum:
    """v ← momentum·v + gradient, and then weights ← weights - lr·v (Sutskever et al. 2013).

    The attributes are those of PyTorch's optimizers, as Opacus and checkpoints read them.
    """

    def __init__(self, weights: nn.Parameter, lr: float, momentum: float):
        self.defaults: dict[str, Any] = {}
        self.param_groups: list[dict[str, Any]] = [
            {"params": [weights], "lr": lr, "momentum": momentum}
        ]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """Step along `weights.grad`."""
        (group,) = self.param_groups
        (weights,) = group["params"]
        step = weights.grad
        if group["momentum"]:
            known = self.state[weights].get("momentum_buffer")
            step = step.clone() if known is None else known.mul_(group["momentum"]).add_(step)
            self.state[weights]["momentum_buffer"] = step
        weights.add_(step, alpha=-group["lr"])
