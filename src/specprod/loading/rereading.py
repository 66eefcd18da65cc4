"""Files read once more, as a load reads them: for comparing, and for finding the rows that are at fault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specprod.database.lookups import contained
from specprod.files.opening import open_table
from specprod.loading.loader import SLICE, FileLoad
from specprod.model import Photometry
from specprod.model.converting import Columns, Converter, Rejects

__all__ = ["RowsOfFile", "rows_of_files"]


@dataclass(frozen=True)
class RowsOfFile:
    """Some rows of a file, as a load converts them.

    Attributes
    ----------
    load : FileLoad
    rows : numpy.ndarray of int64, shape (n,)
        Their numbers in the file.
    columns : dict of str to numpy.ndarray, each of shape (n,)
    """

    load: FileLoad
    rows: npt.NDArray[np.int64]
    columns: Columns


class _Seen:
    """TARGETIDs that were met; sorted when they are first asked for, 8 bytes each."""

    def __init__(self) -> None:
        self._new: list[npt.NDArray[np.int64]] = []
        self._sorted = np.empty(0, dtype=np.int64)
        self._recent = np.empty(0, dtype=np.int64)

    def add(self, targetid: npt.NDArray[np.int64]) -> None:
        self._new.append(targetid)

    def have(self, targetid: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        new, self._new = np.concatenate([self._recent, *self._new]), []
        # What comes little by little is sorted by itself, until it is worth joining the rest.
        if new.size > max(1_000_000, self._sorted.size // 8):
            self._sorted, new = np.union1d(self._sorted, new), new[:0]
        self._recent = np.unique(new)
        return contained(self._sorted, targetid) | contained(self._recent, targetid)


def rows_of_files(items: Iterable[tuple[FileLoad, int]]) -> Iterator[RowsOfFile]:
    """Yield the rows that files gave, or should have given, in the order of the load.

    Parameters
    ----------
    items : iterable of (FileLoad, int)
        Files, and how many of their rows count.

    Yields
    ------
    RowsOfFile
    """
    seen = _Seen()
    for load, rows in items:
        with open_table(load.path, load.hdu) as reader:
            converter = Converter(
                load.table, reader.names, load.given, file=str(load.path), hdu=reader.hdu, nan_zero=load.nan_zero
            )
            size = max(1, SLICE // max(reader.row_bytes, 1))
            for first in range(0, rows, size):
                chunk = reader.read(first, min(first + size, rows))
                if load.only_new:
                    # What the load asked of the database is asked of the files here.
                    targetid, unique = np.unique(np.asarray(chunk["TARGETID"]), return_index=True)
                    chunk = chunk.take(np.sort(unique[~seen.have(targetid)]))
                elif load.row_filter is not None:
                    chunk = chunk.take(load.row_filter(chunk))
                if not len(chunk):
                    continue
                columns, rows_kept = converter.convert_rows(chunk, chunk.rows, Rejects())
                if load.table is Photometry:
                    seen.add(columns["targetid"])
                yield RowsOfFile(load, rows_kept, columns)
