"""Attack the training and see whether its ε holds: `python -m benchmarks.audit [--quick]`.

The accountants bound ε from above, by mathematics, for the mechanism they are told about. An audit
bounds it from below, by experiment, for the code that runs: a row made to stand out (a canary) is
put into the table or left out, and an attacker who sees everything but that choice guesses it. More
right guesses than a claim allows refute the claim. Two audits run on the configured plan:

* one step of each kind (that learns, that chooses, that calibrates), thousands of times over, with
  and without one canary: the sharpest test of clipping, noise and division. Sampling is switched
  off in it, so that every repetition tells something;
* one whole training, pilot and calibration included, with thousands of canaries, each in the table
  by a coin of its own (Steinke, Nasr & Jagielski 2023, "Privacy Auditing with One (1) Training
  Run").

Both run at learning rate 0: the attacker sees the noisy gradient of every step, what weights come
of it is post-processing, and canaries stand out most while the weights stand still. And both run
again with half the noise, a planted fault: an audit that does not notice proves nothing. `--quick`
leaves out the single steps.

What a bound says: the claims tried are the plan's own with more or less noise, and "ε ≥ 2" means
that with the noise that ε = 2 takes, nobody could have guessed so well. To refute the weaker claim
of being (ε, δ)-private in whatever way takes far more guesses: at ε = 3.5 and half the noise,
Theorem 5.2 of Steinke et al. makes 3.2 ± 0.2 of the same guesses, and would miss the fault.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from dp_accounting.pld import PLDAccountant
from scipy import stats
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from stages.commands import run
from stages.errors import BrokenGuaranteeError, UserError
from stages.model.inputs import Array
from stages.model.perceptron import Architecture
from stages.params import load_params
from stages.privacy.events import Steps
from stages.privacy.renyi import dp_event
from stages.tabular.prepared import Prepared, Side
from stages.training.auto import Settings
from stages.training.dp_sgd import PrivateTraining
from stages.training.gradients import ClippedSumFunction
from stages.training.learner import Learner
from stages.training.network import as_arrays, build_network
from stages.training.noise import random_source
from stages.training.pilot import Question
from stages.training.plan import Plan
from stages.training.setup import architecture, settle
from stages.training.temperature import Temperature

# The weights stay where they start, and the noise is what is looked at.
STANDING_STILL = Settings(
    batch_size=0,
    epochs=0,
    learning_rate=0.0,
    momentum=0.0,
    max_grad_norm=0.0,
    average_decay=0.0,
    activation="",
    pieces=0,
)

# A mechanism that is as private as claimed is refuted in at most 1 of 20 audits.
CONFIDENCE = 0.95

# Steps taken with the canary in the table, and as many without; and rows beside it, which add the
# same to every one of them, so that few will do.
REPETITIONS, ROWS = 30_000, 100

# Canaries in the audit of a whole training, and the share of them that the attacker guesses on.
CANARIES = 5_000
GUESSED_SHARE = 0.12

# A canary's inputs, where those of others are at most 1: its gradient is clipped for certain.
LOUD = 100.0

# Times the logits of a model whose calibration is attacked: it is sure of every answer, so that a
# wrong one moves the sum by all that a row may.
SURE = 1e4

# What the planted fault leaves of the noise.
FAULT = 0.5

# Step in which the accountant rounds privacy losses up.
LOSS_INTERVAL = 1e-3

# What a claim allows an attacker: at a true-positive rate, at least this false-positive rate.
TradeOff = Callable[[float], float]
Refutes = Callable[[TradeOff], bool]

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
Signals = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]


# --- from guesses to ε ---------------------------------------------------------------------------


def trade_off(claim: Steps) -> TradeOff:
    """Return what `claim` allows an attacker who sees its steps and looks for one row.

    With δ(ε) for the claim's privacy profile, TPR ≤ e^ε·FPR + δ(ε) and 1 - FPR ≤ e^ε·(1 - TPR) +
    δ(ε) for every ε ≥ 0 (Dong, Roth & Su 2022, "Gaussian Differential Privacy", §2.3). Some ε
    instead of all, and an accountant that rounds δ(ε) up, err in favour of the claim.
    """
    accountant = _accountant(claim)
    epsilons = np.linspace(0, accountant.get_epsilon(1e-9), 500)
    deltas = np.array(accountant.get_delta(epsilons))
    growth = np.exp(epsilons)

    def least_false_positives(true_positives: float) -> float:
        forth = (true_positives - deltas) / growth
        back = 1 - deltas - growth * (1 - true_positives)
        return max(0.0, float(forth.max()), float(back.max()))

    return least_false_positives


def epsilon_of(claim: Steps, delta: float) -> float:
    return float(_accountant(claim).get_epsilon(delta))


def _accountant(claim: Steps) -> PLDAccountant:
    accountant = PLDAccountant(value_discretization_interval=LOSS_INTERVAL)
    return accountant.compose(dp_event(claim))


def epsilon_at_least(refutes: Refutes, claim: Steps, delta: float) -> float:
    """Return the largest ε at `delta` among refuted claims, or 0.

    The claims are `claim` with 64 times to a quarter of its noise.
    """

    def with_noise(factor: float) -> Steps:
        return replace(claim, noise_multiplier=claim.noise_multiplier * factor)

    def refuted(factor: float) -> bool:
        return refutes(trade_off(with_noise(factor)))

    more, less = 64.0, 1 / 4
    if not refuted(more):
        return 0.0
    for _ in range(10):
        middle = math.sqrt(more * less)
        more, less = (middle, less) if refuted(middle) else (more, middle)
    return epsilon_of(with_noise(more), delta)


def upper_rate(events: int, trials: int, confidence: float) -> float:
    """Return the upper end of a one-sided interval for a rate (Clopper & Pearson 1934).

    At that rate, seeing `events` or fewer in `trials` has probability 1 - `confidence`.
    """
    if events == trials:
        return 1.0
    return float(stats.beta.ppf(confidence, events + 1, trials - events))


def refutes_by_rates(without: Scores, with_canary: Scores, threshold: float) -> Refutes:
    """Judge claims by the attacker who says "it is in" where a score exceeds `threshold`.

    Args:
        without, with_canary: scores of independent repetitions.
        threshold: chosen without a look at these scores.
    """
    each = (1 + CONFIDENCE) / 2  # the two intervals both hold with probability CONFIDENCE
    alarms = int((without > threshold).sum())
    misses = int((with_canary <= threshold).sum())
    false_positives = upper_rate(alarms, len(without), each)
    true_positives = 1 - upper_rate(misses, len(with_canary), each)
    return lambda allowed: false_positives < allowed(true_positives)


def refutes_by_guesses(canaries: int, guesses: int, correct: int) -> Refutes:
    """Judge claims by an attacker's `correct` of `guesses` on the coins of one training's canaries.

    Let T be the number of correct guesses. For canary j, with the other coins as they are, "j's
    guess is this one, and at least t of the others are correct" is a test of j's coin, so a claim f
    bounds how often it is wrong by how often it is right. As f is convex, the bound also holds on
    average over coins and canaries:

        Σ_{i ≥ t} (guesses - i)·P[T = i] / canaries  ≥  f( Σ_{i > t} i·P[T = i] / canaries )

    Suppose that P[T ≥ correct] is 1 - CONFIDENCE. Going down from t = correct - 1, each line forces
    some P[T = t]; a claim for which they all add up to more than 1 is refuted (Mahloujifar, Melis &
    Chaudhuri 2025, "Auditing f-Differential Privacy in One Run").
    """

    def refutes(allowed: TradeOff) -> bool:
        right = (1 - CONFIDENCE) * correct / canaries
        wrong = (1 - CONFIDENCE) * (guesses - correct) / canaries
        for t in range(correct - 1, -1, -1):
            forced = max(0.0, allowed(min(1.0, right)) - wrong)
            wrong += forced
            right += forced * t / (guesses - t)
        return right + wrong > guesses / canaries

    return refutes


def count_correct(scores: Scores, present: Bits, guesses: int) -> int:
    """Guess that the highest scores were present and the lowest were not; count what is right.

    Args:
        scores, present: (canaries,).
        guesses: even, and fixed before the scores are seen; half of them go each way.
    """
    order = np.argsort(scores)
    lowest, highest = order[: guesses // 2], order[len(order) - guesses // 2 :]
    return int((~present[lowest]).sum() + present[highest].sum())


# --- attacks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A training at learning rate 0 that an audit can start as often as it likes.

    Attributes:
        features: (rows, features) float32.
        labels: (rows,) int64.
        shapes: of each candidate's network.
        plan: what the mechanism does.
        init_seed: of the weights.
    """

    features: Features
    labels: Labels
    shapes: tuple[Architecture, ...]
    plan: Plan
    init_seed: int

    def models(self) -> list[nn.Sequential]:
        return [build_network(shape, self.init_seed) for shape in self.shapes]

    def training(self, source: np.random.Generator) -> PrivateTraining:
        return PrivateTraining(
            [(model, STANDING_STILL) for model in self.models()],
            Side(self.features, self.labels),
            self.plan,
            source,
        )

    def with_rows(self, features: Features, labels: Labels) -> "Subject":
        return replace(
            self,
            features=np.concatenate([self.features, features]),
            labels=np.concatenate([self.labels, labels]),
        )

    def with_own_inputs(self, canaries: int) -> "Subject":
        """Put an input for each canary before the others; it is 0 in every row there is."""
        return replace(
            self,
            features=np.pad(self.features, ((0, 0), (canaries, 0))),
            shapes=tuple(_widened(shape, canaries) for shape in self.shapes),
        )

    def with_few_rows(self, steps: int) -> "Subject":
        """Take so many steps without sampling, on the first rows."""
        plan = replace(self.plan, sample_rate=1.0, steps=steps)
        return replace(self, features=self.features[:ROWS], labels=self.labels[:ROWS], plan=plan)

    def with_one_network(self) -> "Subject":
        """Have no pilot."""
        plan = replace(self.plan, candidates=1)
        return replace(self, shapes=self.shapes[:1], plan=plan)

    def with_noise(self, factor: float) -> "Subject":
        """Make all noise `factor` times as large."""
        plan = replace(
            self.plan,
            noise_multiplier=factor * self.plan.noise_multiplier,
            metric_noise_multiplier=factor * self.plan.metric_noise_multiplier,
        )
        return replace(self, plan=plan)


def _widened(shape: Architecture, canaries: int) -> Architecture:
    """Return a network's shape with so many more features before the others."""
    numbers = tuple(canaries + number for number in shape.inputs.numbers)
    inputs = replace(shape.inputs, numbers=numbers)
    return replace(shape, features=canaries + shape.features, inputs=inputs)


def audit_step(subject: Subject, repetitions: int, source: np.random.Generator) -> Refutes:
    """Attack steps that learn, `repetitions` with the canary in the table and as many without."""
    alone = subject.with_one_network().with_few_rows(repetitions)
    features, label = _canary(alone)
    added = ClippedSumFunction(as_arrays(*alone.models()))(
        features, label, alone.plan.max_grad_norm
    ).gradient

    without = _step_signals(alone, added, source)
    with_canary = _step_signals(alone.with_rows(features, label), added, source)
    return _refutes_by_signals(without, with_canary)


def audit_choice(subject: Subject, repetitions: int, source: np.random.Generator) -> Refutes:
    """Attack steps that count what each of two candidates gets right."""

    def ask(training: PrivateTraining) -> Scores:
        question = Question([learner.averaged for learner in training.learners])
        return training._ask(question, question.sensitivity)

    shape = subject.shapes[0]
    plan = replace(subject.plan, candidates=2)
    twins = replace(subject, shapes=(shape, shape), plan=plan)
    return _audit_answers(twins, repetitions, source, ask)


def audit_calibration(subject: Subject, repetitions: int, source: np.random.Generator) -> Refutes:
    """Attack steps that compare confidence with accuracy."""

    def ask(training: PrivateTraining) -> Scores:
        temperature = Temperature(training.learner.averaged.sharpened(SURE))
        return training._ask(lambda *rows: [temperature.excess(*rows)], sensitivity=1.0)

    return _audit_answers(subject.with_one_network(), repetitions, source, ask)


def _audit_answers(
    subject: Subject,
    repetitions: int,
    source: np.random.Generator,
    ask: Callable[[PrivateTraining], Scores],
) -> Refutes:
    """Attack steps that release no gradient but what `ask` returns."""
    subject = subject.with_few_rows(repetitions)
    crowded = subject.with_rows(*_canary(subject))
    trainings = subject.training(source), crowded.training(source)
    without, with_canary = (
        np.array([ask(training) for _ in range(repetitions)]) for training in trainings
    )
    return _refutes_by_signals(without, with_canary)


def _canary(subject: Subject) -> tuple[Features, Labels]:
    """Return a row with the worst answer, so that its loss is clipped, too, and surely wrong."""
    features = np.full((1, subject.shapes[0].features), LOUD, dtype=np.float32)
    label = subject.models()[0](torch.from_numpy(features)).argmin(1).numpy()
    return features, label


def _refutes_by_signals(without: Signals, with_canary: Signals) -> Refutes:
    pilot = len(without) // 6  # teaches the attacker what to look at, and is not counted
    weights, threshold = fisher_cut(without[:pilot], with_canary[:pilot])
    return refutes_by_rates(without[pilot:] @ weights, with_canary[pilot:] @ weights, threshold)


def _step_signals(subject: Subject, added: Array, source: np.random.Generator) -> Signals:
    """Return each step's noisy sums, (steps, 4).

    They are the gradients projected on the canary's, in units of the most that one row adds, and
    the metric sums.

    Args:
        subject: a training.
        added: what the canary adds to the sum of gradients, (parameters,).
    """
    training, plan = subject.training(source), subject.plan
    projections: list[float] = []

    def project() -> None:
        total = float(_gradient(training.learner).numpy() @ added)
        projections.append(total / plan.max_grad_norm**2)

    _before_each_step(training.learner, project)
    metrics = [training._step(0) for _ in range(plan.steps)]
    scale = [[plan.expected_batch_size, 1.0, 1.0, 1.0]]  # the gradient is a mean
    return np.column_stack([projections, metrics]) * scale


def fisher_cut(without: Signals, with_canary: Signals) -> tuple[Scores, float]:
    """Return weights and threshold that tell two clouds apart (Fisher 1936, linear discriminant).

    Args:
        without, with_canary: (samples, signals).
    """
    means = without.mean(0), with_canary.mean(0)
    covariance = np.atleast_2d(np.cov(without.T) + np.cov(with_canary.T)) / 2
    covariance += 1e-6 * np.eye(len(covariance))  # a signal without noise is to weigh most, not 0
    weights = np.linalg.solve(covariance, means[1] - means[0])
    return weights, float((means[0] + means[1]) @ weights / 2)


def audit_training(subject: Subject, canaries: int, source: np.random.Generator) -> Refutes:
    """Attack one training with about half of `canaries` more rows in its table.

    Each canary has an input of its own, so that their gradients hardly overlap.
    """
    present = source.random(canaries) < 0.5
    wide = subject.with_own_inputs(canaries)
    features = np.zeros((canaries, wide.shapes[0].features), dtype=np.float32)
    np.fill_diagonal(features, LOUD)
    labels = np.arange(canaries) % subject.shapes[0].classes
    crowded = wide.with_rows(features[present], labels[present])

    training = crowded.training(source)
    spies = [Spy(learner, features, labels) for learner in training.learners]
    for _ in training.epochs():
        pass
    scores = np.sum([spy.scores() for spy in spies], axis=0)
    guesses = 2 * round(GUESSED_SHARE * canaries / 2)
    return refutes_by_guesses(canaries, guesses, count_correct(scores, present, guesses))


class Spy:
    """Adds up the gradients that a candidate releases, of the weights behind all inputs."""

    def __init__(self, learner: Learner, features: Features, labels: Labels):
        """Watch a candidate for canaries (canaries, features) with labels (canaries,)."""
        self.model = learner.model
        self.features, self.labels = torch.from_numpy(features), torch.from_numpy(labels)
        first = self.model[1]
        assert isinstance(first, nn.Linear)
        self.first = first
        self.released = torch.zeros_like(first.weight)

        def collect() -> None:
            # The first layer's weights come first in the vector of all.
            gradient = _gradient(learner)[: first.weight.numel()]
            self.released.add_(gradient.view_as(first.weight))

        _before_each_step(learner, collect)

    def scores(self) -> Scores:
        """Return how much it looks as if each canary had taken part, (canaries,).

        The sum is projected on the direction in which the canary pulls its own input's weights.
        """
        hidden = self.first(self.model[0](self.features)).detach().requires_grad_()
        losses = functional.cross_entropy(self.model[2:](hidden), self.labels, reduction="sum")
        (pull,) = torch.autograd.grad(losses, hidden)  # (canaries, hidden)
        own = self.released[:, : len(self.labels)].T
        scores: Scores = (own * functional.normalize(pull)).sum(1).double().numpy()
        return scores


def _gradient(learner: Learner) -> Tensor:
    gradient = learner.weights.grad
    assert gradient is not None
    return gradient


def _before_each_step(learner: Learner, look: Callable[[], None]) -> None:
    """Call `look` whenever the noisy gradient is there and the weights have not moved yet."""
    momentum = learner.optimizer.original_optimizer
    move = momentum.step

    def look_and_move() -> None:
        look()
        move()

    momentum.step = look_and_move


# --- report --------------------------------------------------------------------------------------

LINE = "{:<53}{:>11}{:>10}{:>12}   {}"
HEAD = LINE.format("audit", "claimed ε", "found ε", "confidence", "verdict")
MEANING = (
    "An attacker who sees every step was handed rows made to stand out, and could not tell whether "
    "they\nwere in the table better than the claimed ε allows. With half the noise the same "
    "attacker could, so a\nfault of that size would have been noticed."
)


@dataclass(frozen=True)
class Finding:
    """What one audit found.

    Attributes:
        audit: what was attacked.
        claimed: ε by the accountant.
        at_least: ε by the attack.
        planted: whether the noise was less than claimed on purpose.
    """

    audit: str
    claimed: float
    at_least: float
    planted: bool

    @property
    def exceeds(self) -> bool:
        return self.at_least > self.claimed

    def __str__(self) -> str:
        name = f"{self.audit}, {FAULT:.0%} of the noise" if self.planted else self.audit
        verdict = {
            (False, False): "within the claim",
            (False, True): "EXCEEDS THE CLAIM",
            (True, True): "fault noticed",
            (True, False): "FAULT NOT NOTICED",
        }[self.planted, self.exceeds]
        found = f"≥ {self.at_least:.2f}"
        return LINE.format(name, f"{self.claimed:.2f}", found, f"{CONFIDENCE:.0%}", verdict)


def findings(subject: Subject, source: np.random.Generator, *, quick: bool) -> Iterator[Finding]:
    """Carry out one audit after the other, each with the noise as planned and then with less."""
    plan = subject.plan

    def judge(audit: str, claim: Steps, refutes: Refutes, planted: bool) -> Finding:
        found = epsilon_at_least(refutes, claim, plan.delta)
        return Finding(audit, epsilon_of(claim, plan.delta), found, planted)

    for planted in (False, True):
        ran = subject.with_noise(FAULT) if planted else subject
        refutes = audit_training(ran, CANARIES, source)
        yield judge(f"one training, {CANARIES} canaries", plan.planned, refutes, planted)
    if quick:
        return
    one_step = Steps(plan.effective_noise_multiplier, sample_rate=1.0, steps=1)
    kinds = {"learns": audit_step, "chooses": audit_choice, "calibrates": audit_calibration}
    for kind, attack in kinds.items():
        for planted in (False, True):
            ran = subject.with_noise(FAULT) if planted else subject
            refutes = attack(ran, REPETITIONS, source)
            yield judge(f"a step that {kind}, {REPETITIONS} times", one_step, refutes, planted)


def configured_subject() -> Subject:
    """Return the training of a new run by params.yaml on the prepared table."""
    params, table = load_params(), Prepared.open()
    features, labels, _ = table.train
    choice, plan = settle(params, table, params.train_size or len(labels))
    shapes = tuple(architecture(params, table, settings) for settings in choice.candidates)
    return Subject(features, labels, shapes, plan, params.init_seed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit")
    parser.add_argument("--quick", action="store_true", help="audit the whole training only")
    quick = parser.parse_args().quick
    threadpool_limits(1)
    subject = configured_subject()
    print(HEAD, flush=True)
    found = []
    for finding in findings(subject, random_source(None), quick=quick):
        print(finding, flush=True)
        found.append(finding)
    _require_as_expected(found)
    print(MEANING)


def _require_as_expected(found: list[Finding]) -> None:
    if any(finding.exceeds and not finding.planted for finding in found):
        raise BrokenGuaranteeError(
            "an attack found more than the claimed ε. If this happens again on a second run (by "
            f"chance it does in at most {1 - CONFIDENCE:.0%} of audits), mend the code that was "
            "changed, and do not publish what it trained."
        )
    if any(finding.planted and not finding.exceeds for finding in found):
        raise UserError(
            f"with {FAULT:.0%} of the noise, an attack found no more than the claimed ε: this "
            "audit is too weak for the plan in params.yaml and vouches for nothing. Run it again; "
            "if it stays, raise REPETITIONS or CANARIES in benchmarks/audit.py."
        )


if __name__ == "__main__":
    run(main)
