"""FITS files that grow by appended rows, and come out byte for byte the same every time."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt

from specprod.errors import ConfigurationError
from specprod.files.literal import open_writable
from specprod.sample.columns import Columns

__all__ = ["MANIFEST", "Card", "TableFile", "Tree", "compress", "csv_text", "make_room"]

Array = npt.NDArray[Any]
# Name of the file at the root that lists the others.
MANIFEST = "sample.json"
Card = tuple[str, Any]  # a header keyword and its value


class TableFile:
    """A FITS file with tables that take rows in turn.

    Parameters
    ----------
    path : pathlib.Path
    primary : sequence of (keyword, value)
        Cards of the primary header.
    tables : iterable of str, optional
        Tables that the file has already, in their order; a new file by default.
    """

    def __init__(self, path: Path, primary: Iterable[Card] = (), tables: Iterable[str] = ()) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.hdus = {name: number for number, name in enumerate(tables, start=1)}
        self._fits = open_writable(path, new=not self.hdus)
        if not self.hdus:
            self._fits.write(None, header=[{"name": name, "value": value} for name, value in primary])

    def append(self, hdu: str, rows: Array, columns: Columns, cards: Iterable[Card] = ()) -> None:
        """Append rows to the table `hdu`, which begins with the first call."""
        if hdu not in self.hdus:
            described = [(n, t) for n, t in columns.dtype.fields.items()] if columns.dtype.fields else []
            self._fits.create_table_hdu(
                dtype=[(name, *_described(kind[0])) for name, kind in described],
                extname=hdu,
                units=list(columns.units),
            )
            self.hdus[hdu] = len(self.hdus) + 1
            for name, value in cards:
                self._fits[self.hdus[hdu]].write_key(name, value)
        if rows.size:
            self._fits[self.hdus[hdu]].append(rows)

    def close(self) -> None:
        """Finish the file."""
        self._fits.close()


def _described(kind: Any) -> tuple[Any, ...]:
    """Type and shape of a field as fitsio takes them."""
    return (kind.base.str, kind.shape) if kind.shape else (kind.str,)


def compress(path: Path) -> Path:
    """Compress a file, `path` to ``path.gz``, without name and time in the result."""
    target = path.with_name(path.name + ".gz")
    with path.open("rb") as plain, target.open("wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)
    path.unlink()
    return target


def make_room(root: Path, overwrite: bool) -> None:
    """Make sure that `root` is an empty directory, or none.

    Parameters
    ----------
    root : pathlib.Path
    overwrite : bool
        Whether to remove the sample that it holds: the files that its manifest names, and no others.

    Raises
    ------
    ConfigurationError
        If something is there that may not be removed.
    """
    if not root.exists():
        return
    if not root.is_dir():
        raise ConfigurationError("this is no directory", file=root)
    if not any(root.iterdir()):
        return
    if not overwrite:
        raise ConfigurationError("the directory is not empty; give another, or overwrite it", file=root)
    manifest = root / MANIFEST
    if not manifest.is_file():
        raise ConfigurationError(f"the directory holds no sample (no {MANIFEST}) and is left as it is", file=root)
    try:
        names = [str(name) for name in json.loads(manifest.read_text(encoding="ascii"))["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError("the list of the sample's files cannot be read", file=manifest) from error
    for name in names:
        path = (root / name).resolve()
        if path.is_relative_to(root.resolve()):
            path.unlink(missing_ok=True)
    manifest.unlink()


def csv_text(table: Array) -> str:
    """Write a table as CSV: floats as Python writes them, NaN as an empty cell."""
    names = table.dtype.names or ()
    rows = [",".join(names)]
    for row in table.tolist():
        cells = [c.decode("ascii") if isinstance(c, bytes) else c for c in row]
        rows.append(",".join("" if isinstance(c, float) and math.isnan(c) else str(c) for c in cells))
    return "\n".join(rows) + "\n"


@dataclass
class Tree:
    """A directory in which files are written, with an account of what is in them.

    Attributes
    ----------
    root : pathlib.Path
    files : dict
        Files below `root`, as keys, in the order in which they were begun.
    rows : dict
        Number of rows by kind of table.
    """

    root: Path
    files: dict[Path, None] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    _open: dict[Path, TableFile] = field(default_factory=dict)
    _closed: dict[Path, tuple[str, ...]] = field(default_factory=dict)

    def append(
        self,
        path: Path,
        hdu: str,
        rows: Array,
        columns: Columns,
        *,
        primary: Iterable[Card] = (),
        cards: Iterable[Card] = (),
        kind: str | None = None,
    ) -> None:
        """Append rows to a table of a file below the root; both begin with the first call.

        Parameters
        ----------
        path : pathlib.Path
            File, relative to the root.
        hdu : str
            EXTNAME of the table.
        rows : numpy structured array
        columns : Columns
            Columns of the table; those of `rows`.
        primary, cards : sequence of (keyword, value)
            Cards of the primary header and of that of the table; used with the first call.
        kind : str, optional
            Name under which the rows are counted; `hdu` by default.
        """
        if path not in self._open:
            self._open[path] = TableFile(self.root / path, primary, self._closed.pop(path, ()))
        if path not in self.files:
            self.files[path] = None
        self._open[path].append(hdu, rows, columns, cards)
        self.count(kind or hdu, int(rows.size))

    def count(self, kind: str, number: int) -> None:
        """Count rows."""
        self.rows[kind] = self.rows.get(kind, 0) + number

    def close(self, path: Path, *, compressed: bool = False) -> None:
        """Close a file, and compress it if so asked; one that is not compressed opens again for more rows."""
        file = self._open.pop(path)
        file.close()
        if compressed:
            del self.files[path]
            self.files[compress(self.root / path).relative_to(self.root)] = None
        else:
            self._closed[path] = tuple(file.hdus)

    def text(self, path: Path, content: str) -> None:
        """Write a text file below the root."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content, encoding="ascii")
        self.files[path] = None

    def write_manifest(self, *, complete: bool = True) -> None:
        """Close all files, and write what the tree holds into `MANIFEST`."""
        for path in list(self._open):
            self.close(path)
        names = [path.as_posix() for path in self.files]
        content = {"complete": complete, "rows": self.rows, "files": names}
        self.text(Path(MANIFEST), json.dumps(content, indent=1) + "\n")

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.write_manifest()
            return
        # So that a sample that was not finished can be overwritten; it is the first error that the caller has to see.
        with contextlib.suppress(OSError):
            self.write_manifest(complete=False)
