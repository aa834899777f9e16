"""The ledger knows every run that is on record anywhere, without being told."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stages.books.home import home, neighbour
from stages.books.lost import lost_runs
from stages.books.names import united
from stages.books.on_record import NOWHERE, Found, on_record, spend_of
from stages.books.people import SEEN, UNKNOWN
from stages.books.records import Record
from stages.books.store import FILE_NAME, Ledger
from stages.books.told import METRICS, RUN_CACHE, noted_anywhere, runs_of_models
from stages.books.tunings import close_dead
from stages.cache import forget_run
from stages.errors import GO_BACK, UserError
from stages.versions.commits import hidden_past
from stages.versions.files import HERE, WORKSPACE, places_with, short
from stages.versions.git import git, repository


def open_ledger() -> Ledger:
    """Return the repository's ledger with every run that is on record anywhere in it."""
    ledger = own_ledger()
    if added := rebuild(ledger):
        print(f"privacy ledger: entered {added} runs that commits and experiments tell of")
    for tuning in close_dead(ledger):
        print(f"privacy ledger: {tuning} died without an end; its trials count in full")
    if why := hidden_past():
        print(f"privacy ledger: {why}", file=sys.stderr)
    ledger.hidden = why
    ledger.note_metrics(noted_anywhere())
    ledger.lost = lost_runs([digest for digest, _ in ledger.metrics()])
    return ledger


def own_ledger() -> Ledger:
    """Return the repository's ledger as it is, made if there is none.

    Raises:
        UserError: one lies where the project was before it was moved, or Git has put it away. Runs
            that no commit tells of are in it alone.
    """
    path = home() / FILE_NAME
    if not path.exists():
        _refuse_one_put_away(path)
        _refuse_one_left_behind(path)
    return Ledger(path)


def _refuse_one_put_away(path: Path) -> None:
    put_away = [place for place in places_with(FILE_NAME) if neighbour(place.folder) is None]
    if put_away:
        commit, folder = put_away[-1]
        top = "" if folder == HERE else ":/"
        # With what SQLite may have left beside it.
        files = f"'{top}{folder}{FILE_NAME}*'"
        raise UserError(
            f"{path}: no such file, but {short(commit)} has the ledger, as `git stash --all` puts "
            "it away with all that Git ignores. Runs that no commit tells of are in it alone. "
            f"Bring it back with: git stash pop, or in {path.parent} with: "
            f"git restore --source={commit} {files}"
        )


def _refuse_one_left_behind(path: Path) -> None:
    elsewhere = {place.folder for place in places_with(*METRICS)} - {HERE}
    for folder in sorted(elsewhere):
        left = home(folder) / FILE_NAME
        if left.exists() and neighbour(folder) is None:
            mend = f"Move it along, so that no run is forgotten: mv {left} {path}"
            if path.parent != repository().resolve():  # in a linked worktree
                link = f"mkdir -p {path.parent} && ln -s {left} {path}"
                mend = f"The main worktree has the project there, so link to it: {link}"
            raise UserError(f"{left}: the ledger of this project, which was moved. {mend}")


def strike(number: int, reason: str) -> None:
    """Let an entry of the ledger no longer count, and DVC not bring its run back.

    Raises:
        UserError: it may not be struck, see `Ledger.strike`; or plots may be left of it.
    """
    ledger = open_ledger()
    _refuse_plots_alone()
    known = {entry.run: entry.experiment for entry in ledger.entries()}
    found = [*on_record(known, struck=known)]
    places = {run: one.commit for run, one in found if one.commit != RUN_CACHE}
    shown = {run: short(where) for run, where in (places | runs_of_models()).items()}
    for run in ledger.strike(number, reason, shown):
        forget_run(run, *METRICS)


def _refuse_plots_alone() -> None:
    """Stop where plots are of some run and the last commit's metrics beside them of another."""

    def changed(*paths: str) -> bool:
        return bool(git("status", "--porcelain", "--untracked-files=all", "--", *paths))

    if changed("plots/training.csv", "plots/test_counts.csv") and not changed(*METRICS):
        raise UserError(
            "plots/ is not as the last commit has it, and metrics/ is, so something may be left of "
            f"the run. Go back first: {GO_BACK}"
        )


def rebuild(ledger: Ledger) -> int:
    """Enter every run that is on record and missing; return how many.

    A run is on record where its metrics are, and in those of whatever was made from it. What only
    the latter tell of is asked last, and counts as about rows that no other run has read. And what
    another ledger knew is known here, be it that it was struck.
    """
    is_old, entries = ledger.is_old, ledger.entries()
    # What read an unknown table may be told of by now together with that.
    sure = [] if is_old else [one for one in entries if not one.is_of_anybody or one.struck]
    known = {entry.run: entry.experiment for entry in sure}
    struck = {entry.run for entry in entries if entry.struck is not None}
    missing = _missing(known, struck)
    counted = {run for run in known if run not in struck}
    counted |= {run for run, one in missing.items() if one.struck is None}
    added = sum(
        ledger.enter_past(
            found.spend,
            f"{run}{SEEN}" if run in struck else run,
            found.commit,
            found.past,
            found.trial,
            found.struck,
        )
        for run, found in missing.items()
        # What was seen again elsewhere counts once, where nobody had struck it.
        if not (run.endswith(SEEN) and run.removesuffix(SEEN) in counted)
    )
    if is_old:
        ledger.mark_whole()
    return added


def _missing(known: Mapping[str, str | None], struck: Collection[str]) -> dict[str, Found]:
    """Return what is on record and not known, or struck, by its run."""
    missing: dict[str, Found] = {}
    for run, found in on_record(known, struck):
        had = missing.get(run)
        if had is None:
            missing[run] = found
        elif (found.elsewhere or had.spend.split == UNKNOWN) and found.spend.split != UNKNOWN:
            # Another ledger may know more names of its table; but what can be seen counts.
            names = [one.spend.data for one in (had, found) if one.spend.data != UNKNOWN]
            spend = replace(found.spend, data=united(*names))
            missing[run] = had._replace(spend=spend, past=had.past | found.past)
    return missing


def enter_missing(ledger: Ledger, releases: Sequence[Record]) -> None:
    """Enter what a model says that it was made from, where that is on record nowhere else."""
    known = {entry.run for entry in ledger.entries()}
    for one in releases:
        if one.run is not None and one.run not in known:
            ledger.enter_past(spend_of(one, NOWHERE), one.run, WORKSPACE)
