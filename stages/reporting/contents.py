"""What a bundle holds, by its place there."""

import hashlib
from pathlib import Path

from stages.evaluation.result import EvaluateResult
from stages.model.files import CONTENTS, SUMS
from stages.reporting.drawings import PICTURES
from stages.reporting.statement import FILE_NAME
from stages.training.result import TrainResult

TABLES = ("plots/attack.csv", "plots/subgroups.csv", "plots/test_counts.csv", "plots/training.csv")

# All but the statement, which tells the hashes of these.
EXPECTED = (
    *(f"model/{name}" for name in (*CONTENTS, SUMS)),
    *(str(result.path) for result in (TrainResult, EvaluateResult)),
    *TABLES,
    *(f"plots/{name}.csv" for name in ("confusion", "privacy_utility", "roc")),
    *(f"plots/{name}" for name in PICTURES),
    *("README.md", "report.html", "report.md"),
)


def hashes_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a bundle but the statement, by its place."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / FILE_NAME
    }
