"""The kinds of field. A new kind is a class in a module of this folder, and a name in `KINDS`."""

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Discriminator, GetPydanticSchema, Tag

from stages.tabular.fields.base import Feature, Field, Label, Misfit, ReadField
from stages.tabular.fields.boolean import BooleanFeature, BooleanLabel
from stages.tabular.fields.category import CategoryFeature, CategoryLabel
from stages.tabular.fields.date import DateFeature, DateReference
from stages.tabular.fields.number import NumberFeature, NumberLabel
from stages.tabular.fields.unfed import Id, Ignored

__all__ = ["KINDS", "AnyField", "Feature", "Field", "Id", "Label", "Misfit", "ReadField", "choices"]

KINDS: dict[str, type[Field]] = {
    kind.__name__: kind
    for kind in (
        *(BooleanFeature, DateFeature, NumberFeature, CategoryFeature),
        *(BooleanLabel, NumberLabel, CategoryLabel),
        *(DateReference, Id, Ignored),
    )
}


def choices(kind: type[Field], key: str) -> tuple[str, ...]:
    """Return the values that a key of the kind can have; () if it can have any."""
    annotation = kind.model_fields[key].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _kind_of(field: object) -> str | None:
    """Name the kind of what a schema file declares, or of a field that was read from one."""
    if isinstance(field, Field):
        return type(field).__name__
    if not isinstance(field, dict):
        return None
    for name, kind in KINDS.items():
        left_out = {key: kind.model_fields[key].default for key in ("role", "type")}
        declared = {key: field.get(key, value) for key, value in left_out.items()}
        if all(value in (choices(kind, key) or (value,)) for key, value in declared.items()):
            return name
    return None


_union: Any = reduce(or_, (Annotated[kind, Tag(name)] for name, kind in KINDS.items()))
# A field of one of the kinds: its role and type decide which.
AnyField = Annotated[
    Field,
    GetPydanticSchema(lambda _, handler: handler(Annotated[_union, Discriminator(_kind_of)])),
]
