"""The ledger as it travels with commits: metrics/runs.json has every run that it knew of.

So who has the file knows of runs whose own metrics are nowhere any more, or never left the clone
that made them: in a branch that was squashed, in an experiment that nobody pushed. It is for the
private repository alone.
"""

from stages.books.names import seen_from_here
from stages.books.people import AWAITED, SEEN, Entry
from stages.books.rebuild import open_ledger
from stages.books.records import Known, PublicSpend, Table
from stages.books.told import RUNS
from stages.files import write_json


def write_runs() -> None:
    """Write down all that the ledger has, but for what is still to come."""
    entries = open_ledger().entries()
    seen = {entry.run.removesuffix(SEEN) for entry in entries if entry.run.endswith(SEEN)}
    told = [one for one in entries if one.run not in seen and not _is_to_come(one)]
    write_json(RUNS, {"runs": [_known(entry).model_dump(mode="json") for entry in told]})


def _is_to_come(entry: Entry) -> bool:
    """Whether it is a part that is reserved with its run, or a tuning that goes on.

    They tell of themselves then; the trials of a tuning that dies count one by one.
    """
    return f"-{AWAITED}-" in entry.run or entry.is_open_tuning


def _known(entry: Entry) -> Known:
    read = Table.of(entry.spend)
    return Known(
        run=entry.run,
        spend=PublicSpend(**entry.spend.public()),
        read=read.model_copy(update={"data": seen_from_here(read.data)}),
        past=tuple(sorted(entry.past)),
        struck=entry.struck,
    )
