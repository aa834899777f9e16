"""What ran, apart from what it cost: mechanisms as plain data, for accountants and the ledger.

In files an event is `{kind: attributes}`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    WrapSerializer,
)

# What holds of a value is checked where it is read, by `from_json` or a model that has events.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_AS_DECLARED = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Steps:
    """Poisson-subsampled Gaussian steps.

    Attributes:
        noise_multiplier: effective σ of one step: noise deviation over L2 sensitivity.
        sample_rate: chance of each row to be in the batch, in (0, 1].
        steps: how many.
    """

    __pydantic_config__ = _AS_DECLARED

    noise_multiplier: Positive
    sample_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Gaussian:
    """Gaussian noise on figures that are released once, all of them as one mechanism.

    Attributes:
        noise_multiplier: σ of the whole: noise deviation over L2 sensitivity.
    """

    __pydantic_config__ = _AS_DECLARED

    noise_multiplier: Positive


@dataclass(frozen=True)
class DiscreteLaplace:
    """Discrete Laplace noise on integers that a row moves by 1 in all: pure `epsilon`-DP.

    Test figures of earlier versions were released by it.
    """

    __pydantic_config__ = _AS_DECLARED

    epsilon: Positive


@dataclass(frozen=True)
class BestOfMany:
    """A random number of runs of `events`, of which only the best is ever shown.

    Attributes:
        events: what one run is.
        mean: expected number of runs, above 1.
        shape: of the truncated negative binomial distribution of that number (1 is geometric).
    """

    __pydantic_config__ = _AS_DECLARED

    events: tuple["Event", ...]
    mean: Annotated[float, Field(gt=1)]
    shape: float


_KINDS = {
    "steps": Steps,
    "gaussian": Gaussian,
    "discrete_laplace": DiscreteLaplace,
    "best_of_many": BestOfMany,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def _name_of(event: Any) -> str | None:
    """Return the kind of an event, in a file or in memory; None if it is none."""
    if isinstance(event, Mapping):
        return str(next(iter(event))) if len(event) == 1 else None
    return _NAMES.get(type(event))


def _untagged(event: Any) -> Any:
    return next(iter(event.values())) if isinstance(event, Mapping) else event


def _tagged(event: Any, attributes: SerializerFunctionWrapHandler) -> dict[str, Any]:
    return {_NAMES[type(event)]: attributes(event)}


_FILED = (BeforeValidator(_untagged), WrapSerializer(_tagged))

Event = Annotated[
    Annotated[Steps, *_FILED, Tag("steps")]
    | Annotated[Gaussian, *_FILED, Tag("gaussian")]
    | Annotated[DiscreteLaplace, *_FILED, Tag("discrete_laplace")]
    | Annotated[BestOfMany, *_FILED, Tag("best_of_many")],
    Discriminator(_name_of),
]

_EVENTS = TypeAdapter(list[Event])


def to_json(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return the events as JSON values, each `{kind: attributes}`."""
    return _EVENTS.dump_python(list(events), mode="json")


def from_json(content: Sequence[Mapping[str, Any]]) -> list[Event]:
    """Return the events that `to_json` wrote.

    Raises:
        pydantic.ValidationError: a kind is unknown, or an attribute is missing or out of its range.
    """
    return _EVENTS.validate_python(list(content))


def with_more_noise(event: Event, factor: float) -> Event:
    """Return the event with its noise made `factor` times as large."""
    match event:
        case Steps() | Gaussian():
            return replace(event, noise_multiplier=event.noise_multiplier * factor)
        case DiscreteLaplace():
            return DiscreteLaplace(event.epsilon / factor)
        case BestOfMany():
            return replace(
                event, events=tuple(with_more_noise(part, factor) for part in event.events)
            )
