"""The words of our messages about what a file declares, such as what pydantic found wrong."""

import difflib
import re
import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

# What pydantic calls by its Python name.
_PLAIN = {
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "string_type": "should be a text in quotes",
    "string_too_short": "should be a text of one character or more",
    "path_type": "should be the path of a file",
    "tuple_type": "should be a list",
    "model_type": "should be an object in braces",
}


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong; as text, a clause without a full stop.

    Attributes:
        type: pydantic's name for it, such as `missing`.
        place: the keys and positions that lead to it from the outside.
        problem: what is wrong with what is there.
        seen: what is there; empty where `problem` says it.
    """

    type: str
    place: tuple[int | str, ...]
    problem: str
    seen: str

    def __str__(self) -> str:
        """Such as "`constraints.minimum` should be a number, but is '18'"."""
        where = "`" + ".".join(map(str, self.place)) + "` " if self.place else ""
        return f"{where}{self.problem}{self.seen}"


def mistakes(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Return what is wrong with the input of a model, every mistake of it."""
    found = []
    for detail in error.errors():
        problem, seen = detail["msg"], ""
        match detail["type"]:
            case "missing":
                problem = "is missing"
            case "extra_forbidden":
                problem = f"is not understood here: {_remedy(str(detail['loc'][-1]), model)}"
            case "value_error":  # one of our own validators, which say it all
                problem = problem.removeprefix("Value error, ")
            case kind:
                problem = _PLAIN.get(kind) or re.sub(r"^\w+ should ", "should ", problem)
                seen = f", but is {reprlib.repr(detail['input'])}"
        found.append(Mistake(detail["type"], detail["loc"], problem, seen))
    return found


def _remedy(unknown: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    known = {key for part in parts for key in part.get("properties", {})} - {unknown}
    near = difflib.get_close_matches(unknown, known, n=1)
    return f"perhaps `{near[0]}` is meant" if near else "remove it"


def repeated(values: Sequence[str]) -> list[str]:
    """Return the values that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]


def quoted(values: Sequence[str]) -> str:
    """Return the values as a message names them."""
    return ", ".join(f"`{value}`" for value in values)
