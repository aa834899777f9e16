"""What may not leave the building."""

from pathlib import Path

from stages.books.rebuild import SHALLOW, open_ledger
from stages.books.store import Entry
from stages.errors import UserError
from stages.reporting.run import Run
from stages.reporting.verify import mixtures
from stages.training.monitors import MONITORS
from stages.versions import is_shallow


def refuse_unpublishable(run: Run, model: Path, budget: float | None) -> float:
    """Return ε of all that is on record about these people, this run included.

    Args:
        run: what would leave.
        model: the folder of its model.
        budget: what that ε may be at most, if it is capped.

    Raises:
        UserError: the run is a simulation, has exact metrics, did not pass its monitors, is not on
            record or over budget, or its files are of different runs.
    """
    if run.no_guarantee:
        raise _refusal(
            f"{run.no_guarantee}, so ε does not cover this run. Empty `simulation_seed`, set "
            "`exact_metrics: false` and run: dvc repro"
        )
    if missing := {*MONITORS} - {*run.train.monitors_passed}:
        raise _refusal(
            "metrics/train.json does not say that these monitors passed: "
            f"{', '.join(sorted(missing))}. Train again with: dvc repro --force train"
        )
    if mixed := list(mixtures(run, model)):
        raise _refusal(
            f"{'; '.join(mixed)}. These are of different runs; bring them back together with: "
            "dvc checkout and git restore metrics plots, or dvc repro"
        )
    if is_shallow():
        raise _refusal(SHALLOW)
    ledger = open_ledger()
    own, *_ = _own_entries(run, ledger.entries())
    total = ledger.total(own.spend)
    if budget is not None and total > budget:
        raise _refusal(
            f"ε of all runs on this table is {total:.3f}, above `privacy_budget` {budget:g}. Raise "
            "`privacy_budget` in params.yaml, or see where it went with: python -m stages.ledger"
        )
    return total


def _own_entries(run: Run, entries: list[Entry]) -> list[Entry]:
    """Return what a complete ledger has of the run, which has to be what the run tells."""
    known = {entry.run: entry for entry in entries}
    records = (run.train.record, *run.test.ledger)
    own = [known[str(record.run)] for record in records]
    for entry, record in zip(own, records, strict=True):
        if entry.struck is not None or entry.spend.public() != record.spend.model_dump():
            raise _refusal(
                f"the ledger's entry of {record.run} was struck, or tells of another mechanism "
                "than metrics/. Train again with: dvc repro"
            )
    return own


def _refusal(why: str) -> UserError:
    return UserError(f"nothing was published: {why}")
