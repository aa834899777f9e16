"""What ran, apart from what it cost: mechanisms as plain data, for accountants and the ledger."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Steps:
    """Poisson-subsampled Gaussian steps.

    Attributes:
        noise_multiplier: effective σ of one step: noise deviation over L2 sensitivity.
        sample_rate: chance of each row to be in the batch, in (0, 1].
        steps: how many.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int


@dataclass(frozen=True)
class DiscreteLaplace:
    """Discrete Laplace noise on integers that a row moves by 1 in all: pure `epsilon`-DP."""

    epsilon: float


@dataclass(frozen=True)
class BestOfMany:
    """A random number of runs of `events`, of which only the best is ever shown.

    Attributes:
        events: what one run is.
        mean: expected number of runs, above 1.
        shape: of the truncated negative binomial distribution of that number (1 is geometric).
    """

    events: tuple["Event", ...]
    mean: float
    shape: float


Event = Steps | DiscreteLaplace | BestOfMany

_KINDS: dict[str, type[Event]] = {
    "steps": Steps,
    "discrete_laplace": DiscreteLaplace,
    "best_of_many": BestOfMany,
}


def to_json(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return the events as JSON values, each `{kind: attributes}`."""
    names = {kind: name for name, kind in _KINDS.items()}
    content = []
    for event in events:
        attributes = asdict(event)
        if isinstance(event, BestOfMany):
            attributes["events"] = to_json(event.events)
        content.append({names[type(event)]: attributes})
    return content


def from_json(content: Sequence[dict[str, Any]]) -> list[Event]:
    """Return the events that `to_json` wrote."""
    events = []
    for entry in content:
        ((kind, attributes),) = entry.items()
        if kind == "best_of_many":
            attributes = {**attributes, "events": tuple(from_json(attributes["events"]))}
        events.append(_KINDS[kind](**attributes))
    return events


def with_more_noise(event: Event, factor: float) -> Event:
    """Return the event with its noise made `factor` times as large."""
    match event:
        case Steps():
            return replace(event, noise_multiplier=event.noise_multiplier * factor)
        case DiscreteLaplace():
            return DiscreteLaplace(event.epsilon / factor)
        case BestOfMany():
            return replace(
                event, events=tuple(with_more_noise(part, factor) for part in event.events)
            )
