"""What a finished run hands on: model, checkpoint, curves and metrics."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib.metadata import version

from tqdm import tqdm

from stages.books.booking import Booking
from stages.books.records import Record, deal_of, epsilon_of, seen_by
from stages.files import whole_folder, write_csv
from stages.model.files import CLASSIFIER, save_model
from stages.params import Params
from stages.privacy.attack import Profile, curve_rows, figures_of
from stages.privacy.events import BestOfMany, Steps, to_json
from stages.privacy.renyi import epsilon_of_curve, renyi_curve
from stages.tabular.prepared import Prepared
from stages.training.accounting import Spent, epsilon_curve, privacy_profile
from stages.training.checkpoint import Checkpoint, state_of
from stages.training.curves import Epoch, Epochs, ending, with_means
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import as_arrays
from stages.training.past import CHECKPOINT, Past, lineage
from stages.training.result import Promise, TrainResult

# What the mechanism and its accounting are made of.
LIBRARIES = ("torch", "opacus", "dp-accounting", "opendp", "numpy", "randomgen")


def with_progress(training: PrivateTraining, past: Past) -> list[Epoch]:
    """Carry the run out, with a bar on a terminal that tells the ε spent, and none in a log."""
    plan = training.plan
    before = renyi_curve(past.events)
    each = renyi_curve([replace(plan.planned, steps=1)])
    epochs = []
    # It tells the time left, too, of which a large table's single epoch would say nothing.
    with tqdm(total=plan.steps, unit="step", desc="train", disable=None) as bar:
        for epoch in training.epochs(bar.update):
            epochs.append(epoch)
            epsilon = epsilon_of_curve(before + epoch.steps * each, plan.delta)
            bar.set_postfix(epoch=epoch.epoch, loss=f"{epoch.loss:.3f}", ε=f"≤{epsilon:.2f}")
    return epochs


@dataclass(frozen=True)
class Trained:
    """A run that has ended, passed its monitors and is on the books.

    Attributes:
        params, table, past: what it was asked to do, on what, and after what.
        training: the run itself.
        epochs: its own, as released.
        spent: ε of every step that the weights have seen.
        booking: its entry in the ledger.
    """

    params: Params
    table: Prepared
    past: Past
    training: PrivateTraining
    epochs: Sequence[Epoch]
    spent: Spent
    booking: Booking

    def write(self) -> TrainResult:
        """Write everything that the stage makes, and return the metrics."""
        promise, profile = self.promise, self._profile()
        own = self._rows(promise.epsilon or self.spent.epsilon)
        rows = [*self.past.checkpoint.epochs, *own]
        result = self._result(rows, promise, profile)
        model = as_arrays(self.training.average.cpu())
        with whole_folder(CLASSIFIER) as folder:
            stated = {name: getattr(result, name) for name in Promise.model_fields}
            stated |= {
                "run": self.booking.run,
                "releases": [record.model_dump(mode="json") for record in result.releases],
            }
            save_model(
                folder,
                model.sharpened(self.training.temperature.beta),
                features=self.table.features,
                classes=self.table.classes,
                schema_text=self.table.schema_text,
                privacy=stated,
            )
        with whole_folder(CHECKPOINT) as folder:
            about = lineage(self.params, self.table) | {
                "activation": model.activation,
                "pieces": model.inputs.count,
                "table_changed": self.past.table_changed,
            }
            state = state_of(self.training)
            Checkpoint(self.booking.run, self.history, rows, about, state, result.releases).save(
                folder
            )
        write_csv("plots/training.csv", with_means(rows))
        write_csv("plots/attack.csv", curve_rows(profile))
        result.write()
        return result

    @property
    def history(self) -> list[Steps]:
        """Every step that the weights have ever seen."""
        return [*self.past.history, *self.training.history]

    def _rows(self, epsilon: float) -> list[dict[str, float]]:
        """Return what is told of each epoch; the last is of the model, which cost `epsilon`."""
        ends = [epoch.steps for epoch in self.epochs]
        spent, best_of = replace(self.spent, epsilon=epsilon), None
        if isinstance(self.booking.spend.events[0], BestOfMany):
            best_of = self.booking.spend.events[0]
        curve = epsilon_curve(self.past.events, self.training.history, ends, spent, best_of)
        names = [field.name for field in fields(Epoch) if field.name != "steps"]
        return [
            {name: getattr(epoch, name) for name in names} | {"epsilon": so_far}
            for epoch, so_far in zip(self.epochs, curve, strict=True)
        ]

    @cached_property
    def releases(self) -> tuple[Record, ...]:
        """Everything that the model was made from."""
        known = None if self.past.events else self.spent.epsilon
        return self.booking.history(self.past.releases, known)

    @property
    def promise(self) -> Promise:
        """What is promised to the people of the table."""
        return _promise(self.spent, self.booking, self.releases)

    def _profile(self) -> Profile:
        own = self.booking.spend.events if self.booking.is_trial else self.training.history
        # Whoever is tested on has been in the test figures by which the best of many was chosen.
        tested = seen_by("test", self.releases, deal_of(self.booking.run, self.releases))
        return privacy_profile(
            [*self.past.events, *own], planned=not self.past.events, of_others=tested
        )

    def _result(self, rows: Epochs, promise: Promise, profile: Profile) -> TrainResult:
        plan, settings = self.training.plan, self.training.learner.settings
        accuracy, accuracy_noise = ending(rows, "accuracy")
        loss, loss_noise = ending(rows, "loss")
        return TrainResult(
            **dict(promise),
            accuracy=accuracy,
            accuracy_noise=accuracy_noise,
            loss=loss,
            loss_noise=loss_noise,
            noise_multiplier=plan.noise_multiplier,
            metric_noise_multiplier=plan.metric_noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            sample_rate=plan.sample_rate,
            steps=plan.steps,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            average_decay=settings.average_decay,
            activation=settings.activation,
            pieces=settings.pieces,
            pilot=tuple(self.training.scores),
            inverse_temperature=self.training.temperature.beta,
            attack=None if promise.epsilon is None else figures_of(profile),
            monitors_passed=self.training.monitors_passed,
            not_covered=self._not_covered(),
            parent=self.past.parent,
            versions=(f"python {platform.python_version()}", *_versions()),
            history=to_json(self.history),
            releases=self.releases,
            ledger=(self.booking.record(),),
        )

    def _not_covered(self) -> list[str]:
        """What is published about the rows all the same, exactly."""
        left_out = []
        if self.params.train_size is None:
            left_out.append("the number of training rows (declare `train_size`)")
        if not self.past.is_empty:
            left_out.append("whether the table changed since the run that was continued")
        return left_out


def _promise(spent: Spent, booking: Booking, releases: Sequence[Record]) -> Promise:
    if booking.ledger is None:
        return Promise(epsilon=None, delta=None, no_guarantee="simulation_seed is set")
    # The best of many trials costs more than a trial, and also whoever was tested on.
    alone = booking.spend.epsilon if booking.is_trial else spent.epsilon
    return Promise(
        epsilon=max(alone, epsilon_of(releases, spent.delta)),
        delta=spent.delta,
        epsilon_prv=spent.prv,
        epsilon_pld=spent.pld,
        epsilon_renyi=spent.renyi,
        epsilon_replace_one=None if booking.is_trial else spent.replace_one,
    )


def _versions() -> list[str]:
    return [f"{name} {version(name)}" for name in LIBRARIES]


def summary(result: TrainResult) -> str:
    """Return the line with which a training ends."""
    privacy = (
        f"no privacy guarantee: {result.no_guarantee}"
        if result.epsilon is None
        else f"ε = {result.epsilon:.3f} at δ = {result.delta:g}"
    )
    accuracy = f"{result.accuracy:.3f} ± {2 * result.accuracy_noise:.3f}"
    return f"trained {result.steps} steps: accuracy {accuracy} on the training rows, {privacy}"


def warn_of_overflow(not_finite: int) -> None:
    """Tell how many gradients were no numbers; only at a terminal, as logs are kept."""
    if not_finite and sys.stderr.isatty():
        print(
            f"for the owner's eyes only: {not_finite} gradients were not finite and counted as "
            "zero. Lower `learning_rate`.",
            file=sys.stderr,
        )
