"""The faults as a page for people: `python -m tests.faults.readme` writes README.md."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.faults.test_faults import FAULTS

README = Path(__file__).with_name("README.md")

HEAD = """\
# What real projects get wrong, and what catches it here

Each of these faults is planted by a test in [test_faults.py](test_faults.py), which sees it caught.
What catches it in "every run" would also catch it in yours. "Replay" runs everything but noise and
sampling on a table with and without one row, and compares ([replay.py](replay.py)).

This page is written from `FAULTS` in test_faults.py by `python -m tests.faults.readme`.
"""


def page(faults: Mapping[str, tuple[str, str]]) -> str:
    """Return the page in Markdown; `faults` gives how each is committed and what catches it."""
    return "\n".join([HEAD, *_table(faults), ""])


def _table(faults: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield "| fault | how real projects commit it | what catches it here |"
    yield "| --- | --- | --- |"
    for name, (committed, caught) in faults.items():
        yield f"| {name} | {committed} | {caught} |"


if __name__ == "__main__":
    README.write_text(page(FAULTS))
