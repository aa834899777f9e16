"""Files as they are at a commit or in the workspace, and where commits changed them."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.files import text_of
from stages.versions.git import git, heads_of_nothing, history

# The project's folder, as Git spells it: the project may be in a folder of Git's repository. Where
# it was before it was moved there is spelt from the repository's root, as `before/`.
HERE = "./"

# In place of a commit's id: the files as they are now. Of another worktree it is their folder.
WORKSPACE = "workspace"


class Place(NamedTuple):
    """Where a version of the project is: at a commit or in a workspace, in a folder."""

    commit: str
    folder: str = HERE


def short(commit: str) -> str:
    """Return a commit's id as messages have it, or which workspace is in its place."""
    return commit if _workspace_at(commit) else commit[:12]


def _workspace_at(commit: str) -> Path | None:
    """Return where files are as they are now, or None if they are as a commit has them."""
    if commit == WORKSPACE:
        return Path()
    return Path(commit) if Path(commit).is_absolute() else None


def workspaces() -> Iterator[Place]:
    """Yield this workspace, and that of each other worktree of the repository."""
    yield Place(WORKSPACE)
    inside = git("rev-parse", "--show-prefix").strip()
    for line in git("worktree", "list", "--porcelain").splitlines():
        kind, _, top = line.partition(" ")
        if kind == "worktree" and (folder := Path(top, inside)) != Path.cwd():
            yield Place(str(folder))


def file_at(commit: str, path: str, folder: str = HERE) -> str | None:
    """Return a file's text as it is at `commit` or in the workspace, or None where it has none."""
    return files_at([(Place(commit, folder), path)])[0]


def files_at(asked: Sequence[tuple[Place, str]]) -> list[str | None]:
    """Return the text of many files, each by its place and path, as Git checks them out."""
    names = "".join(f"{place.commit}:{place.folder}{path}\n" for place, path in asked)
    told = io.BytesIO(history("cat-file", "--batch", given=names.encode()))

    def text(place: Place, path: str, kept: str | None) -> str | None:
        if (workspace := _workspace_at(place.commit)) is not None:
            return text_of(workspace / path)
        return _checked_out(place, path) if is_kept_otherwise(kept or "") else kept

    return [text(*one, kept) for one, kept in zip(asked, _texts(told, len(asked)), strict=True)]


def is_kept_otherwise(text: str) -> bool:
    """Whether a text stands for another, that a filter of Git brings: encrypted, or kept by LFS."""
    return "\ufffd" in text or text.startswith("version https://git-lfs.github.com/")


def _checked_out(place: Place, path: str) -> str:
    named = f"{place.commit}:{place.folder}{path}"
    return history("cat-file", "--filters", named).decode(errors="replace")


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
    With those that no branch has any more, since they were amended, stashed or rebased, and those
    that none has yet, since they were fetched by a path and their merge is not done. And in every
    folder, as the project may have been moved.
    """
    anywhere = [f":(top,glob)**/{path}" for path in paths]
    where = ("--all", "--reflog", "--ignore-missing", *heads_of_nothing())
    order = ("--full-history", "--topo-order", "--reverse")
    commits = history("rev-list", *where, *order, "--", *anywhere)
    how = ("--stdin", "--root", "-m", "-r", "--no-renames", "--diff-filter=d", "--name-only", "-z")
    told = history("diff-tree", *how, "--", *anywhere, given=commits).decode()
    here = git("rev-parse", "--show-prefix").strip()
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
