"""The privacy statement: what the report says, for machines.

`deployment` is a record in the shape of OpenDP's deployments registry, ready to be sent there once
the owner has filled in who he is; `evidence` is what it rests on, from which anybody can compute ε
again. Its template is its shape, and every number in it a copy of the metrics': whoever relies on a
statement makes it again from these and compares.
"""

import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from stages.errors import UserError
from stages.privacy.attack import figures_of
from stages.reporting.run import Run
from stages.reporting.templates import fill

# Of the pipeline, whose versions need not understand each other's statements.
VERSION = "0.3.0"

FILE_NAME = "statement.yaml"

Statement = dict[str, Any]


def make_statement(
    run: Run, *, published: date | None = None, files: Mapping[str, str] | None = None
) -> Statement:
    """Return the statement of a run.

    Args:
        run: what is told.
        published: the day it leaves the building, if it does.
        files: SHA-256 of each file that leaves with it, by its path.
    """
    text = fill(
        "statement.yaml",
        run=run,
        version=VERSION,
        published=published,
        test_attack=figures_of(run.test_profile),
        files=files or {},
    )
    statement: Statement = yaml.safe_load(text)
    return statement | {"checksum": checksum_of(statement)}


def checksum_of(statement: Statement) -> str:
    """Return what `checksum` should be: a guard against accidents, not against forgers."""
    return hashlib.sha256(to_yaml(statement | {"checksum": ""}).encode()).hexdigest()


def to_yaml(statement: Statement) -> str:
    """Return the text of the file, which `load_statement` reads back."""
    return yaml.safe_dump(statement, sort_keys=False, allow_unicode=True, width=100)


def load_statement(path: Path) -> Statement:
    """Read a statement; whether it is in shape, only its like can tell.

    Raises:
        UserError: there is none, it is no YAML, or it is of another version.
    """
    try:
        statement: Statement = dict(yaml.safe_load(path.read_text("utf-8")))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. Make it with: dvc repro. To verify a bundle, name the folder "
            "that `python -m stages.publish` made."
        ) from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UserError(f"{path}: expected YAML, but: {error}. Ask for an intact copy.") from None
    version = statement.get("version", "0.1.0")  # which did not say so
    if version != VERSION:
        raise UserError(
            f"{path}: was made by version {version} of this pipeline, and this is {VERSION}. If it "
            "is a bundle's, verify it with that version; your own run's is made anew by: dvc repro"
        )
    return statement
