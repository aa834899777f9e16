"""How a run is put on record in the metrics that are committed with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from stages.books.names import path_of
from stages.privacy.events import Event, from_json
from stages.privacy.history import ROW, SIDES, Side, Spend, total_epsilon
from stages.privacy.renyi import Curve, renyi_curve
from stages.results import evidence_in


class Table(BaseModel):
    """Whose rows a release read, as `Spend` has it; for the private repository alone.

    Attributes:
        data: name of the table, see `names.path_of`.
        fingerprint: hash of its content.
        split: who is on which side.
        unit: whom the promise is to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    fingerprint: str
    split: str
    unit: str = ROW

    @classmethod
    def of(cls, spend: Spend) -> "Table":
        """Return the table of a spend."""
        return cls(
            data=path_of(spend.data),
            fingerprint=spend.fingerprint,
            split=spend.split,
            unit=spend.unit,
        )


class PublicSpend(BaseModel):
    """A spend without the path or hash of the private table.

    Attributes:
        side: whose rows the release read.
        events: the mechanisms it ran, as `events.to_json` writes them.
        epsilon: what they cost on their own, planned in advance, at `delta`.
        delta: δ.
        deal: number of the table and split, in a history: releases with equal numbers read one
            table dealt out once, so that nobody is on both sides; others may have read anybody.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: Side
    events: list[dict[str, Any]]
    epsilon: float
    delta: float
    deal: int = 1


class Record(BaseModel):
    """One entry of the ledger, as metrics tell it.

    Attributes:
        run: its id in the ledger; None for a simulation, which is in none.
        spend: what was released.
        measures: of a release of test figures: id of the run that trained the model.
        read: whose rows it read; None in bundles, of simulations, and in files of earlier versions.
        trial: which trial of a tuning it was; None elsewhere, and in bundles.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str | None
    spend: PublicSpend
    measures: str | None = None
    read: Table | None = None
    trial: str | None = None

    @model_serializer(mode="wrap")
    def _told(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = write(self)
        absent = {key for key in ("read", "trial") if told[key] is None}
        return {key: told[key] for key in told if key not in absent}

    @property
    def for_others(self) -> "Record":
        """The same without what is for the private repository alone."""
        return self.model_copy(update={"read": None, "trial": None})


class Known(Record):
    """A run as a ledger had it.

    Attributes:
        past: ids of the runs that it builds on.
        struck: why it does not count, or None if it does.
        metrics: hashes of its metrics, by which a dvc.lock names it.
        edition: of which edition of the ledger this is a line.
    """

    past: tuple[str, ...]
    struck: str | None
    metrics: tuple[str, ...] = ()
    edition: str = ""


def records_in(metrics: Any) -> list[Record]:
    """Return what a metrics file of any age has on record; nothing if it is from before."""
    return [Record.model_validate(record) for record in _told(metrics, "ledger")]


def releases_in(metrics: Any) -> list[Record]:
    """Return everything that what a metrics file tells of was made from; nothing of old files."""
    return [Record.model_validate(record) for record in _told(metrics, "releases")]


def known_in(metrics: Any) -> list[Known]:
    """Return what a file tells of all runs that a ledger had; nothing if it is of one run."""
    return [Known.model_validate(record) for record in _told(metrics, "runs")]


def looks_like_records(metrics: Any) -> bool:
    """Whether a metrics file tells of runs, if in a way that is not known here."""
    told = [one for key in ("ledger", "releases", "runs") for one in _told(metrics, key)]
    return any(isinstance(one, Mapping) and {"run", "spend"} <= {*one} for one in told)


def _told(metrics: Any, key: str) -> list[Any]:
    """Return a list of what a file of metrics rests on; empty where it has none."""
    evidence = evidence_in(metrics) or metrics
    told = evidence.get(key) if isinstance(evidence, Mapping) else None
    return told if isinstance(told, list) else []


def deal_of(run: str | None, history: Sequence[Record]) -> int | None:
    """Return the number of the table and split that a run read; None if a history lacks the run."""
    return next((one.spend.deal for one in history if one.run == run), None)


def seen_by(side: Side, history: Sequence[Record], deal: int | None) -> list[Event]:
    """Return what somebody on one side of a deal may have been in, of a history.

    That is what read this side, and the larger side of each other deal, as an edited row may have
    been on any.

    Args:
        side: of the deal.
        history: the releases.
        deal: number of the table and split; None for one that nothing of the history has read.
    """
    others = {record.spend.deal for record in history} - {deal}
    sides = {deal: (side,)} | {other: _larger_sides(history, other) for other in others}
    return [
        event
        for record in history
        if record.spend.side in sides[record.spend.deal]
        for event in from_json(record.spend.events)
    ]


def _larger_sides(history: Sequence[Record], deal: int) -> tuple[Side, ...]:
    """The side of a deal that diverges more at every order; both, where neither does."""

    def curve(side: Side) -> Curve:
        spends = (one.spend for one in history if (one.spend.deal, one.spend.side) == (deal, side))
        return renyi_curve([event for spend in spends for event in from_json(spend.events)])

    train, test = (curve(side) for side in SIDES)
    if (train >= test).all():
        return ("train",)
    return ("test",) if (test >= train).all() else SIDES


def epsilon_of(history: Sequence[Record], delta: float, side: Side | None = None) -> float:
    """Return ε at δ of all releases in a history, or of those on one side.

    This is the one function from which the ε of whatever was made from several releases follows.

    Guarantee:
        As `total_epsilon`, for the people of a table whose deals the history numbers.
    """
    spends = [
        Spend(
            data="",
            fingerprint=str(record.spend.deal),
            split="",
            side=record.spend.side,
            events=tuple(from_json(record.spend.events)),
            epsilon=record.spend.epsilon,
            delta=record.spend.delta,
        )
        for record in history
        if side in (None, record.spend.side)
    ]
    return total_epsilon(spends, delta)
