"""Search what is about to leave the building for values of private rows.

What a text can hold of a row is looked for as text: whole rows, and numbers of six or more digits,
which nobody shares by chance. Shorter ones, categories and ages, are everybody's; what they tell of
a single row only the guarantee can hide.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]*\w)")
TELLING_DIGITS = 6

# A table with a leak has many, and a message needs few.
MOST_SHOWN = 5


def leaks(folder: Path, data: Path, public: Path) -> list[str]:
    """Return what the files in `folder` hold of the rows of a CSV file: column, line and file.

    Args:
        folder: what is about to leave.
        data: the private table.
        public: a file of numbers that are public though they may be in the table as well.
    """
    known = set(_telling(public.read_text("utf-8")))
    numbers: dict[float, Path] = {}
    lines: dict[str, Path] = {}
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        text = path.read_bytes().decode("utf-8", errors="replace")
        numbers |= {number: path for number in _telling(text) if number not in known}
        lines |= {line.strip(): path for line in text.splitlines()}
    found = []
    with data.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        for row in reader:
            found += [
                f"{what} in line {reader.line_num} is in {path.relative_to(folder)}"
                for what, path in _matches(header, row, numbers, lines)
            ]
            if len(found) >= MOST_SHOWN:
                break
    return found


def _matches(
    header: list[str], row: list[str], numbers: dict[float, Path], lines: dict[str, Path]
) -> Iterator[tuple[str, Path]]:
    if (line := ",".join(row)) in lines:
        yield "the row", lines[line]
    for name, cell in zip(header, row, strict=True):
        for number in _telling(cell):
            if number in numbers:
                yield f"`{name}`", numbers[number]


def _telling(text: str) -> Iterator[float]:
    """Yield the numbers of a text that have enough digits to tell whose they are."""
    for written in NUMBER.findall(text):
        digits = re.sub(r"[eE].*|[-.]", "", written).strip("0")
        if len(digits) >= TELLING_DIGITS:
            yield float(written)
