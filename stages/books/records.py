"""How a run is put on record in the metrics that are committed with it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from stages.privacy.history import Side
from stages.results import evidence_in


class PublicSpend(BaseModel):
    """A spend without the path or hash of the private table.

    Attributes:
        side: whose rows the release read.
        events: the mechanisms it ran, as `events.to_json` writes them.
        epsilon: what they cost on their own, planned in advance, at `delta`.
        delta: δ.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: Side
    events: list[dict[str, Any]]
    epsilon: float
    delta: float


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
