"""What a stage leaves behind as metrics: a few headline numbers, and all that they rest on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.errors import UserError
from stages.files import read_json, write_json


class Result(BaseModel):
    """A metrics file, of which a subclass alone knows the keys.

    DVC's tables have a column for each number that they find, so the file has few of them; all else
    stands in a list of one, `evidence`, of which DVC makes no columns.

    Attributes:
        path: where the file is, from the folder of a run.
        headline: names of the columns, and the attributes that they show.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: ClassVar[Path]
    headline: ClassVar[Mapping[str, str]]

    @classmethod
    def read(cls, folder: Path = Path()) -> Self:
        """Read the result of the run whose files are in `folder`.

        Raises:
            UserError: there is none.
        """
        return cls.of(read_json(folder / cls.path))

    def write(self, folder: Path = Path()) -> None:
        """Write the result to where `read` finds it."""
        write_json(folder / self.path, self.content)

    @property
    def content(self) -> dict[str, Any]:
        """What the file holds."""
        shown = {name: getattr(self, attribute) for name, attribute in self.headline.items()}
        return {**shown, "evidence": [self.model_dump(mode="json")]}

    @property
    def digest(self) -> str:
        """Eight digits that another result has by chance only."""
        text = self.model_dump_json()
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return the result that a metrics file of any age holds.

        Raises:
            UserError: it holds none.
        """
        try:
            return cls.model_validate(evidence_in(content) or cls.from_version_1(content))
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"{cls.path}: `{'.'.join(map(str, first['loc']))}`: {first['msg']}. Expected what "
                "this pipeline writes; make it anew with: dvc repro"
            ) from None

    @classmethod
    def from_version_1(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the evidence of a file in which every number was a column."""
        return content


def evidence_in(content: Any) -> Mapping[str, Any] | None:
    """Return what a metrics file rests on, or None if it is of version 1, or another project's."""
    match content:
        case {"evidence": [Mapping() as evidence]}:
            return evidence
    return None
