"""What DVC knows of a version: its dvc.lock, and the outputs that this names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.errors import AMID_A_MERGE, UserError
from stages.versions.files import HERE, Place, file_at, files_at, places_with, workspaces
from stages.versions.git import repository

# A file in dvc.lock, or in a record of DVC's run-cache. To read all of them as YAML takes long.
_HASHED = re.compile(r"path: (.+)\n(?: +hash: md5\n)? +md5: ([\w.]+)")


def hashes_in(text: str) -> list[tuple[str, str]]:
    """Return the paths in a lock, or in a record of the run-cache, each with its hash."""
    return _HASHED.findall(text)


def locks_in_commits() -> Iterator[tuple[Place, dict[str, str]]]:
    """Yield the paths that each dvc.lock of a commit names, with their hashes."""
    return _locks([*places_with("dvc.lock")])


def locks_anywhere() -> Iterator[tuple[Place, dict[str, str]]]:
    """Yield the same, and of workspaces."""
    return _locks([*places_with("dvc.lock"), *workspaces()])


def _locks(places: Sequence[Place]) -> Iterator[tuple[Place, dict[str, str]]]:
    texts = files_at([(place, "dvc.lock") for place in places])
    for place, text in zip(places, texts, strict=True):
        yield place, dict(hashes_in(text or ""))


def locked(commit: str, folder: str = HERE) -> dict[str, Any]:
    """Return what `dvc.lock` at `commit` says of each stage.

    Raises:
        UserError: it is no YAML, such as in the middle of a merge.
    """
    try:
        lock = yaml.safe_load(file_at(commit, "dvc.lock", folder) or "{}")
    except yaml.YAMLError:
        raise UserError(f"dvc.lock: expected YAML, but it cannot be read. {AMID_A_MERGE}") from None
    stages = lock.get("stages") if isinstance(lock, dict) else None
    return stages or {}


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


def files_of(stage: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return the hashes of a stage's files of a kind, "deps" or "outs", by what a lock says."""
    return {entry["path"]: str(entry.get("md5")) for entry in stage.get(kind, [])}


def output_hash(commit: str, path: str) -> str | None:
    """Return the hash under which `dvc.lock` at `commit` knows an output, or None."""
    outputs = (out for stage in locked(commit).values() for out in stage.get("outs", []))
    return next((str(out["md5"]) for out in outputs if out["path"] == path), None)


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


def dvc_folder() -> Path:
    """Return DVC's own folder: beside the project's files, or above it."""
    here = repository()
    found = (folder / ".dvc" for folder in (here, *here.parents))
    return next((folder for folder in found if folder.is_dir()), here / ".dvc")
