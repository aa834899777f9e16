"""Commits and experiments by their names, and whether all of them are here."""

import os
import re

from stages.errors import UserError
from stages.versions.git import git, git_bytes

SHALLOW = (
    "this clone is shallow: runs of commits that it lacks may not be in the ledger, whose total is "
    "too low then. Bring them, of all branches, with: git fetch --unshallow origin "
    "'+refs/heads/*:refs/remotes/origin/*'"
)

WITHOUT_GIT = (
    "no repository of Git has this folder, so runs of commits are not in the ledger, whose total "
    "is too low if there are any. Work in a clone; a new project begins with: git init"
)


def current_run() -> tuple[str | None, str | None]:
    """Return the commit that is checked out, and the experiment's name if DVC runs one."""
    return git("rev-parse", "HEAD").strip() or None, os.environ.get("DVC_EXP_NAME")


def resolve(name: str) -> str:
    """Return the full id of a commit, tag or experiment.

    Raises:
        UserError: there is no such version, or the name is one that moves.
    """
    experiments = _experiments(name)
    if len(experiments) == 1:
        return experiments[0]
    if len(experiments) > 1:
        raise UserError(
            f"params.yaml: `continue_from`: {len(experiments)} experiments are called {name!r}. "
            f"Name one by its id: {', '.join(experiments)}."
        )
    commit = commit_of(name)
    if not commit:
        raise UserError(
            f"params.yaml: `continue_from` should be a commit, tag or experiment, but there is no "
            f"{name!r} here. `dvc exp show` lists them."
        )
    is_tag = bool(git("show-ref", f"refs/tags/{name}"))
    if not is_tag and not (re.fullmatch("[0-9a-f]+", name) and commit.startswith(name)):
        raise UserError(
            f"params.yaml: `continue_from` is {name!r}, a name that moves: DVC would not notice "
            f"that it means another run tomorrow. Use what it means today: {commit}"
        )
    return commit


def commit_of(name: str) -> str | None:
    """Return the id of what a branch, commit, tag or experiment is today, or None if there is none.

    Of several experiments with one name it is the latest.
    """
    commit = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    return next(iter(_experiments(name)), commit) or None


def _experiments(name: str) -> list[str]:
    """The ids of the experiments of this name, the latest first."""
    return git(
        "for-each-ref", "--sort=-creatordate", "--format=%(objectname)", f"refs/exps/*/*/{name}"
    ).split()


def remove_experiments(pattern: str) -> None:
    """Remove the experiments whose names match a pattern such as `tune-1-*`."""
    refs = git("for-each-ref", "--format=delete %(refname)", f"refs/exps/*/*/{pattern}")
    git_bytes("update-ref", "--stdin", given=refs.encode())


def hidden_past() -> str | None:
    """Return why commits that may tell of runs are not here, and what to do; None if all are."""
    asked = ("--is-shallow-repository", "--show-prefix")
    is_shallow, _, below = git("rev-parse", *asked).strip().partition("\n")
    # A copy that lies in a repository, which knows nothing of it, has no commits either.
    if not is_shallow or (below and not git("ls-files", "--", ".")):
        return WITHOUT_GIT
    return SHALLOW if is_shallow == "true" else None
