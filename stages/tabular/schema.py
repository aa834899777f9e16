"""The public description of the table: columns, bounds and vocabularies, declared by hand.

The file follows the Table Schema standard (https://specs.frictionlessdata.io/table-schema/) with
keys of our own, which the README lists. Everything the encoding needs is in it, so nothing of the
encoding is learned from private rows.
"""

import json
import reprlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, chain
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
from pydantic import StringConstraints

from stages.errors import UserError
from stages.explain import Mistake, mistakes, quoted, repeated
from stages.tabular.fields import KINDS, AnyField, Feature, Id, Label, ReadField, choices
from stages.tabular.fields.base import Declared


class Dialect(Declared):
    """How a CSV file is written (https://specs.frictionlessdata.io/csv-dialect/)."""

    delimiter: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e\t]$")] = ","


class Schema(Declared):
    """The declared fields, in the file's order, which is the order of the encoded columns.

    Attributes:
        missing_values: cells that stand for a missing value.
        interactions: pairs of features whose encoded columns are also multiplied.
        report_by: categories for whose values the test figures are given apart.
        public: whether anybody has the table anyway, so that ε protects nobody in it.
    """

    fields: tuple[AnyField, ...]
    missing_values: tuple[str, ...] = pydantic.Field(("",), alias="missingValues")
    dialect: Dialect = Dialect()
    interactions: tuple[tuple[str, str], ...] = ()
    report_by: tuple[str, ...] = ()
    public: pydantic.StrictBool = False

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and validate a schema file.

        Raises:
            UserError: the file is missing or no JSON, or a declaration in it is missing, unknown,
                contradictory or not enough to encode the table.
        """
        try:
            text = Path(path).read_text("utf-8")
            content = json.loads(text, object_pairs_hook=_refuse_repeated_keys)
        except OSError as error:
            raise UserError(
                f"{path}: expected a readable file that declares the table's columns, but: "
                f"{error.strerror}. Correct `schema` in params.yaml, or write the file."
            ) from None
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: expected JSON in UTF-8, but: {error}. Mend the place it names."
            ) from None
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            lines = (_explanation(mistake, content) for mistake in mistakes(error, cls))
            raise UserError("\n".join(f"{path}: {line}" for line in lines)) from None

    def to_json(self) -> str:
        """The schema as text that `load` reads back as an equal schema."""
        return self.model_dump_json(indent=2, exclude_unset=True, by_alias=True) + "\n"

    @property
    def read_fields(self) -> tuple[ReadField, ...]:
        """The fields that are read: all but the ignored ones."""
        return tuple(field for field in self.fields if isinstance(field, ReadField))

    @property
    def features(self) -> tuple[Feature, ...]:
        """The fields that are encoded as the model's inputs."""
        return tuple(field for field in self.fields if isinstance(field, Feature))

    @property
    def references(self) -> tuple[ReadField, ...]:
        """The fields that features are encoded from, and that are no features themselves."""
        named = {name for feature in self.features for name in feature.inputs}
        others = (field for field in self.read_fields if not isinstance(field, Feature))
        return tuple(field for field in others if field.name in named)

    @property
    def inputs(self) -> tuple[ReadField, ...]:
        """The fields that a row needs to be scored."""
        return (*self.features, *self.references)

    @property
    def label(self) -> Label:
        """The one field to predict."""
        return next(field for field in self.fields if isinstance(field, Label))

    @property
    def id(self) -> Id | None:
        """The field that says whose row it is, if there is one."""
        return next((field for field in self.fields if isinstance(field, Id)), None)

    @property
    def at_most(self) -> int:
        """How many rows of a person are used, at most."""
        return self.id.rows if self.id else 1

    @property
    def feature_names(self) -> list[str]:
        """Names of the encoded columns, such as `age`, `sex=male`, `age × sex=male`."""
        own = {feature.name: feature.columns for feature in self.features}
        products = [
            f"{one} × {other}"
            for first, second in self.interactions
            for one in own[first]
            for other in own[second]
        ]
        return [*chain.from_iterable(own.values()), *products]

    @property
    def scaled(self) -> list[int]:
        """Positions in `feature_names` of what is a number, mapped from its bounds to [-1, 1]."""
        starts = accumulate((len(feature.columns) for feature in self.features), initial=0)
        return [
            start + place
            for start, feature in zip(starts, self.features, strict=False)
            for place in feature.scaled
        ]

    @property
    def class_names(self) -> list[str]:
        """Names of class 0, class 1, …, such as `charges ≤ 15000` and `charges > 15000`."""
        return [*self.label.class_names]

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Of each category whose values are reported apart, the levels."""
        levels = {feature.name: feature.levels for feature in self.features}
        return {name: levels[name] for name in self.report_by}

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if faults := [*self._faults_of_fields(), *self._faults_of_references()]:
            raise ValueError("; ".join(faults))
        return self

    def _faults_of_fields(self) -> Iterator[str]:
        if twice := repeated([field.name for field in self.fields]):
            yield f"each column should be declared once, but {quoted(twice)} is declared again"
        labels = [field.name for field in self.fields if isinstance(field, Label)]
        if len(labels) != 1:
            have = f"{quoted(labels)} have it" if labels else "none has it"
            yield f'one field should have `"role": "label"`, the one to be predicted, but {have}'
        if not self.features:
            yield "at least one feature should be declared to predict from, but there is none"
        ids = [field.name for field in self.fields if isinstance(field, Id)]
        if len(ids) > 1:
            yield f'one field at most should have `"role": "id"`, but {quoted(ids)} have it'
        for field in self.read_fields:
            if both := {*field.vocabulary} & {*self.missing_values}:
                yield (
                    f"{quoted(sorted(both))} is in `missingValues` and a value of "
                    f"`{field.name}`: a cell cannot be both. Remove one"
                )

    def _faults_of_references(self) -> Iterator[str]:
        levels = {feature.name: feature.levels for feature in self.features}
        for pair in self.interactions:
            start = "`interactions` should be pairs of two features:"
            if unknown := [name for name in pair if name not in levels]:
                yield f"{start} {quoted(unknown)} is none"
            if pair[0] == pair[1]:
                yield f"{start} {quoted(pair)} is one"
        if unknown := [name for name in self.report_by if not levels.get(name)]:
            yield f"`report_by` should name features with an `enum`, but {quoted(unknown)} is none"
        if twice := repeated(self.report_by):
            yield f"`report_by` repeats {quoted(twice)}"
        yield from self._faults_of_inputs()
        if self.id and self.id.latest:
            yield from self._faults_of_latest(self.id.latest)

    def _faults_of_inputs(self) -> Iterator[str]:
        """Yield what is wrong with the fields that others are encoded from."""
        by_name = {field.name: field for field in self.read_fields}
        for feature in self.features:
            for name in feature.inputs[1:]:
                base = by_name.get(name)
                if base is None or base.type not in feature.bases:
                    yield (
                        f"`{feature.name}` is counted from `{name}`, which should be a field of "
                        f"`type` {' or '.join(feature.bases)}, but is none"
                    )
                elif base.policy == "midpoint" and feature.policy != "midpoint":
                    yield (
                        f"`{name}`, from which `{feature.name}` is counted, may be missing: give "
                        f'`{feature.name}` `"missing": "midpoint"` too'
                    )

    def _faults_of_latest(self, name: str) -> Iterator[str]:
        field = next((field for field in self.read_fields if field.name == name), None)
        if field is None or not field.comparable:
            yield f"`latest` should name a date or a number that is read, but `{name}` is none"
        elif field.policy not in ("refuse", "drop"):
            yield (
                f"`latest` is `{name}`, so a row without it cannot be compared: its `missing` "
                f"should be refuse or drop, but is {field.policy}"
            )


def _explanation(mistake: Mistake, content: Any) -> str:
    match mistake.place:
        case ("fields", int(index)):
            return (
                f"{_called(content, index)}: expected {', '.join(_roles())}, but found "
                f"{_role_and_type(content['fields'][index])}. Correct them."
            )
        case ("fields", int(index), str(kind), *place):
            within = replace(mistake, place=tuple(place))
            if place == ["confirm"]:
                return f"{_called(content, index)}: {within}."
            return f"{_called(content, index)}: {within}. {KINDS[kind].needs}"
        case _:
            return f"{mistake}."


def _called(content: Any, index: int) -> str:
    field = content["fields"][index]
    name = field.get("name") if isinstance(field, dict) else None
    return f"field `{name}`" if name else f"field number {index + 1}"


def _roles() -> Iterator[str]:
    """Yield the roles and types of each kind."""
    for kind in KINDS.values():
        types = " or ".join(choices(kind, "type")) or "any"
        yield f"`role` {' or '.join(choices(kind, 'role'))} with `type` {types}"


def _role_and_type(field: object) -> str:
    if not isinstance(field, dict):
        return reprlib.repr(field)
    return f"`role` {field.get('role', 'feature')} with `type` {field.get('type', 'missing')}"


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON readers keep the last of two equal keys, which would change a bound in silence.
    if twice := repeated([key for key, _ in pairs]):
        raise ValueError(f"{quoted(twice)} is given twice in one place")
    return dict(pairs)
