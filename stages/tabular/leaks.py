"""Search what is about to leave the building for values of private rows.

What a text can hold of a row is looked for as text: whole rows, numbers of six or more digits, and
other texts of six or more characters that the schema does not declare, such as names and ids.
Shorter ones, categories and ages, are everybody's; what they tell of a single row only the
guarantee can hide.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from stages.tabular.reader import read_rows
from stages.tabular.schema import Schema

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]*\w)")
LIKE_A_NUMBER = re.compile(r"[-+.\d]+(?:[eE][-+]?\d+)?")
# What may stand around a text in CSV, JSON, YAML, Markdown and HTML, or around a word of prose.
BORDERS = re.compile(r"""[",;|<>\n\t]|: | - """)
TELLING_LENGTH = 6

# Where the report's own words stand, which are nobody's.
REPORT = Path(__file__).parents[1] / "reporting"

# A table with a leak has many, and a message needs few.
MOST_SHOWN = 5


def leaks(folder: Path, data: Path, schema_file: Path) -> list[str]:
    """Return what the files in `folder` hold of the rows of the private table.

    Args:
        folder: what is about to leave.
        data: the private table.
        schema_file: its schema, which is public, as is every number and text in it.

    Returns:
        Column, row (the first is row 1) and file of the first few; never the values.
    """
    known: set[object] = set()
    for public in (schema_file, *REPORT.rglob("*.*")):
        text = public.read_bytes().decode("utf-8", errors="replace")
        known |= {*_numbers(text), *_texts(text)}
    held: dict[object, Path] = {}
    lines: dict[str, Path] = {}
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        text = path.read_bytes().decode("utf-8", errors="replace")
        held |= dict.fromkeys({*_numbers(text), *_texts(text)} - known, path)
        lines |= {line.strip(): path for line in text.splitlines()}
    found: list[str] = []
    for number, row in enumerate(read_rows(data, Schema.load(schema_file)), start=1):
        for what, path in _matches(row, held, lines):
            found.append(f"{what} in row {number} is in {path.relative_to(folder)}")
        if len(found) >= MOST_SHOWN:
            break
    return found


def _matches(
    row: Mapping[str, str], held: Mapping[object, Path], lines: Mapping[str, Path]
) -> Iterator[tuple[str, Path]]:
    for delimiter in ",;\t|":
        if (line := delimiter.join(row.values())) in lines and len(row) > 1:
            yield "the whole row", lines[line]
    for name, cell in row.items():
        for value in (*_numbers(cell), *_telling(cell)):
            if value in held:
                yield f"`{name}`", held[value]
                break


def _telling(cell: str) -> Iterator[str]:
    """Yield what tells of a cell: all of it, and those of its words that have a digit in them."""
    for text in _texts(cell):
        if text == cell.strip() or any(character.isdigit() for character in text):
            yield text


def _numbers(text: str) -> Iterator[float]:
    """Yield the numbers of a text that have enough digits to tell whose they are."""
    for written in NUMBER.findall(text):
        digits = re.sub(r"[eE].*|[-.]", "", written).strip("0")
        if len(digits) >= TELLING_LENGTH:
            yield float(written)


def _texts(text: str) -> Iterator[str]:
    """Yield the parts and words, but no numbers, that are long enough to tell whose they are."""
    for piece in BORDERS.split(text):
        for part in {piece, *piece.split()}:
            stripped = part.strip(" .'()[]{}")
            if len(stripped) >= TELLING_LENGTH and not LIKE_A_NUMBER.fullmatch(stripped):
                yield stripped
