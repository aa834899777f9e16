"""Git, asked from the project's real folder."""

import functools
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from stages.errors import UserError
from stages.files import text_of

# What Git tells to hooks and aliases of the repository in which it runs them.
TOLD_BY_GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_PREFIX")

# What Git tells them of how it was asked to read paths, as some editors do; here none is meant so.
PATHS_AS_ASKED = tuple(f"GIT_{how}_PATHSPECS" for how in ("LITERAL", "GLOB", "NOGLOB", "ICASE"))


def repository() -> Path:
    """Return the project's real folder; DVC runs `--temp` and `--queue` stages in a copy of it."""
    here, root = Path.cwd(), Path(os.environ.get("DVC_ROOT") or ".").resolve()
    # Only copies are there. Elsewhere it may be another project's, of which a stage runs this one.
    return _original(here, root) if here.is_relative_to(root / ".dvc/tmp") else here


@functools.cache
def _original(copy: Path, root: Path) -> Path:
    """Return the folder that a copy is of, in the repository where DVC's root is."""
    top, inside = (
        run_git("rev-parse", asked, cwd=folder).stdout.decode().strip()
        for folder, asked in ((root, "--show-toplevel"), (copy, "--show-prefix"))
    )
    return Path(top, inside)


def history(*arguments: str, given: bytes = b"") -> bytes:
    """Return what a Git command tells of the past, which it must not keep to itself.

    Nothing where there is no repository, which has no past that anybody could ask for.

    Raises:
        UserError: Git fails.
    """
    done = run_git(*arguments, given=given)
    if done.returncode and (b"not a git repository" not in done.stderr):
        why = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(
            "Git does not tell what earlier commits hold, so ε of earlier runs is not known: "
            f"{why[0] if why else 'it failed'}. Mend that and run again."
        )
    return done.stdout if done.returncode == 0 else b""


def heads_of_nothing() -> list[str]:
    """Return the ids in MERGE_HEAD, FETCH_HEAD and the like, which no reference leads to."""
    folder = git("rev-parse", "--path-format=absolute", "--git-common-dir").strip()
    if not folder:  # no repository of Git
        return []
    files = [*Path(folder).glob("*_HEAD"), *Path(folder).glob("worktrees/*/*_HEAD")]
    # Where a branch was before is for `--reflog` to tell, as long as Git keeps that.
    heads = (file for file in files if file.name != "ORIG_HEAD")
    lines = (line for head in heads for line in (text_of(head) or "").split("\n"))
    # DVC fetches experiments from copies of its own, and gives them a reference.
    ids = (re.match("[0-9a-f]{40,}", line) for line in lines if "/.dvc/tmp/" not in line)
    return [found[0] for found in ids if found]


def git(*arguments: str) -> str:
    """Return what a Git command prints, empty where it fails."""
    return git_bytes(*arguments).decode(errors="replace")


def git_bytes(*arguments: str, given: bytes = b"") -> bytes:
    done = run_git(*arguments, given=given)
    return done.stdout if done.returncode == 0 else b""


def run_git(
    *arguments: str, given: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    # Hooks and aliases run with the Git of whoever calls them, and take any folder for its root. So
    # that counts only where none is found from the folder.
    told = {name: os.environ[name] for name in TOLD_BY_GIT if name in os.environ}
    unwanted = {*TOLD_BY_GIT, *PATHS_AS_ASKED}
    environment = {name: os.environ[name] for name in os.environ if name not in unwanted}
    environment["LC_ALL"] = "C"  # what it says is read here, so not in the user's language
    done = _run(*arguments, given=given, cwd=cwd or repository(), env=environment)
    if told and b"not a git repository" in done.stderr:
        done = _run(*arguments, given=given, cwd=cwd or repository(), env=environment | told)
    return done


def _run(
    *arguments: str, given: bytes, cwd: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=cwd, env=env, input=given, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise UserError(
            "git: no such command, so ε of earlier runs is not known. Install Git and run again."
        ) from None
