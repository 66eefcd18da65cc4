"""What is found where a database and its files differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Difference", "TableReport", "shown"]


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be.

    Attributes
    ----------
    table, what : str
    file, column : str or None
    row : int or None
        Row in the file.
    expected, found : str or None
        Values in the file and in the database.
    """

    table: str
    what: str
    file: str | None = None
    row: int | None = None
    column: str | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}: " if self.row is None else f"{self.file}, row {self.row}: "
        values = f", column {self.column}: file {self.expected}, database {self.found}" if self.column else ""
        return f"{self.table}: {place}{self.what}{values}"


@dataclass
class TableReport:
    """What was found of a table.

    Attributes
    ----------
    table : str
    files : int
        Files that were compared.
    expected, found : int
        Rows in the files, and in the table.
    differences : list of Difference
        The first ones.
    notes : list of str
        What is not as in the files, and on purpose.
    """

    table: str
    files: int = 0
    expected: int = 0
    found: int = 0
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, file: str | None = None) -> None:
        """Add a difference that is not of one row."""
        self.differences.append(Difference(self.table, what, file))


def shown(value: Any) -> str:
    """Write a value for a message; of texts, blanks can be seen."""
    if isinstance(value, bytes):
        return repr(value.decode("utf-8", "backslashreplace"))
    return str(value)
