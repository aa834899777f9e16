"""One training step as others take it: plain PyTorch, Opacus twice, jax-privacy; and as we do.

Each maker returns a function that takes one step of the same network on the same table.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax_privacy
import numpy as np
import numpy.typing as npt
import opacus
import optax
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from stages.model.perceptron import Architecture
from stages.tabular.prepared import Features, Labels, Persons, Side
from stages.training.auto import AVERAGE_DECAY, Settings
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import build_network
from stages.training.noise import random_source
from stages.training.plan import Plan

Step = Callable[[], object]
Maker = Callable[[Features, Labels, int], Step]

NOISE_MULTIPLIER = 1.0
MAX_GRAD_NORM = 1.0
LEARNING_RATE = 1e-3
MOMENTUM = 0.8


def network(features: Features) -> nn.Sequential:
    """Return the network that every contender trains: the sample's default."""
    return build_network(Architecture(features.shape[1], 2, [128, 64], "relu"))


def plain(features: Features, labels: Labels, batch_size: int) -> Step:
    """No privacy: indexed tensors and fused Adam, the fastest usual loop."""
    model = network(features)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)

    def step() -> None:
        rows = torch.randint(len(y), (batch_size,))
        loss = functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def ours(features: Features, labels: Labels, batch_size: int) -> Step:
    """This project's: everything that a step of `dvc repro` does, its monitors included."""
    return _step_of(Side(features, labels), batch_size)


def of_people(features: Features, labels: Labels, persons: Persons, batch_size: int) -> Step:
    """The same with people who have several rows, of whom so many are sampled."""
    return _step_of(Side(features, labels, persons), batch_size)


def _step_of(side: Side, batch_size: int) -> Step:
    endless = 10**9
    people = side.people
    plan = Plan(
        train_size=people,
        sample_rate=batch_size / people,
        steps=endless,
        expected_batch_size=batch_size,
        noise_multiplier=NOISE_MULTIPLIER,
        metric_noise_multiplier=5 * NOISE_MULTIPLIER,
        max_grad_norm=MAX_GRAD_NORM,
        delta=1e-5,
    )
    settings = Settings(
        batch_size=batch_size,
        epochs=1,
        learning_rate=LEARNING_RATE,
        momentum=MOMENTUM,
        max_grad_norm=MAX_GRAD_NORM,
        average_decay=AVERAGE_DECAY,
        activation="relu",
        pieces=0,
    )
    training = PrivateTraining(
        [(network(side.features), settings)], side, plan, random_source(None)
    )
    return lambda: training._step(0)


def opacus_hooks(features: Features, labels: Labels, batch_size: int) -> Step:
    """Opacus as its tutorials use it: a DataLoader and `make_private`."""
    model, optimizer, loader = _made_private(features, labels, batch_size)
    batches = _endless(loader)

    def step() -> None:
        x, y = next(batches)
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def opacus_ghost(features: Features, labels: Labels, batch_size: int) -> Step:
    """Opacus with ghost clipping: two backward passes, no gradient per example."""
    model, optimizer, criterion, loader = _made_private(
        features, labels, batch_size, grad_sample_mode="ghost", criterion=nn.CrossEntropyLoss()
    )
    batches = _endless(loader)

    def step() -> None:
        x, y = next(batches)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    return step


def _made_private(features: Features, labels: Labels, batch_size: int, **mode: Any) -> Any:
    model = network(features)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    table = TensorDataset(torch.from_numpy(features), torch.from_numpy(labels))
    return opacus.PrivacyEngine().make_private(
        module=model,
        optimizer=optimizer,
        data_loader=DataLoader(table, batch_size=batch_size),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=MAX_GRAD_NORM,
        **mode,
    )


def _endless(loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    while True:
        yield from loader


def jax_clipped_grad(features: Features, labels: Labels, batch_size: int) -> Step:
    """jax-privacy's `clipped_grad`, compiled, with optax; batches of a fixed size suit it best."""
    model = network(features)
    params = [tensor.detach().numpy() for tensor in model.parameters()]
    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)

    def loss(params: list[jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        for weight, bias in zip(params[:-2:2], params[1:-2:2], strict=True):
            x = jax.nn.relu(x @ weight.T + bias)
        logits = x @ params[-2].T + params[-1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y)

    gradient = jax_privacy.clipped_grad(
        loss, l2_clip_norm=MAX_GRAD_NORM, batch_argnums=(1, 2), keep_batch_dim=False
    )

    @jax.jit
    def update(params: Any, state: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        key, *keys = jax.random.split(key, len(params) + 1)
        deviation = NOISE_MULTIPLIER * MAX_GRAD_NORM
        noisy = [
            (total + deviation * jax.random.normal(each, total.shape)) / batch_size
            for total, each in zip(gradient(params, x, y), keys, strict=True)
        ]
        updates, state = optimizer.update(noisy, state)
        return optax.apply_updates(params, updates), state, key

    source = np.random.default_rng(0)
    held = [params, optimizer.init(params), jax.random.key(0)]

    def step() -> None:
        rows: npt.NDArray[np.int64] = source.integers(len(labels), size=batch_size)
        held[:] = update(*held, features[rows], labels[rows].astype(np.int32))
        jax.block_until_ready(held)

    return step


CONTENDERS: dict[str, Maker] = {
    "plain PyTorch": plain,
    "this project": ours,
    "Opacus, hooks": opacus_hooks,
    "Opacus, ghost": opacus_ghost,
    "jax-privacy": jax_clipped_grad,
}
