"""What a load will take, and which files are missing: from the headers of files, before anything is loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from specprod.errors import InputError, MissingFileError
from specprod.files.opening import open_table
from specprod.files.tree import TILES_HDU, ProductionTree, relative_name
from specprod.files.unpacking import Unpacker
from specprod.loading.pieces import FileLoad
from specprod.model import TABLES, SchemaMixin, table_of
from specprod.production.sizes import INDEX_BYTES, RATES, ROW_BYTES, memory
from specprod.production.stage_files import planned_loads
from specprod.stages import TABLE_NAMES, with_needed

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["Plan", "TablePlan", "files_to_fetch", "plan"]

# Of so many packed files the headers are read, and those of the others are taken to be like them.
_PACKED = 5


@dataclass
class TablePlan:
    """What a table will take.

    Attributes
    ----------
    table : str
    files : int
        Files that are there.
    file_bytes : int
        Their size.
    rows : int
        Rows that their headers say; sky is among them, and is left out.
    estimated : bool
        Whether the rows of some packed files are estimated from those of others.
    more_rows : int
        Rows of files of which only those are loaded that the table lacks.
    table_bytes, index_bytes : int
        Size in the database.
    """

    table: str
    files: int = 0
    file_bytes: int = 0
    rows: int = 0
    estimated: bool = False
    more_rows: int = 0
    table_bytes: int = 0
    index_bytes: int = 0


@dataclass
class Plan:
    """What a load will take.

    Attributes
    ----------
    kind : str
        Of the database: postgresql, sqlite.
    tables : list of TablePlan
    missing : list of str
        Files that are missing or cannot be used, all of them.
    rows, file_bytes, database_bytes : int
        Of all tables; a file that fills two of them counts once.
    memory_bytes : int
    rate : int
        Rows a second.
    seconds : float
    free_bytes : int or None
        Room where the database is kept; None where that cannot be seen.
    """

    kind: str
    rate: int
    tables: list[TablePlan] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    rows: int = 0
    file_bytes: int = 0
    database_bytes: int = 0
    memory_bytes: int = 0
    seconds: float = 0.0
    free_bytes: int | None = None


def plan(
    database: Database,
    tree: ProductionTree,
    *,
    tables: Collection[str] = TABLE_NAMES,
    workers: int = 2,
    rate: int | None = None,
) -> Plan:
    """Estimate what the load of a production will take.

    Only headers are read, and of the tiles file the numbers of the tiles, which say which fiber assignments there are.

    Parameters
    ----------
    database : Database
        It need not be there, and is not connected to.
    tree : ProductionTree
    tables : collection of str
        Some of `specprod.stages.TABLE_NAMES`, and what they need.
    workers : int
    rate : int, optional
        Rows a second; by default what is measured in `specprod.production.sizes`.

    Returns
    -------
    Plan
    """
    found = Plan(database.kind, rate or RATES[database.kind])
    wanted = with_needed(tables)
    tiles, faults = _tiles(tree) if "tile" in wanted else ([], [])
    found.missing += faults
    sizes: dict[Path, int] = {}
    for cls in (cls for cls in TABLES if table_of(cls).name in wanted):
        loads, absent = planned_loads(tree, database, cls, tiles)
        found.missing += [_fault(error, tree) for error in absent]
        found.tables.append(_table_plan(tree, cls, loads, found.missing, sizes))
    # One file fills several tables.
    found.missing = list(dict.fromkeys(found.missing))
    for item in found.tables:
        item.table_bytes = item.rows * ROW_BYTES[database.kind][item.table]
        item.index_bytes = item.rows * INDEX_BYTES[database.kind][item.table]
    found.rows = sum(item.rows for item in found.tables)
    found.file_bytes = sum(sizes.values())
    found.database_bytes = sum(item.table_bytes + item.index_bytes for item in found.tables)
    targets = sum(item.rows for item in found.tables if item.table == "photometry")
    found.memory_bytes = memory(workers, targets)
    found.seconds = found.rows / found.rate
    found.free_bytes = database.free_bytes()
    return found


def _tiles(tree: ProductionTree) -> tuple[list[int], list[str]]:
    """Read the numbers of the tiles, or say why they cannot be read."""
    path = tree.tiles()
    try:
        with open_table(path, TILES_HDU) as reader:
            return sorted(reader.view().integers("TILEID").tolist()), []
    except InputError:
        # What is wrong with the file is said where its rows are counted.
        names = [_name(name, tree) for name in tree.names("fiberassign")]
        return [], [f"{name}: which of them there should be, {_name(path, tree)} would say" for name in names]


def _table_plan(
    tree: ProductionTree, cls: type[SchemaMixin], loads: Sequence[FileLoad], missing: list[str], sizes: dict[Path, int]
) -> TablePlan:
    found = TablePlan(table_of(cls).name)
    for only_new in (False, True):
        rows, estimated = _rows(tree, [load for load in loads if load.only_new == only_new], missing, sizes)
        found.estimated |= estimated
        found.rows, found.more_rows = (found.rows, rows) if only_new else (rows, 0)
    here = {load.path for load in loads if load.path in sizes}
    found.files, found.file_bytes = len(here), sum(sizes[path] for path in here)
    return found


def _rows(
    tree: ProductionTree, loads: Sequence[FileLoad], missing: list[str], sizes: dict[Path, int]
) -> tuple[int, bool]:
    """Count the rows of files by their headers; those of most packed files are estimated."""
    packed = [load for load in loads if load.path.suffix == ".gz"]
    step = -(-len(packed) // _PACKED) or 1
    passed = [load for number, load in enumerate(packed) if number % step]
    rows = read_bytes = read_rows = skipped = 0
    with Unpacker() as unpacker:
        for load in loads:
            try:
                size = load.path.stat().st_size
                if load not in passed:
                    with open_table(load.path, load.hdu, unpacker=unpacker) as reader:
                        rows += reader.nrows
                        if load in packed:
                            read_rows, read_bytes = read_rows + reader.nrows, read_bytes + size
            except OSError as error:
                missing.append(f"{_name(load.path, tree)}: {error.strerror}")
            except InputError as error:
                missing.append(_fault(error, tree))
            else:
                sizes[load.path] = size
                skipped += size if load in passed else 0
    return rows + (round(skipped * read_rows / read_bytes) if read_bytes else 0), bool(passed)


def _fault(error: InputError, tree: ProductionTree) -> str:
    return str(error).replace(f"{tree.root}/", "")


def _name(path: Path, tree: ProductionTree) -> str:
    return relative_name(path, tree.root)


def files_to_fetch(tree: ProductionTree, tables: Collection[str] = TABLE_NAMES) -> list[str]:
    """Name the files of a production that are not there, below its root; where names are not known, by patterns.

    A pattern is named as long as nothing fits it.
    """
    wanted = with_needed(tables)
    tiles = _tiles(tree)[0] if "tile" in wanted else []
    names = [path for table in wanted for path in tree.names(table, tiles) if not _is_there(tree, table, path)]
    return list(dict.fromkeys(path.relative_to(tree.root).as_posix() for path in names))


def _is_there(tree: ProductionTree, table: str, path: Path) -> bool:
    """Whether a file is there, or what may stand in its place."""
    if "*" in path.name:
        return any(path.parent.glob(path.name)) or any(path.parent.glob(f"{path.name}.gz"))
    if "?" in path.name:
        return False
    try:
        if table in ("zpix", "ztile"):
            return bool(tree.redshifts(table))
        if table in ("fiberassign", "potential"):
            return tree.fiberassign(int(path.name[12:18])).is_file()
    except MissingFileError:
        return False
    return path.is_file() or (table in ("photometry", "target") and path.with_name(f"{path.name}.gz").is_file())
