"""Where the ledger is, and where the project was before it was moved."""

from pathlib import Path

from stages.errors import UserError
from stages.versions.files import HERE
from stages.versions.git import git, repository


def home(folder: str = HERE) -> Path:
    """Return the project's folder in the worktree that all others share, where its ledger is.

    Or what would be that where the project was in another `folder`.
    """
    asked = ("--git-dir", "--git-common-dir", "--show-toplevel", "--show-prefix")
    told = git("rev-parse", "--path-format=absolute", *asked)
    if not told:  # no repository of Git
        return repository()
    own, common, top, inside = told.split("\n")[:4]
    root = Path(top) if own == common else _main_worktree(Path(common))
    return root / (inside if folder == HERE else folder)


def _main_worktree(common: Path) -> Path:
    """Return what a repository's linked worktrees share, by the folder of its Git.

    Raises:
        UserError: nobody can tell.
    """
    if common.name == ".git":
        return common.parent
    told = git("config", "core.worktree").strip()
    if not told and git("config", "core.bare").strip() != "true":
        raise UserError(
            f"{Path.cwd()}: a worktree of a repository whose Git is elsewhere, in {common}, which "
            "does not tell where the main one is, with the ledger. Run there, or make a clone."
        )
    # Of a submodule it is told; a bare repository has linked worktrees only, and is it itself.
    return (common / told).resolve()


def neighbour(folder: str) -> Path | None:
    """Return where another project of Git's repository is, or None if it is none, or is no more."""
    there = path_to(folder)
    return there if folder != HERE and (there / "dvc.lock").exists() else None


def path_to(folder: str) -> Path:
    """Return where the folder of a place is today."""
    up = "" if folder == HERE else git("rev-parse", "--show-cdup").strip()
    return (repository() / up / folder).resolve()
