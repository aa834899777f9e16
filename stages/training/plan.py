"""One frozen object from which sampling, noise, normalisation and accounting all derive."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.errors import UserError
from stages.privacy.events import Event, Steps
from stages.training.accounting import effective_noise_multiplier
from stages.training.auto import PublicNumbers, Settings, steps_of
from stages.training.calibration import calibrate
from stages.training.schedule import Schedule

# What the declared size of the training side may well be short of the true one.
DECLARED_SHARE = 0.8


@dataclass(frozen=True)
class Plan:
    """What the training mechanism will do, fixed before it sees a row.

    Attributes:
        train_size: rows on the training side, or people where they may have several, as declared in
            public.
        sample_rate: chance of each to be in a step's batch, in (0, 1].
        steps: how many steps are taken, whatever their batches hold.
        expected_batch_size: public divisor of every sum, `sample_rate * train_size`.
        noise_multiplier: σ; the noise added to a sum of gradients has deviation σ·max_grad_norm.
        metric_noise_multiplier: σₘ; deviation of the noise in each of a step's three metric sums.
        max_grad_norm: C; the most that one row, or person, moves the sum of gradients, in L2 norm.
        delta: δ of the guarantee.
        candidates: networks that begin, of which a pilot within the plan chooses one.
    """

    train_size: int
    sample_rate: float
    steps: int
    expected_batch_size: float
    noise_multiplier: float
    metric_noise_multiplier: float
    max_grad_norm: float
    delta: float
    candidates: int = 1

    @property
    def schedule(self) -> Schedule:
        """What the steps are spent on."""
        return Schedule.of(self.steps, self.candidates)

    @property
    def effective_noise_multiplier(self) -> float:
        """σ of the one Gaussian mechanism that gradient and metrics of a step are together."""
        return effective_noise_multiplier(self.noise_multiplier, self.metric_noise_multiplier)

    @property
    def planned(self) -> Steps:
        """The plan as the accountants see it."""
        return Steps(self.effective_noise_multiplier, self.sample_rate, self.steps)

    @property
    def epoch_ends(self) -> list[int]:
        """The number of its steps after which each epoch of the chosen network is over."""
        return self.schedule.epoch_ends(self.sample_rate)


def make_plan(
    public: PublicNumbers,
    settings: Settings,
    metric_noise_ratio: float,
    past: Sequence[Event] = (),
    candidates: int = 1,
) -> Plan:
    """Return the plan whose noise is just enough for the target, what is past included.

    Raises:
        UserError: the batch size exceeds `train_size`, δ is too large for the table, or the target
            is too small for the steps asked or used up by the past.
    """
    train_size, batch_size, target_delta = (
        public.train_size,
        settings.batch_size,
        public.target_delta,
    )
    if batch_size > train_size:
        raise UserError(
            f"params.yaml: `batch_size` should be at most `train_size` ({train_size}), but is "
            f"{batch_size}. Lower `batch_size`; equal to `train_size` is full batch."
        )
    largest_delta = DECLARED_SHARE / train_size
    if target_delta >= largest_delta:
        raise UserError(
            "params.yaml: `target_delta` should be below 0.8 / `train_size` = "
            f"{largest_delta:.2g}, but is {target_delta:g}: publishing a random row would "
            "satisfy it. Set it to `auto`, or lower."
        )
    sample_rate = batch_size / train_size
    steps = steps_of(settings.epochs, sample_rate)
    effective = calibrate(
        public.target_epsilon, delta=target_delta, sample_rate=sample_rate, steps=steps, past=past
    )
    # From `effective_noise_multiplier` with σₘ = ratio·σ.
    noise_multiplier = effective / effective_noise_multiplier(1.0, metric_noise_ratio)
    return Plan(
        train_size=train_size,
        sample_rate=sample_rate,
        steps=steps,
        expected_batch_size=sample_rate * train_size,
        noise_multiplier=noise_multiplier,
        metric_noise_multiplier=noise_multiplier * metric_noise_ratio,
        max_grad_norm=settings.max_grad_norm,
        delta=target_delta,
        candidates=candidates,
    )
