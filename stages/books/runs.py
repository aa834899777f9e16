"""The ledger as it travels with commits: metrics/runs.jsonl has every run that it knew of.

So who has the file knows of runs whose own metrics are nowhere any more, or never left the clone
that made them: in a branch that was squashed, in an experiment that nobody pushed. It is for the
private repository alone. Each run has a line, so that what Git merges has the lines of both sides
(`merge=union` in .gitattributes): all of them, as no edition of the file shares a line with another
that it has more or less than. Git would leave out what one side never had, as where a commit is
picked from others.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from stages.books.names import portable
from stages.books.people import Entry
from stages.books.rebuild import open_ledger
from stages.books.records import Known, PublicSpend, Table
from stages.books.told import RUNS, noted_in_workspace, runs_in_workspace
from stages.cache import autostages
from stages.files import write_text
from stages.versions.git import git, repository


def write_runs() -> None:
    """Write down all that the ledger has, but for what is still to come.

    Where DVC lets the next commit take dvc.lock along, that takes this along as well: nobody may
    learn of a run, by whatever else is committed of it, without learning of its ε. In a copy of the
    repository, in which DVC runs an experiment, DVC commits all that is tracked.
    """
    ledger = open_ledger()
    ledger.note_metrics(noted_in_workspace())
    noted = sorted(ledger.metrics())
    told = [_known(one, noted) for one in ledger.entries() if not _is_to_come(one)]
    edition = hashlib.sha256(_lines(told).encode()).hexdigest()[:8]
    write_text(RUNS, _lines([one.model_copy(update={"edition": edition}) for one in told]))
    if autostages() and repository() == Path.cwd():
        git("add", "--", RUNS)


def _lines(told: Sequence[Known]) -> str:
    return "".join(f"{one.model_dump_json()}\n" for one in told)


def untold(entries: Sequence[Entry]) -> str:
    """Return a paragraph on what the file lacks of the ledger, if it lacks anything.

    As after `dvc exp apply`, which brings the file of when that experiment ran.
    """
    told = runs_in_workspace()
    lacking = sum(not _is_to_come(entry) and entry.run not in told for entry in entries)
    if not lacking:
        return ""
    return (
        f"\n{RUNS}, in which commits take the ledger along, lacks {lacking} of these entries. "
        "Before you push, write them, at no ε: dvc repro --force --single-item plot\n"
    )


def _is_to_come(entry: Entry) -> bool:
    """Whether it is a part that is reserved with its run, or a tuning that goes on.

    They tell of themselves then; the trials of a tuning that dies count one by one.
    """
    return entry.is_part or entry.is_open_tuning


def _known(entry: Entry, noted: Sequence[tuple[str, str]]) -> Known:
    read = Table.of(entry.spend)
    return Known(
        run=entry.run,
        spend=PublicSpend(**entry.spend.public()),
        read=read.model_copy(update={"data": portable(read.data)}),
        past=tuple(sorted(entry.past)),
        struck=entry.struck,
        metrics=tuple(digest for digest, run in noted if run == entry.run),
    )
