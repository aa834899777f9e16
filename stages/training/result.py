"""What a training leaves behind: metrics/train.json, whose keys are known here alone."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from stages.books.records import Record
from stages.results import Result


class Promise(BaseModel):
    """What a model promises to each row that it was trained on.

    Attributes:
        epsilon: of the model and its curves; None where there is no guarantee.
        delta: δ of that and all below.
        no_guarantee: why ε covers nothing, or None if it does.
        epsilon_prv, epsilon_pld: by each accountant, for a plan fixed in advance.
        epsilon_renyi: by Rényi divergence, also valid for plans made on the way.
        epsilon_replace_one: of the model, for tables that differ by one replaced row; None where
            nobody can tell, as of a tuned model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epsilon: float | None
    delta: float | None
    no_guarantee: str | None = None
    epsilon_prv: float | None = None
    epsilon_pld: float | None = None
    epsilon_renyi: float | None = None
    epsilon_replace_one: float | None = None


class ParentRun(BaseModel):
    """The run that was continued.

    Attributes:
        commit: the id of the commit that holds it; None in a bundle, which tells no commit.
        checkpoint: the hash under which DVC knows its checkpoint; None in a bundle.
        data_changed: whether the table is another one now.
        table_changed: whether it changed anywhere between the runs that led to this one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str | None = None
    checkpoint: str | None = None
    data_changed: bool
    table_changed: bool


class PilotScore(BaseModel):
    """What a candidate of the pilot was measured by, as released.

    Attributes:
        activation, pieces: its network.
        accuracy: share of the scored rows that it got right; noise may take it out of [0, 1].
        accuracy_noise: standard deviation of the noise in that.
        chosen: whether it went on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    activation: str
    pieces: int
    accuracy: float
    accuracy_noise: float
    chosen: bool


class TrainResult(Result, Promise):
    """The released figures of a training, the mechanism that ran and what it promises.

    Attributes:
        accuracy, loss: where the smoothed curves end, on the training rows.
        accuracy_noise, loss_noise: standard deviations of the noise in these.
        noise_multiplier, metric_noise_multiplier, max_grad_norm, sample_rate, steps: of the plan.
        learning_rate, momentum, average_decay, activation, pieces: of the training; None in old
            files.
        pilot: how the candidates did of which the plan chose; () where there was but one.
        inverse_temperature: what the logits were multiplied by, so that the model is as sure as it
            is accurate; None in old files, whose logits are as trained.
        attack: what an attacker can do with the model and its curves; None without a guarantee.
        monitors_passed: names of the checks of the mechanism, all of which passed.
        not_covered: what is published about the rows exactly all the same.
        parent: the run that was continued, or None.
        versions: of Python and the libraries that the mechanism is made of.
        history: every step that the weights have ever seen, as `events.to_json` writes it.
        releases: everything that the model was made from, of either side; () in old files.
        ledger: the training as the ledger knows it.
    """

    path: ClassVar = Path("metrics/train.json")
    headline: ClassVar = {"run": "run"}

    accuracy: float
    accuracy_noise: float
    loss: float
    loss_noise: float
    noise_multiplier: float
    metric_noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    steps: int
    learning_rate: float | None = None
    momentum: float | None = None
    average_decay: float | None = None
    activation: str | None = None
    pieces: int | None = None
    pilot: tuple[PilotScore, ...] = ()
    inverse_temperature: float | None = None
    attack: dict[str, float] | None = None
    monitors_passed: list[str]
    not_covered: list[str]
    parent: ParentRun | None
    versions: tuple[str, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    releases: tuple[Record, ...] = ()
    ledger: list[Record]

    @property
    def table_changed(self) -> bool:
        """Whether the table changed anywhere between the runs that led to this one."""
        return self.parent is not None and self.parent.table_changed

    @property
    def run(self) -> list[str]:
        """The beginning of the training's id in the ledger; a list, of which DVC makes no metric.

        The stages that read the model depend on it: a dependency on the model's folder would be a
        wide column of hashes in `dvc exp show`. Of a simulation, which is in no ledger, a digest.
        """
        if self.record.run is not None:
            return [self.record.run[:8]]
        return [f"simulated {self.digest}"]

    @property
    def record(self) -> Record:
        """The one entry of the ledger that the training is."""
        return self.ledger[0]
