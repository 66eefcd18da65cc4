"""What is loaded: files, the pieces of them that are written together, and the filters of their rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.files.tables import Chunk
from specprod.model import SchemaMixin
from specprod.model.converting import Columns, Rejects

__all__ = ["FileLoad", "LearningFilter", "Piece", "RowFilter"]

#: Rows of a chunk that stay, as indexes into it.
RowFilter = Callable[[Chunk], npt.NDArray[np.integer[Any]]]


class LearningFilter(ABC):
    """A filter that is told which of the rows that it chose became rows of the table."""

    @abstractmethod
    def __call__(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        """Give the indexes of the rows of a chunk that stay; it may be asked again for the same chunk."""

    @abstractmethod
    def accept(self, columns: Columns) -> None:
        """Take note of the rows that stayed and violate no rule."""

    @property
    def certain(self) -> bool:
        """Whether the keys of what it leaves are in no other row of the table, beyond doubt."""
        return False


@dataclass(frozen=True, eq=False)
class FileLoad:
    """One file to be loaded into one table.

    Attributes
    ----------
    path : pathlib.Path
    hdu : str, int or tuple of str
        See `specprod.files.open_table`.
    table : class
    given : mapping
        Values for all rows, such as ``survey="main"``.
    row_filter : callable, optional
        Gives the indexes of the rows of a chunk that stay. All by default.
    only_new : bool
        Whether rows whose key is in the table already are left out; otherwise they are an error.
    nan_zero : bool
        Whether columns that say so take NaN as zero, as loads of tiles do.
    stage : str
        The stage that loads it, for the ledger.
    """

    path: Path
    hdu: str | int | tuple[str, ...]
    table: type[SchemaMixin]
    given: Mapping[str, Any] = field(default_factory=dict)
    row_filter: RowFilter | None = None
    only_new: bool = False
    nan_zero: bool = False
    stage: str = "load"

    @property
    def hdu_name(self) -> str | int:
        """Name or number of the HDU, for messages and records: the first one that it may have."""
        return self.hdu if isinstance(self.hdu, str | int) else self.hdu[0]


@dataclass
class Piece:
    """A chunk that is ready to be written.

    Attributes
    ----------
    first, last : int
        Its rows in the file, `last` not included.
    rows : int
        How many of them are to be written.
    prepared : list of (int, list of memoryview)
        What the writer takes: numbers of rows, and their bytes.
    rejects : Rejects
        Rows that violate a rule.
    checksum : int
        Share of the rows in the checksum of the file.
    keys, places : list of numpy.ndarray
        Keys of its rows, and where these stand in the file, slice by slice.
    """

    first: int
    last: int
    rows: int = 0
    prepared: list[tuple[int, list[memoryview]]] = field(default_factory=list)
    rejects: Rejects = field(default_factory=Rejects)
    checksum: int = 0
    keys: list[npt.NDArray[Any]] = field(default_factory=list)
    places: list[npt.NDArray[np.int64]] = field(default_factory=list)
