"""Other versions of this repository: commits and experiments, and what DVC keeps of them."""

import functools
import io
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stages.errors import UserError

# What Git tells to hooks and aliases of the repository in which it runs them.
TOLD_BY_GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_PREFIX")

# What Git tells them of how it was asked to read paths, as some editors do; here none is meant so.
PATHS_AS_ASKED = tuple(f"GIT_{how}_PATHSPECS" for how in ("LITERAL", "GLOB", "NOGLOB", "ICASE"))

SHALLOW = (
    "this clone is shallow: runs of commits that it lacks are not in the ledger, whose total is "
    "too low. Bring the commits with: git fetch --unshallow"
)
WITHOUT_GIT = (
    "this folder is in no repository of Git, so runs of commits are not in the ledger, whose total "
    "is too low if there are any. Work in a clone; a new project begins with: git init"
)

# The project's folder, as Git spells it: the project may be in a folder of Git's repository. Where
# it was before it was moved there is spelt from the repository's root, as `before/`.
HERE = "./"


def repository() -> Path:
    """Return the project's real folder; DVC runs `--temp` and `--queue` stages in a copy of it."""
    here, root = Path.cwd(), Path(os.environ.get("DVC_ROOT") or ".").resolve()
    # Only copies are there. Elsewhere it may be another project's, of which a stage runs this one.
    return _original(here, root) if here.is_relative_to(root / ".dvc/tmp") else here


@functools.cache
def _original(copy: Path, root: Path) -> Path:
    """Return the folder that a copy is of, in the repository where DVC's root is."""
    top, inside = (
        _run_git("rev-parse", asked, cwd=folder).stdout.decode().strip()
        for folder, asked in ((root, "--show-toplevel"), (copy, "--show-prefix"))
    )
    return Path(top, inside)


def home(folder: str = HERE) -> Path:
    """Return the project's folder in the worktree that all others share, where its ledger is.

    Or what would be that where the project was in another `folder`.
    """
    asked = ("--git-dir", "--git-common-dir", "--show-toplevel", "--show-prefix")
    told = _git("rev-parse", "--path-format=absolute", *asked)
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
    told = _git("config", "core.worktree").strip()
    if not told and _git("config", "core.bare").strip() != "true":
        raise UserError(
            f"{Path.cwd()}: a worktree of a repository whose Git is elsewhere, in {common}, which "
            "does not tell where the main one is, with the ledger. Run there, or make a clone."
        )
    # Of a submodule it is told; a bare repository has linked worktrees only, and is it itself.
    return (common / told).resolve()


def dvc_folder() -> Path:
    """Return DVC's own folder: beside the project's files, or above it."""
    here = repository()
    found = (folder / ".dvc" for folder in (here, *here.parents))
    return next((folder for folder in found if folder.is_dir()), here / ".dvc")


# Between the two names of a file.
TODAY = " → "


def path_of(file: str | Path) -> str:
    """Return the name that a file has in the ledger: as it is told, and what that is today.

    The latter from the repository's root, or in full where it is elsewhere; links are followed, but
    not into DVC's cache, where a file's name is its content's. One name where they are the same;
    and what has been named before keeps its name.
    """
    if TODAY in str(file):
        return str(file)
    path = Path(file).absolute()
    there = path.parent.resolve() / path.name
    if there.is_symlink() and "/files/md5/" not in there.resolve().as_posix():
        there = there.resolve()
    told = _from_root(path) if Path(file).is_absolute() else os.path.normpath(file)
    today = _from_root(there)
    return told if told == today else f"{told}{TODAY}{today}"


def _from_root(path: Path) -> str:
    for find in (Path.cwd, repository, home):  # the last asks Git, which takes its time
        if path.is_relative_to(root := find().resolve()):
            return path.relative_to(root).as_posix()
    return path.as_posix()


def names_of(name: str) -> set[str]:
    """Return all names of a file: those in the ledger's, and what they are today."""
    return {one for told in name.split(TODAY) for one in path_of(told).split(TODAY)}


def current_run() -> tuple[str | None, str | None]:
    """Return the commit that is checked out, and the experiment's name if DVC runs one."""
    return _git("rev-parse", "HEAD").strip() or None, os.environ.get("DVC_EXP_NAME")


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
    is_tag = bool(_git("show-ref", f"refs/tags/{name}"))
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
    commit = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    return next(iter(_experiments(name)), commit) or None


def _experiments(name: str) -> list[str]:
    """The ids of the experiments of this name, the latest first."""
    return _git(
        "for-each-ref", "--sort=-creatordate", "--format=%(objectname)", f"refs/exps/*/*/{name}"
    ).split()


def remove_experiments(pattern: str) -> None:
    """Remove the experiments whose names match a pattern such as `tune-1-*`."""
    refs = _git("for-each-ref", "--format=delete %(refname)", f"refs/exps/*/*/{pattern}")
    _git_bytes("update-ref", "--stdin", given=refs.encode())


# In place of a commit's id: the files as they are now.
WORKSPACE = "workspace"


class Place(NamedTuple):
    """Where a version of the project is: at a commit or in the workspace, in a folder."""

    commit: str
    folder: str = HERE


def file_at(commit: str, path: str, folder: str = HERE) -> str | None:
    """Return a file's text as it is at `commit` or in the workspace, or None where it has none."""
    return files_at([(Place(commit, folder), path)])[0]


def files_at(asked: Sequence[tuple[Place, str]]) -> list[str | None]:
    """Return the text of many files, each by its place and path, as Git checks them out."""
    names = "".join(f"{place.commit}:{place.folder}{path}\n" for place, path in asked)
    told = io.BytesIO(_history("cat-file", "--batch", given=names.encode()))
    kept, filtered = _texts(told, len(asked)), kept_otherwise({path for _, path in asked})

    def text(place: Place, path: str, kept: str | None) -> str | None:
        if place.commit == WORKSPACE:
            return _workspace_text(path)
        return _checked_out(place, path) if kept is not None and path in filtered else kept

    return [text(*one, as_kept) for one, as_kept in zip(asked, kept, strict=True)]


def _workspace_text(path: str) -> str | None:
    file = Path(path)
    return file.read_text("utf-8", errors="replace") if file.is_file() else None


def kept_otherwise(paths: Iterable[str]) -> set[str]:
    """Return which files Git keeps another text of than it checks out, as git-crypt and LFS do."""
    told = _git("check-attr", "-z", "filter", "--", *paths).split("\0")
    values = zip(told[::3], told[2::3], strict=False)
    return {path for path, value in values if value not in ("unspecified", "unset")}


def _checked_out(place: Place, path: str) -> str:
    named = f"{place.commit}:{place.folder}{path}"
    return _history("cat-file", "--filters", named).decode(errors="replace")


def _texts(told: io.BytesIO, count: int) -> Iterator[str | None]:
    """Read what `git cat-file --batch` printed: `id type size`, the content and a line's end."""
    for _ in range(count):
        head = told.readline().split()
        if len(head) == 3 and head[1] == b"blob":
            yield told.read(int(head[2])).decode(errors="replace")
            told.read(1)
        else:  # `… missing`, or a folder
            if len(head) == 3 and head[2].isdigit():
                told.read(int(head[2]) + 1)
            yield None


def places_with(*paths: str) -> dict[Place, list[str]]:
    """Return where commits, those of experiments included, changed some of `paths`, oldest first.

    And which of them, other than to remove them.

    In full history: by default Git leaves out what it takes for the same on both sides of a merge.
    With those that no branch has any more, since they were amended, stashed or rebased. And in
    every folder, as the project may have been moved.
    """
    anywhere = [f":(top,glob)**/{path}" for path in paths]
    where = ("--all", "--reflog", "--full-history", "--topo-order", "--reverse")
    commits = _history("rev-list", *where, "--", *anywhere)
    how = ("--stdin", "--root", "-m", "-r", "--no-renames", "--diff-filter=d", "--name-only", "-z")
    told = _history("diff-tree", *how, "--", *anywhere, given=commits).decode()
    here = _git("rev-parse", "--show-prefix").strip()
    commit = ""
    places: dict[Place, list[str]] = {}
    for line in told.split("\0"):  # a commit, then what it changed
        path = next((path for path in paths if line.endswith(path)), None)
        if path is None:
            commit = line
        else:
            folder = line.removesuffix(path)
            place = Place(commit, HERE if folder == here else folder)
            places.setdefault(place, []).append(path)
    return places


def neighbour(folder: str) -> Path | None:
    """Return where another project of Git's repository is, or None if it is none, or is no more."""
    there = path_to(folder)
    return there if folder != HERE and (there / "dvc.lock").exists() else None


def name_from(folder: str, name: str) -> str:
    """Return the ledger's name of a file by that which it had where the project was then."""
    if folder == HERE:
        return name
    names, there = name.split(TODAY), path_to(folder)
    if neighbour(folder):  # all of it is there
        return TODAY.join(os.path.normpath(there / one) for one in names)
    # What is in the project moves along with it.
    beside = [os.path.normpath(there / one) for one in names if one.startswith("..")]
    return TODAY.join([*names, *beside])


def path_to(folder: str) -> Path:
    """Return where the folder of a place is today."""
    up = "" if folder == HERE else _git("rev-parse", "--show-cdup").strip()
    return (repository() / up / folder).resolve()


def hidden_past() -> str | None:
    """Return why commits that may tell of runs are not here, and what to do; None if all are."""
    told = _git("rev-parse", "--is-shallow-repository").strip()
    return {"false": None, "true": SHALLOW}.get(told, WITHOUT_GIT)


def dependency_hashes(commit: str, stage: str) -> set[str]:
    """Return the hashes of a stage's dependencies as `dvc.lock` at `commit` knows them."""
    return {str(dep["md5"]) for dep in locked(commit).get(stage, {}).get("deps", [])}


def parameters_at(commit: str, stage: str) -> dict[str, Any]:
    """Return the parameters that a stage ran with, as `dvc.lock` at `commit` knows them."""
    return parameters_in(locked(commit).get(stage, {}))


def parameters_in(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a stage ran with, by what a lock says of it."""
    ran: dict[str, Any] = stage.get("params", {}).get("params.yaml", {})
    return ran


def output_hash(commit: str, path: str) -> str | None:
    """Return the hash under which `dvc.lock` at `commit` knows an output, or None."""
    outputs = (out for stage in locked(commit).values() for out in stage.get("outs", []))
    return next((str(out["md5"]) for out in outputs if out["path"] == path), None)


def locked(commit: str, folder: str = HERE) -> dict[str, Any]:
    """Return what `dvc.lock` at `commit` says of each stage.

    Raises:
        UserError: it is no YAML, such as in the middle of a merge.
    """
    try:
        lock = yaml.safe_load(file_at(commit, "dvc.lock", folder) or "{}") or {}
    except yaml.YAMLError:
        raise UserError(
            "dvc.lock: expected YAML, but it cannot be read. If a merge left both versions in it, "
            "keep one whole: git checkout --ours dvc.lock metrics plots, or --theirs"
        ) from None
    stages: dict[str, Any] = lock.get("stages", {})
    return stages


def fetch_output(commit: str, path: str, folder: Path) -> None:
    """Copy a DVC output as it was at `commit` into `folder`.

    Raises:
        UserError: its data is not in DVC's cache.
    """
    # DVC's own Python interface takes most of a second to import, and only this needs it.
    from dvc.api import DVCFileSystem  # noqa: PLC0415

    root = dvc_folder().parent
    inside = repository().relative_to(root) / path
    try:
        DVCFileSystem(str(root), rev=commit).get(str(inside), str(folder), recursive=True)
    except Exception as error:  # DVC raises many kinds, all of which mean the same here
        raise UserError(
            f"{path} of {commit[:12]} is not in DVC's cache ({type(error).__name__}). Bring it "
            f"there with: git checkout {commit[:12]} && dvc pull, or continue from another run."
        ) from None


def _history(*arguments: str, given: bytes = b"") -> bytes:
    """Return what a Git command tells of the past, which it must not keep to itself.

    Nothing where there is no repository, which has no past that anybody could ask for.

    Raises:
        UserError: Git fails.
    """
    done = _run_git(*arguments, given=given)
    if done.returncode and (b"not a git repository" not in done.stderr):
        why = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(
            "Git does not tell what earlier commits hold, so ε of earlier runs is not known: "
            f"{why[0] if why else 'it failed'}. Mend that and run again."
        )
    return done.stdout if done.returncode == 0 else b""


def _git(*arguments: str) -> str:
    """Return what a Git command prints, empty where it fails."""
    return _git_bytes(*arguments).decode(errors="replace")


def _git_bytes(*arguments: str, given: bytes = b"") -> bytes:
    done = _run_git(*arguments, given=given)
    return done.stdout if done.returncode == 0 else b""


def _run_git(
    *arguments: str, given: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    # Hooks and aliases run with the Git of whoever calls them, and take any folder for its root. So
    # that counts only where none is found from the folder.
    told = {name: os.environ[name] for name in TOLD_BY_GIT if name in os.environ}
    unwanted = {*TOLD_BY_GIT, *PATHS_AS_ASKED}
    environment = {name: os.environ[name] for name in os.environ if name not in unwanted}
    done = _run(*arguments, given=given, cwd=cwd or repository(), env=environment)
    if told and b"not a git repository" in done.stderr:
        done = _run(*arguments, given=given, cwd=cwd or repository(), env=environment | told)
    return done


def _run(
    *arguments: str, given: bytes, cwd: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", *arguments], cwd=cwd, env=env, input=given, capture_output=True, check=False
    )
