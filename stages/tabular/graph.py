"""A computation written down instead of carried out, in the operators of ONNX.

ONNX (https://onnx.ai/onnx/operators/) is what runtimes of many languages understand. Values go by
name; `stages/model/portable.py` makes a file of what is written down here.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Node(NamedTuple):
    """One operator: its name, the set of operators it is of, its attributes, what it reads."""

    operator: str
    domain: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class Graph:
    """Operators in the order of their calls.

    Attributes:
        inputs: the type of each input column, float or str, by name.
        constants: by name.
        nodes: the operators.
    """

    def __init__(self, columns: Collection[str]) -> None:
        """Begin a graph in which no value but the input of that name is called like a column."""
        self.inputs: dict[str, type] = {}
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self.nodes: list[Node] = []
        self._taken = set(columns)

    def column(self, name: str, kind: type) -> str:
        """Take a raw column, (rows, 1) of float or str, as an input."""
        self.inputs[name] = kind
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: Any = np.float64) -> str:
        """Write down an array; an equal one of that name is there once."""
        array = np.array(value, dtype)
        known = self.constants.get(name)
        # By their bytes, as NaN does not equal itself.
        if known is not None and (known.shape, known.tobytes()) == (array.shape, array.tobytes()):
            return name
        name = self.free(name)
        self.constants[name] = array
        return name

    def call(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Write down an operator; return the name of what comes out."""
        output = self.free(f"{operator}_{len(self.nodes)}")
        self.nodes.append(Node(operator, domain, inputs, output, attributes))
        return output

    def where(self, condition: str, yes: float, no: float | str) -> str:
        """Write down a choice between numbers, or a number and a value, in single precision."""
        choices = (
            each if isinstance(each, str) else self.constant(f"single {each:g}", each, np.float32)
            for each in (yes, no)
        )
        return self.call("Where", condition, *choices)

    def refuse(self, encoded: str, refused: str) -> str:
        """Write down that encoded columns are NaN where a row is refused, (rows, 1) bool."""
        return self.where(refused, np.nan, encoded)

    def with_number(self, operator: str, value: str, number: float) -> str:
        """Write down an operator between doubles and a number."""
        return self.call(operator, value, self.constant(f"{number:.17g}", number))

    def parts_of(self, value: str, size: float) -> str:
        """Write down how many whole times `size` is in doubles."""
        return self.call("Floor", self.with_number("Div", value, size))

    def remainder(self, value: str, size: float) -> str:
        """Write down what of doubles is left over then."""
        whole = self.with_number("Mul", self.parts_of(value, size), size)
        return self.call("Sub", value, whole)

    def has_parts(self, numbers: str) -> str:
        """Write down whether each number is more than a whole one; NaN is not."""
        return self.call("Less", self.call("Floor", numbers), numbers)

    def free(self, name: str) -> str:
        """Return the name, or one like it that nothing has yet, and take it."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name
