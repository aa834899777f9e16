"""The public description of the table: columns, bounds and vocabularies, declared by hand.

The file follows the Table Schema standard (https://specs.frictionlessdata.io/table-schema/) with
two keys of our own: `role` and `threshold`. Everything the encoding needs is in it, so nothing of
the encoding is learned from private rows.
"""

import difflib
import json
import math
import reprlib
from collections import Counter
from collections.abc import Sequence
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


Number = Annotated[float, pydantic.Field(strict=True, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1)]
Category = Annotated[str, AfterValidator(_not_blank)]
Categories = Annotated[tuple[Category, ...], AfterValidator(_several_different)]


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


class _Field(_Declared):
    name: Name
    title: str | None = None
    description: str | None = None


class NumberFeature(_Field):
    """A number, encoded as one column in [-1, 1]."""

    type: Literal["integer", "number"]
    role: Literal["feature"] = "feature"
    constraints: Bounds

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        return (self.name,)


class CategoryFeature(_Field):
    """A text of a known vocabulary, encoded as one ±1 column (two values) or one-hot (more)."""

    type: Literal["string"]
    role: Literal["feature"] = "feature"
    constraints: Vocabulary

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns; a ±1 column bears the name of the value that is +1."""
        enum = self.constraints.enum
        return tuple(f"{self.name}={value}" for value in (enum[1:] if len(enum) == 2 else enum))


class Label(_Field):
    """A number to classify: class 1 is a value above the threshold, class 0 one at or below it."""

    type: Literal["integer", "number"]
    role: Literal["label"]
    threshold: Number


_KINDS = {
    ("feature", "integer"): "number",
    ("feature", "number"): "number",
    ("feature", "string"): "category",
    ("label", "integer"): "label",
    ("label", "number"): "label",
}
_NEEDS = {
    "number": 'A numeric feature (a field without `"role": "label"`) needs `constraints` with a '
    "`minimum` below a `maximum`, both known without looking at the rows.",
    "category": "A text feature needs `constraints` with an `enum` of two or more different "
    "texts, known without looking at the rows.",
    "label": "A label needs a `threshold`, class 1 being a value above it, and no `constraints`.",
}


def _kind(field: object) -> str | None:
    def get(key: str, default: object = None) -> object:
        return field.get(key, default) if isinstance(field, dict) else getattr(field, key, default)

    return _KINDS.get((str(get("role", "feature")), str(get("type"))))


Feature = NumberFeature | CategoryFeature
Field = Annotated[
    Annotated[NumberFeature, Tag("number")]
    | Annotated[CategoryFeature, Tag("category")]
    | Annotated[Label, Tag("label")],
    Discriminator(_kind),
]


class Schema(_Declared):
    """The declared fields, in the file's order, which is the order of the encoded columns."""

    fields: tuple[Field, ...]

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
        except ValueError as error:
            raise UserError(
                f"{path}: expected JSON in UTF-8, but: {error}. Mend the place it names."
            ) from None
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            raise UserError("\n".join(_explanations(path, content, error))) from None

    def to_json(self) -> str:
        """The schema as text that `load` reads back as an equal schema."""
        return self.model_dump_json(indent=2, exclude_unset=True) + "\n"

    @property
    def features(self) -> tuple[Feature, ...]:
        """The fields that are encoded as the model's inputs."""
        return tuple(field for field in self.fields if not isinstance(field, Label))

    @property
    def label(self) -> Label:
        """The one field to predict."""
        return next(field for field in self.fields if isinstance(field, Label))

    @property
    def feature_names(self) -> list[str]:
        """Names of the encoded columns, such as `age`, `sex=male`, `region=northeast`."""
        return [column for feature in self.features for column in feature.columns]

    @property
    def class_names(self) -> list[str]:
        """Names of class 0 and class 1, such as `charges ≤ 15000` and `charges > 15000`."""
        label = self.label
        return [f"{label.name} {sign} {label.threshold:.15g}" for sign in ("≤", ">")]

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
                "at least one feature is needed to predict the label from, but the label is the "
                "only field. Declare the other columns"
            )
        return self


def _explanations(path: str | Path, content: Any, error: pydantic.ValidationError) -> list[str]:
    return [f"{path}: {_explanation(content, dict(detail))}" for detail in error.errors()]


def _explanation(content: Any, detail: dict[str, Any]) -> str:
    match detail["loc"]:
        case ("fields", int(index)):
            return (
                f"{_called(content, index)}: expected `role` feature with `type` integer, number "
                "or string, or `role` label with `type` integer or number, but found "
                f"{_role_and_type(detail['input'])}. Correct them."
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
    models = (Schema, NumberFeature, CategoryFeature, Label, Bounds, Vocabulary)
    known = {key for model in models for key in model.model_fields} - {unknown}
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
