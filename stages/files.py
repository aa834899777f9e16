"""Read what an earlier stage wrote; write outputs whole or not at all."""

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

from stages.errors import AMID_A_MERGE, UserError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a scratch path beside `path`; move it into place only if the block succeeds.

    Raises:
        UserError: it is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: expected the name of a file to write, but it is a folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty scratch folder beside `path`; move it there only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
        if path.exists():
            shutil.rmtree(path)
        scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8, whole or not at all."""
    with whole_file(path) as scratch:
        scratch.write_text(text, "utf-8", newline="\n")


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(
    path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()
) -> None:
    """Write `rows` as CSV, whole or not at all.

    Args:
        path: of the file.
        rows: all with the same keys.
        columns: these keys, needed where there may be no rows.
    """
    with whole_file(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def made_earlier() -> Iterator[None]:
    """Read what another stage wrote, in the block or the decorated function.

    Raises:
        UserError: a file is not there.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{error.filename}: no such file; an earlier stage, or a newer version of it, makes "
            "it. Run all of them with: dvc repro"
        ) from None


@made_earlier()
def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object that another stage wrote.

    Raises:
        UserError: it is none, such as in the middle of a merge.
    """
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: expected JSON, but it cannot be read ({error}). {AMID_A_MERGE}"
        ) from None
    return content


@made_earlier()
def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read a CSV file that another stage wrote, as one dictionary per row."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def text_of(path: str | Path) -> str | None:
    """Return a file's text, or None where there is no such file (any more)."""
    try:
        return Path(path).read_text("utf-8", errors="replace")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def texts_in(folder: Path, pattern: str) -> Iterator[tuple[Path, str]]:
    """Yield the files of a folder that match a pattern, sorted, each with its text.

    Without those that are hidden, or that others, such as DVC beside this, removed meanwhile.
    """
    # Path.glob takes hidden files as well, and fails where a folder goes away.
    for name in sorted(glob(pattern, root_dir=folder, recursive=True)):  # noqa: PTH207
        if (text := text_of(folder / name)) is not None:
            yield folder / name, text


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Make sure that a file stays as it is in the meantime.

    Raises:
        UserError: it does not.
    """
    before = _state(path)
    try:
        yield
    finally:  # whatever it led to meanwhile
        if _state(path) != before:
            raise UserError(
                f"{path}: the file changed while it was read. Wait for whatever writes it to end, "
                "and run again."
            )


def _state(path: Path) -> tuple[int, ...]:
    if not path.exists():
        return ()
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
