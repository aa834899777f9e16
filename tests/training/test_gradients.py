"""The clipped gradient sum: right against Opacus and autograd, and bounded whatever a row holds."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn import functional

from stages.model.perceptron import Architecture
from stages.training.gradients import ClippedSum, ClippedSumFunction
from stages.training.network import as_arrays, build_network
from tests.training.hooks import HooksClippedSum


def as_tensors(part):
    """The same sum with its numpy arrays as tensors."""
    return ClippedSum(
        gradient=torch.as_tensor(part.gradient),
        losses=torch.as_tensor(part.losses),
        correct=torch.as_tensor(part.correct),
        norms=torch.as_tensor(part.norms),
        not_finite=part.not_finite,
    )


def closed_form(model, features, labels, max_grad_norm):
    function = ClippedSumFunction(as_arrays(model))
    return as_tensors(function(features.numpy(), labels.numpy(), max_grad_norm))


def closed_form_in_torch(model, features, labels, max_grad_norm):
    """What runs on a GPU, here on the CPU."""
    layers = [(layer.weight.detach(), layer.bias.detach()) for layer in list(model)[1::2]]
    function = ClippedSumFunction(replace(as_arrays(model), layers=layers))
    return function(features, labels, max_grad_norm)


def hooks(model, features, labels, max_grad_norm):
    return as_tensors(HooksClippedSum(model)(features.numpy(), labels.numpy(), max_grad_norm))


FUNCTIONS = (closed_form, closed_form_in_torch, hooks)

# float32 rounds each of a sum's terms by 6e-8 of it.
ROUNDING = 1e-5

# Opacus divides by the norm plus 1e-6. In so small a unit of the loss that is nothing, and as it is
# a power of two, numbers are rounded in no other way.
OPACUS_UNIT = 2.0**20

pytestmark = pytest.mark.filterwarnings(
    # PyTorch's, to Opacus' hooks, whenever the features themselves need no gradient.
    "ignore:Full backward hook is firing when gradients are computed:UserWarning"
)


@pytest.fixture
def make_batch(make_table):
    def make(rows, seed=0):
        features, labels = make_table(rows, seed=seed)
        return torch.from_numpy(features), torch.from_numpy(labels)

    return make


def opacus_sum(model, features, labels, max_grad_norm):
    """The oracle: Opacus' usual way, one gradient per example in memory."""
    hooked = GradSampleModule(copy.deepcopy(model), loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(hooked.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=OPACUS_UNIT * max_grad_norm,
        expected_batch_size=1,
    )
    loss = functional.cross_entropy(hooked(features), labels, reduction="sum")
    (OPACUS_UNIT * loss).backward()
    optimizer.clip_and_accumulate()
    return flat(parameter.summed_grad for parameter in optimizer.params) / OPACUS_UNIT


def row_gradients(model, features, labels):
    """The other oracle: plain autograd, a row at a time."""
    for row in range(len(labels)):
        loss = functional.cross_entropy(model(features[row : row + 1]), labels[row : row + 1])
        yield torch.autograd.grad(loss, list(model.parameters()))


def forgetful_sum(model, features, labels, max_grad_norm):
    """The fault to be caught: clip by a norm that leaves out the first layer's weights."""
    sums = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for gradients in row_gradients(model, features, labels):
        norm = flat(gradients[1:]).norm()
        factor = (max_grad_norm / norm).clamp(max=1.0)
        sums = [total + factor * part for total, part in zip(sums, gradients, strict=True)]
    nothing = torch.zeros(len(labels))
    return ClippedSum(flat(sums), nothing, nothing, nothing, 0)


def flat(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


@pytest.fixture
def clips_half(make_batch):
    """Return a function that finds the clip which half of a batch's rows exceed."""

    def find(model):
        features, labels = make_batch(64)
        return float(closed_form(model, features, labels, 1.0).norms.median())

    return find


def differs_from_opacus(function, model, batch, max_grad_norm):
    features, labels = batch
    ours = function(model, features, labels, max_grad_norm).gradient
    theirs = opacus_sum(model, features, labels, max_grad_norm)
    return float((ours.double() - theirs).abs().max())


def moved_by_last_row(function, model, batch, max_grad_norm):
    """L2 distance between the sums with and without the last row."""
    features, labels = batch
    whole = function(model, features, labels, max_grad_norm).gradient
    without = function(model, features[:-1], labels[:-1], max_grad_norm).gradient
    return float((whole.double() - without.double()).norm())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden_sizes", [(), (8,), (8, 5), (8, 5, 7)])
@pytest.mark.parametrize("rows", [64, 1, 0])
def test_sum_equals_that_of_opacus_hooks(
    make_model, make_batch, clips_half, activation, hidden_sizes, rows
):
    model = make_model(hidden_sizes=hidden_sizes, activation=activation)
    batch = make_batch(rows)
    assert differs_from_opacus(closed_form, model, batch, clips_half(model)) < ROUNDING


def test_a_forgotten_layer_is_seen_against_opacus(make_model, make_batch, clips_half):
    model, batch = make_model(), make_batch(64)
    assert differs_from_opacus(closed_form, model, batch, clips_half(model)) < ROUNDING
    assert differs_from_opacus(forgetful_sum, model, batch, clips_half(model)) > 1e-2


@pytest.mark.parametrize("function", FUNCTIONS)
def test_reported_norm_is_that_of_each_rows_whole_gradient(make_model, make_batch, function):
    model, batch = make_model(), make_batch(16)
    norms = torch.stack([flat(g).norm() for g in row_gradients(model, *batch)]).float()
    torch.testing.assert_close(function(model, *batch, 1.0).norms, norms)


def test_losses_and_hits_are_those_of_each_row(make_model, make_batch):
    model, (features, labels) = make_model(), make_batch(16)
    part = closed_form(model, features, labels, 1.0)
    log_probabilities = model(features).log_softmax(dim=1).detach()
    for row, label in enumerate(labels.tolist()):
        assert part.losses[row] == pytest.approx(-float(log_probabilities[row, label]), rel=1e-5)
        assert part.correct[row] == (log_probabilities[row].argmax() == label)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_counts_as_zero(make_model, make_batch, function, value):
    model, (features, labels) = make_model(), make_batch(8)
    others = torch.arange(8) != 3
    expected = function(model, features[others], labels[others], 1.0)
    spoilt = features.clone()
    spoilt[3, 2] = value
    part = function(model, spoilt, labels, 1.0)
    assert not torch.isfinite(part.norms[3])
    assert part.not_finite == 1
    torch.testing.assert_close(part.gradient, expected.gradient)
    # Nor does it touch the others' losses and norms, down to the last bit.
    untouched = function(model, features, labels, 1.0)
    assert torch.equal(part.losses[others], untouched.losses[others])
    assert torch.equal(part.norms[others], untouched.norms[others])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("value", [1e30, -1e30, 1e10])
def test_an_enormous_row_moves_only_its_own_share(make_model, make_batch, function, value):
    model, (features, labels) = make_model(), make_batch(8)
    untouched = function(model, features, labels, 1.0)
    features[-1, 2] = value
    part = function(model, features, labels, 1.0)
    assert torch.equal(part.losses[:-1], untouched.losses[:-1])
    moved = moved_by_last_row(function, model, (features, labels), 1.0)
    assert moved <= 1.0 + ROUNDING


EXTREMES = [0.0, 1e-30, 1.0, -1.0, 1e5, -1e10, 1e19, 1e30, math.inf, -math.inf, math.nan]
rows_of_anything = st.lists(
    st.floats(width=32) | st.floats(-1, 1, width=32) | st.sampled_from(EXTREMES),
    min_size=6,
    max_size=6,
)


@settings(deadline=None, max_examples=150)
@given(
    row=rows_of_anything,
    label=st.integers(0, 2),
    max_grad_norm=st.floats(0.01, 100),
    weight_scale=st.sampled_from([1e-3, 1.0, 1e3, 1e6]),
    hidden_sizes=st.sampled_from([(), (5,), (4, 3)]),
    activation=st.sampled_from(["relu", "tanh"]),
)
@example([1e10] * 6, 0, 1.0, 1.0, (4, 3), "relu")
@example([1e5, *[math.nan] * 5], 0, 1.0, 1.0, (), "relu")
def test_any_row_moves_the_sum_by_at_most_the_clip(
    row, label, max_grad_norm, weight_scale, hidden_sizes, activation
):
    model = build_network(Architecture(6, 3, hidden_sizes, activation), init_seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(weight_scale)
    others = np.random.default_rng(0).uniform(-1, 1, (4, 6))
    features = torch.tensor(np.vstack([others, row]), dtype=torch.float32)
    labels = torch.tensor([0, 1, 2, 1, label])
    moved = moved_by_last_row(closed_form, model, (features, labels), max_grad_norm)
    assert moved <= max_grad_norm * (1 + ROUNDING)


def test_a_forgotten_layer_breaks_the_bound(make_model, make_batch):
    model, (features, labels) = make_model(hidden_sizes=()), make_batch(8)
    features[-1] *= 100
    labels[-1] = model(features)[-1].argmin()
    batch = features, labels
    assert moved_by_last_row(closed_form, model, batch, 0.5) <= 0.5 * (1 + ROUNDING)
    assert moved_by_last_row(forgetful_sum, model, batch, 0.5) > 2 * 0.5


class Residual(nn.Module):
    """Linear throughout, but no Sequential."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(x + self.layer(x))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(
            nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 3)),
            id="layer norm",
        ),
        pytest.param(Residual(), id="residual"),
        pytest.param(
            nn.Sequential(nn.Linear(6, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 3))),
            id="nested",
        ),
        pytest.param(
            nn.Sequential(nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False)),
            id="no bias",
        ),
        pytest.param(
            nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)),
            id="two activations",
        ),
    ],
)
def test_the_oracle_sums_any_other_model_as_opacus_does(make_batch, model):
    assert differs_from_opacus(hooks, model, make_batch(16), 0.5) < ROUNDING
    assert differs_from_opacus(hooks, model, make_batch(0), 0.5) == 0


@pytest.mark.parametrize("other", [closed_form_in_torch, hooks])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_every_way_to_the_sum_agrees(make_model, make_batch, other, activation):
    model, (features, labels) = make_model(activation=activation), make_batch(16)
    ours, theirs = (function(model, features, labels, 0.9) for function in (closed_form, other))
    torch.testing.assert_close(ours.gradient, theirs.gradient)
    torch.testing.assert_close(ours.norms, theirs.norms)
    torch.testing.assert_close(ours.losses, theirs.losses)
    assert torch.equal(ours.correct, theirs.correct)


def test_weights_that_change_in_place_are_seen(make_model, make_batch):
    model, (features, labels) = make_model(), make_batch(16)
    function = ClippedSumFunction(as_arrays(model))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-0.5)
    norms = function(features.numpy(), labels.numpy(), 0.9).norms
    assert np.array_equal(norms, closed_form(model, features, labels, 0.9).norms.numpy())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_is_left_on_the_model(make_model, make_batch, function):
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    function(model, *make_batch(4), 1.0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(hasattr(parameter, "grad_sample") for parameter in model.parameters())
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
