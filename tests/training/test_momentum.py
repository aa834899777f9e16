"""Momentum is PyTorch's to the bit, and starting a run loads nothing that it does not need."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from stages.training.momentum import Momentum
from tests.conftest import ROOT


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_steps_are_those_of_pytorch_to_the_bit(momentum):
    source = torch.Generator().manual_seed(0)
    start = torch.randn(100, generator=source)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers: tuple[Any, ...] = (
        Momentum(ours, lr=0.3, momentum=momentum),
        torch.optim.SGD([theirs], lr=0.3, momentum=momentum, foreach=False),
    )
    for step in range(20):
        gradient = torch.randn(100, generator=source)
        for weights, optimizer in zip((ours, theirs), optimizers, strict=True):
            weights.grad = gradient.clone()
            optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / 20)
            optimizer.step()
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, start)


UNNEEDED = ("torch._dynamo", "torch.distributed.tensor", "torch.distributed.fsdp", "sympy")

TRAINS = """
import sys
import torch
from stages.training.engine import DPOptimizer, SHARDING
from stages.training.momentum import Momentum
weights = torch.nn.Parameter(torch.zeros(3))
weights.grad = torch.ones(3)
Momentum(weights, 0.1, 0.9).step()
import stages.train
print(*(module for module in {unneeded} if module in sys.modules))
# What stood in for them is gone, and the real ones can still be imported.
from torch.distributed.tensor import DTensor
assert DTensor.__module__.startswith("torch.distributed.tensor")
"""


def imported(code):
    command = [sys.executable, "-c", code.format(unneeded=UNNEEDED)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()


def test_a_run_starts_without_what_it_does_not_need():
    assert imported(TRAINS) == []


def test_pytorchs_own_optimizer_would_be_seen():
    theirs = TRAINS.replace("Momentum(weights, 0.1, 0.9)", "torch.optim.SGD([weights], 0.1)")
    assert "torch._dynamo" in imported(theirs)
