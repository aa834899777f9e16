"""The names by which the ledger knows tables."""

import os
from pathlib import Path

from stages.books.home import home, neighbour, path_to
from stages.versions.files import HERE
from stages.versions.git import git, repository

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


def united(*names: str) -> str:
    """Return one name that is all of `names`."""
    return TODAY.join(dict.fromkeys(one for name in names for one in name.split(TODAY)))


def portable(name: str) -> str:
    """Return a name as a clone anywhere can read it: what is in Git's repository from here."""
    return united(*map(_from_here, name.split(TODAY)))


def _from_here(path: str) -> str:
    if not Path(path).is_absolute():
        return path
    top = git("rev-parse", "--show-toplevel").strip()
    inside = top and Path(path).is_relative_to(top)
    return os.path.relpath(path, repository().resolve()) if inside else path


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
