"""What DVC's cache keeps: outputs by their hashes, and which run of a stage made which."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from stages.files import text_of, texts_in
from stages.versions.locks import dvc_folder, hashes_in, locked


def kept_outputs(*outputs: str) -> Iterator[tuple[str, str]]:
    """Yield what DVC's run-cache has of some outputs: each time which, and its hash."""
    for _, record in _records():
        for output, digest in hashes_in(record):
            if output in outputs:
                yield output, digest


def forget_run(run: str, *metrics: str) -> None:
    """Remove from the run-cache what would bring back a run, and whatever measured it.

    Args:
        run: its id in the ledger.
        metrics: which outputs tell of runs.
    """
    for path, record in _records():
        found = hashes_in(record)
        if any(run in (kept_text(digest) or "") for name, digest in found if name in metrics):
            _forget(path)


def _records() -> Iterator[tuple[Path, str]]:
    """Yield the run-cache's records, each by its path and with its text."""
    return texts_in(_cache(), "runs/*/*/*")


def _forget(record: Path) -> None:
    record.unlink(missing_ok=True)
    # DVC takes for granted that a record is in such a folder, which goes only if it is empty.
    with suppress(OSError):
        record.parent.rmdir()


def kept_text(digest: str) -> str | None:
    """Return the text of an output, or None where it is not in the cache."""
    return text_of(_place(_cache(), digest))


def kept_part(digest: str, name: str) -> str | None:
    """Return the text of a file in an output that is a folder, or None where it is not here."""
    parts = {part["relpath"]: part["md5"] for part in _listing(digest)}
    return kept_text(parts[name]) if name in parts else None


def forget_outputs(commits: Sequence[str], but: Sequence[str]) -> None:
    """Remove from DVC's caches what `commits` made and none of the commits `but` knows as well."""
    gone, kept = ({h for one in some for h in _output_hashes(one)} for some in (commits, but))
    cache = _cache()
    for path, record in _records():
        outputs = (yaml.safe_load(record) or {}).get("outs", [])
        if {str(out.get("md5")) for out in outputs} & (gone - kept):
            _forget(path)
    held = {part for one in kept for part in _parts(cache, one)}
    for part in {part for one in gone - kept for part in _parts(cache, one)} - held:
        part.unlink(missing_ok=True)


def _output_hashes(commit: str) -> set[str]:
    stages = locked(commit).values()
    return {str(out["md5"]) for stage in stages for out in stage.get("outs", [])}


def _parts(cache: Path, digest: str) -> Iterator[Path]:
    """Yield where DVC keeps a file, or a folder and all files in it."""
    for part in _listing(digest):
        yield _place(cache, part["md5"])
    yield _place(cache, digest)


def _listing(digest: str) -> list[dict[str, str]]:
    """Return the files of an output that is a folder; none of one that is a file, or not here."""
    if not digest.endswith(".dir"):
        return []
    listed: list[dict[str, str]] = json.loads(kept_text(digest) or "[]")
    return listed


def _place(cache: Path, digest: str) -> Path:
    return cache / "files/md5" / digest[:2] / digest[2:]


def _cache() -> Path:
    own = dvc_folder()
    return Path(_configured(own)["cache"].get("dir") or own / "cache")


def autostages() -> bool:
    """Whether DVC adds what it writes to what Git's next commit takes along."""
    return bool(_configured(dvc_folder())["core"].get("autostage"))


@functools.cache
def _configured(own: Path) -> Mapping[str, Any]:
    """Read DVC's configuration once, as a ledger looks up many outputs."""
    # Takes a while to import, and only commands and spends need it.
    from dvc.config import Config  # noqa: PLC0415

    configured: Mapping[str, Any] = Config(str(own))
    return configured
