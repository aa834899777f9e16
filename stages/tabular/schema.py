"""The public description of the table: columns, bounds and vocabularies, declared by hand.

The file follows the Table Schema standard (https://specs.frictionlessdata.io/table-schema/) with
keys of our own, which the README lists. Everything the encoding needs is in it, so nothing of the
encoding is learned from private rows.
"""

import difflib
import json
import math
import reprlib
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, StringConstraints, Tag

from stages.errors import UserError


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _not_blank(text: str) -> str:
    # A blank cell is a missing value to the reader of the table, never a category.
    if not text.strip():
        raise ValueError("should not be blank")
    return text


def _several_different(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(values) < 2:
        raise ValueError(f"should list two or more texts, but lists {len(values)}")
    if repeated := _repeated(values):
        raise ValueError(f"should list each value once, but repeats {_quoted(repeated)}")
    return values


def _none_left(guesses: tuple[str, ...]) -> tuple[str, ...]:
    # A guess from rows, once used, would publish them; so `draft` marks its guesses.
    if guesses:
        raise ValueError(
            f"says that {_quoted(guesses)} is a guess: correct it from what you know of the field, "
            "not from the rows, and remove `confirm`"
        )
    return guesses


Number = Annotated[float, pydantic.Field(strict=True, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1)]
Category = Annotated[str, AfterValidator(_not_blank)]
Categories = Annotated[tuple[Category, ...], AfterValidator(_several_different)]
Classes = Annotated[Categories, pydantic.Field(max_length=20)]
Confirm = Annotated[tuple[str, ...], AfterValidator(_none_left)]

# Levels of a category beyond its vocabulary.
OTHER, MISSING = "(other)", "(missing)"


class Bounds(_Declared):
    """The range of a numeric feature, in the feature's own unit; values beyond it are clipped."""

    minimum: Number
    maximum: Number

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.minimum < self.maximum:
            raise ValueError(
                f"should have its `minimum` below its `maximum`, but {self.minimum:.15g} is not "
                f"below {self.maximum:.15g}"
            )
        if not math.isfinite(self.maximum - self.minimum):
            raise ValueError("should span a range that a float can hold, but is wider")
        return self


class Vocabulary(_Declared):
    """The values of a text feature, in the order of their codes 0, 1, 2, …"""

    enum: Categories


class ClassVocabulary(_Declared):
    """The two to twenty values of a text label, in the order of the classes."""

    enum: Classes


class _Field(_Declared):
    name: Name
    title: str | None = None
    description: str | None = None
    confirm: Confirm = ()


class NumberFeature(_Field):
    """A number, encoded as one column in [-1, 1], clipped to its bounds.

    Attributes:
        transform: `log` spreads out the low end of a heavy-tailed number: log(1 + x - minimum).
        missing: `midpoint` puts a missing number in the middle of its bounds and says so in a
            column of its own; `drop` leaves out the row.
    """

    type: Literal["integer", "number"]
    role: Literal["feature"] = "feature"
    constraints: Bounds
    transform: Literal["log"] | None = None
    missing: Literal["refuse", "drop", "midpoint"] = "refuse"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        indicator = (f"{self.name}={MISSING}",) if self.missing == "midpoint" else ()
        return (self.name, *indicator)


class CategoryFeature(_Field):
    """A text of a known vocabulary, encoded as one ±1 column (two levels) or one-hot (more).

    Attributes:
        missing: `category` makes a missing text a level of its own; `drop` leaves out the row.
        other: whether a text beyond the vocabulary is a level of its own, or refused.
    """

    type: Literal["string"]
    role: Literal["feature"] = "feature"
    constraints: Vocabulary
    missing: Literal["refuse", "drop", "category"] = "refuse"
    other: bool = False

    @property
    def levels(self) -> tuple[str, ...]:
        """What a cell can be, in the order of the codes 0, 1, 2, …"""
        other = (OTHER,) if self.other else ()
        missing = (MISSING,) if self.missing == "category" else ()
        return (*self.constraints.enum, *other, *missing)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns; a ±1 column bears the name of the level that is +1."""
        named = self.levels[1:] if len(self.levels) == 2 else self.levels
        return tuple(f"{self.name}={level}" for level in named)

    @pydantic.model_validator(mode="after")
    def _levels_differ(self) -> Self:
        if repeated := _repeated(self.levels):
            raise ValueError(f"needs {_quoted(repeated)} for itself: rename it in the `enum`")
        return self


class NumberLabel(_Field):
    """A number to classify: class 1 is a value above the threshold, class 0 one at or below it."""

    type: Literal["integer", "number"]
    role: Literal["label"]
    threshold: Number
    missing: Literal["refuse", "drop"] = "refuse"

    @property
    def class_names(self) -> list[str]:
        """Such as `charges ≤ 15000` and `charges > 15000`."""
        return [f"{self.name} {sign} {self.threshold:.15g}" for sign in ("≤", ">")]


class CategoryLabel(_Field):
    """A text to predict: each value is a class, or `category` is class 1 and the rest class 0."""

    type: Literal["string"]
    role: Literal["label"]
    constraints: ClassVocabulary
    category: Category | None = None
    missing: Literal["refuse", "drop"] = "refuse"

    @property
    def class_names(self) -> list[str]:
        """The values themselves, or such as `income ≠ >50K` and `income = >50K`."""
        if self.category is None:
            return list(self.constraints.enum)
        return [f"{self.name} {sign} {self.category}" for sign in ("≠", "=")]

    @pydantic.model_validator(mode="after")
    def _category_is_a_value(self) -> Self:
        if self.category is not None and self.category not in self.constraints.enum:
            raise ValueError(
                f"has the `category` {self.category!r}, which should be one of its `enum`"
            )
        return self


class Id(_Field):
    """Whose row it is: never a feature. The split follows it.

    Attributes:
        repeated: what a second row of the same person means: a mistake, or that one of the rows is
            kept, chosen by a hash of each.
    """

    type: Literal["integer", "string"]
    role: Literal["id"]
    repeated: Literal["refuse", "keep one"] = "refuse"


class Ignored(_Field):
    """A column that is there and not read."""

    type: str | None = None
    role: Literal["ignored"]


_KINDS = {
    ("feature", "integer"): "number",
    ("feature", "number"): "number",
    ("feature", "string"): "category",
    ("label", "integer"): "number label",
    ("label", "number"): "number label",
    ("label", "string"): "category label",
    ("id", "integer"): "id",
    ("id", "string"): "id",
}
_NEEDS = {
    "number": 'A numeric feature (a field without `"role": "label"`) needs `constraints` with a '
    "`minimum` below a `maximum`, both known without looking at the rows.",
    "category": "A text feature needs `constraints` with an `enum` of two or more different "
    "texts, known without looking at the rows.",
    "number label": "A numeric label needs a `threshold`, class 1 being a value above it, and no "
    "`constraints`.",
    "category label": "A text label needs `constraints` with an `enum` of two to twenty different "
    "texts, the classes; with a `category`, that text is class 1 and the others are class 0.",
    "id": "An id has a `name`, a `type` and perhaps `repeated`.",
    "ignored": "An ignored column has a `name` and perhaps a `type`.",
}


def _kind(field: object) -> str | None:
    def get(key: str, default: object = None) -> object:
        return field.get(key, default) if isinstance(field, dict) else getattr(field, key, default)

    role = str(get("role", "feature"))
    return "ignored" if role == "ignored" else _KINDS.get((role, str(get("type"))))


Feature = NumberFeature | CategoryFeature
Label = NumberLabel | CategoryLabel
ReadField = Feature | Label | Id
Field = Annotated[
    Annotated[NumberFeature, Tag("number")]
    | Annotated[CategoryFeature, Tag("category")]
    | Annotated[NumberLabel, Tag("number label")]
    | Annotated[CategoryLabel, Tag("category label")]
    | Annotated[Id, Tag("id")]
    | Annotated[Ignored, Tag("ignored")],
    Discriminator(_kind),
]


class Dialect(_Declared):
    """How a CSV file is written (https://specs.frictionlessdata.io/csv-dialect/)."""

    delimiter: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e\t]$")] = ","


class Schema(_Declared):
    """The declared fields, in the file's order, which is the order of the encoded columns.

    Attributes:
        missing_values: cells that stand for a missing value.
        interactions: pairs of features whose encoded columns are also multiplied.
        report_by: categories for whose values the test figures are given apart.
    """

    fields: tuple[Field, ...]
    missing_values: tuple[str, ...] = pydantic.Field(("",), alias="missingValues")
    dialect: Dialect = Dialect()
    interactions: tuple[tuple[str, str], ...] = ()
    report_by: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and validate a schema file.

        Raises:
            UserError: the file is missing or no JSON, or a declaration in it is missing, unknown,
                contradictory or not enough to encode the table.
        """
        try:
            content = json.loads(
                Path(path).read_text("utf-8"), object_pairs_hook=_refuse_repeated_keys
            )
        except FileNotFoundError:
            raise UserError(
                f"{path}: no such file. `schema` in params.yaml should name the file that declares "
                "the table's columns: correct it, or write the file (the sample's is a model)."
            ) from None
        except OSError as error:
            raise UserError(f"{path}: expected a readable file, but: {error.strerror}.") from None
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: expected JSON in UTF-8, but: {error}. Mend the place it names."
            ) from None
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            raise UserError("\n".join(_explanations(path, content, error))) from None

    def to_json(self) -> str:
        """The schema as text that `load` reads back as an equal schema."""
        return self.model_dump_json(indent=2, exclude_unset=True, by_alias=True) + "\n"

    @property
    def read_fields(self) -> tuple[ReadField, ...]:
        """The fields that are read: all but the ignored ones."""
        return tuple(field for field in self.fields if not isinstance(field, Ignored))

    @property
    def features(self) -> tuple[Feature, ...]:
        """The fields that are encoded as the model's inputs."""
        return tuple(field for field in self.fields if isinstance(field, Feature))

    @property
    def label(self) -> Label:
        """The one field to predict."""
        return next(field for field in self.fields if isinstance(field, Label))

    @property
    def id(self) -> Id | None:
        """The field that says whose row it is, if there is one."""
        return next((field for field in self.fields if isinstance(field, Id)), None)

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
    def class_names(self) -> list[str]:
        """Names of class 0, class 1, …, such as `charges ≤ 15000` and `charges > 15000`."""
        return self.label.class_names

    def levels(self, name: str) -> tuple[str, ...]:
        """Return the levels of the category called `name`."""
        feature, _ = self.feature(name)
        return feature.levels if isinstance(feature, CategoryFeature) else ()

    def feature(self, name: str) -> tuple[Feature, slice]:
        """Return the feature called `name` and where its encoded columns are."""
        start = 0
        for feature in self.features:
            end = start + len(feature.columns)
            if feature.name == name:
                return feature, slice(start, end)
            start = end
        raise KeyError(name)

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Self:
        if repeated := _repeated([field.name for field in self.fields]):
            raise ValueError(
                f"each column should be declared once, but {_quoted(repeated)} is declared again. "
                "Remove or rename one of them"
            )
        labels = [field.name for field in self.fields if isinstance(field, Label)]
        if len(labels) != 1:
            raise ValueError(
                'one field should have `"role": "label"`, but '
                + (f"{_quoted(labels)} have it" if labels else "none has it")
                + ". Mark the one that is to be predicted"
            )
        if not self.features:
            raise ValueError(
                "at least one feature is needed to predict the label from, but there is none. "
                "Declare the other columns"
            )
        ids = [field.name for field in self.fields if isinstance(field, Id)]
        if len(ids) > 1:
            raise ValueError(
                f'one field at most should have `"role": "id"`, but {_quoted(ids)} have it'
            )
        return self

    @pydantic.model_validator(mode="after")
    def _names_features(self) -> Self:
        names = {field.name for field in self.features}
        for pair in self.interactions:
            if unknown := [name for name in pair if name not in names]:
                raise ValueError(
                    f"`interactions` should be pairs of two features: {_quoted(unknown)} is none"
                )
            if pair[0] == pair[1]:
                raise ValueError(
                    f"`interactions` should be pairs of two features: {_quoted(pair)} is one"
                )
        groups = {field.name for field in self.features if isinstance(field, CategoryFeature)}
        if unknown := [name for name in self.report_by if name not in groups]:
            raise ValueError(
                f"`report_by` should name features with an `enum`, but {_quoted(unknown)} is none"
            )
        if repeated := _repeated([*self.report_by]):
            raise ValueError(f"`report_by` repeats {_quoted(repeated)}")
        return self

    @pydantic.model_validator(mode="after")
    def _missing_is_no_value(self) -> Self:
        for field in self.fields:
            if isinstance(field, CategoryFeature | CategoryLabel) and (
                both := set(field.constraints.enum) & set(self.missing_values)
            ):
                raise ValueError(
                    f"{_quoted(sorted(both))} is in `missingValues` and in the `enum` of "
                    f"`{field.name}`: a cell cannot be both. Remove one"
                )
        return self


def _explanations(path: str | Path, content: Any, error: pydantic.ValidationError) -> list[str]:
    return [f"{path}: {_explanation(content, dict(detail))}" for detail in error.errors()]


def _explanation(content: Any, detail: dict[str, Any]) -> str:
    match detail["loc"]:
        case ("fields", int(index)):
            return (
                f"{_called(content, index)}: expected `role` feature or label with `type` integer, "
                "number or string, `role` id with `type` integer or string, or `role` ignored, but "
                f"found {_role_and_type(detail['input'])}. Correct them."
            )
        case ("fields", int(index), str(kind), *keys):
            return f"{_called(content, index)}: {_problem(keys, detail)}. {_NEEDS[kind]}"
        case keys:
            return f"{_problem(list(keys), detail)}."


def _called(content: Any, index: int) -> str:
    field = content["fields"][index]
    name = field.get("name") if isinstance(field, dict) else None
    return f"field `{name}`" if name else f"field number {index + 1}"


def _role_and_type(field: object) -> str:
    if not isinstance(field, dict):
        return reprlib.repr(field)
    return f"`role` {field.get('role', 'feature')} with `type` {field.get('type', 'missing')}"


# What pydantic calls by its Python name.
_EXPECTED = {
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text in quotes",
    "string_too_short": "a text of one character or more",
    "tuple_type": "a list",
    "model_type": "an object in braces",
}


def _problem(keys: Sequence[str | int], detail: dict[str, Any]) -> str:
    key = "`" + ".".join(str(part) for part in keys) + "` " if keys else ""
    match detail["type"]:
        case "missing":
            return f"{key}is missing"
        case "extra_forbidden":
            return f"{key}is not understood here: {_remedy(str(keys[-1]))}"
        case "value_error":
            return f"{key}{detail['msg'].removeprefix('Value error, ')}"
        case _:
            expected = _EXPECTED.get(detail["type"]) or f"otherwise ({detail['msg']})"
            return f"{key}should be {expected}, but is {reprlib.repr(detail['input'])}"


def _remedy(unknown: str) -> str:
    models: list[type[BaseModel]] = [Schema, Dialect, Bounds, Vocabulary, NumberFeature]
    models += [CategoryFeature, NumberLabel, CategoryLabel, Id]
    keys = (field.alias or key for model in models for key, field in model.model_fields.items())
    known = {*keys} - {unknown}
    near = difflib.get_close_matches(unknown, known, n=1)
    return f"perhaps `{near[0]}` is meant" if near else "remove the key"


def _repeated(values: Sequence[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def _quoted(values: Sequence[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON readers keep the last of two equal keys, which would change a bound in silence.
    if repeated := _repeated([key for key, _ in pairs]):
        raise ValueError(f"{_quoted(repeated)} is given twice in one place")
    return dict(pairs)
