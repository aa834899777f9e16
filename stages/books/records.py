"""How a run is put on record in the metrics that are committed with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from stages.privacy.events import Event, from_json
from stages.privacy.history import Side, Spend, total_epsilon
from stages.results import evidence_in


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
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str | None
    spend: PublicSpend
    measures: str | None = None


def records_in(metrics: Mapping[str, Any]) -> list[Record]:
    """Return what a metrics file of any age has on record; nothing if it is from before."""
    evidence = evidence_in(metrics) or metrics
    return [Record.model_validate(record) for record in evidence.get("ledger", [])]


def releases_in(metrics: Mapping[str, Any]) -> list[Record]:
    """Return everything that what a metrics file tells of was made from; nothing of old files."""
    evidence = evidence_in(metrics) or metrics
    return [Record.model_validate(record) for record in evidence.get("releases", [])]


def looks_like_records(metrics: Mapping[str, Any]) -> bool:
    """Whether a metrics file tells of runs, if in a way that is not known here."""
    evidence = evidence_in(metrics) or metrics
    told = [*evidence.get("ledger", []), *evidence.get("releases", [])]
    return any(isinstance(one, Mapping) and {"run", "spend"} <= {*one} for one in told)


def seen_by(side: Side, history: Sequence[Record], deal: int | None) -> list[Event]:
    """Return what somebody on one side of a deal may have been in, of a history.

    That is what read this side, and of other deals either side, as an edited row may have been on
    any.

    Args:
        side: of the deal.
        history: the releases.
        deal: number of the table and split; None for one that nothing of the history has read.
    """
    return [
        event
        for record in history
        if record.spend.side == side or record.spend.deal != deal
        for event in from_json(record.spend.events)
    ]


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
