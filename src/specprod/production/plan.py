"""What a load will take, and which files are missing: from the headers of files, before anything is loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from specprod.errors import InputError, MissingFileError
from specprod.files.opening import open_table
from specprod.files.tree import TILES_HDU, ProductionTree, relative_name, with_or_without_gz
from specprod.files.unpacking import Unpacker
from specprod.loading.filters import not_sky
from specprod.loading.pieces import FileLoad
from specprod.model import TABLES, SchemaMixin, table_of
from specprod.production.speed import measured_rate
from specprod.production.stage_files import planned_loads
from specprod.stages import TABLE_NAMES, with_needed

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["Plan", "TablePlan", "files_to_fetch", "plan"]

# Of so many packed files the headers are read, and those of the others are taken to be like them.
_LOOKED_INTO = 5
# What the share of sky is, which is left out (in POTENTIAL_ASSIGNMENTS six of seven rows), no header says: so many
# pieces of so many files are looked at, each of so many rows.
_SAMPLES, _SAMPLE = 3, 2000


#: Peak memory of a process that loads, measured with one worker, and what each further worker takes.
_PROCESS, _OF_WORKER = 160_000_000, 15_000_000
#: Up to so many TARGETIDs are held; they are sorted, so that they are there twice for a moment.
_TARGETS = 2_000_000


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
    file_rows : int
        Rows that their headers say.
    rows : int
        Rows that the table will have.
    estimated : bool
        Whether these are estimated: rows of packed files from those of others, the share of sky from samples.
    more_rows : int
        Rows of files of which only those are loaded that the table lacks.
    table_bytes, index_bytes : int
        Size in the database.
    """

    table: str
    files: int = 0
    file_bytes: int = 0
    file_rows: int = 0
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

    Headers are read and next to no rows: of the tiles file the numbers of the tiles, which say which fiber assignments
    there are, and some thousand TARGETIDs of a few files, which say how much of them is sky.

    Parameters
    ----------
    database : Database
        It need not be there, and is not connected to.
    tree : ProductionTree
    tables : collection of str
        Some of `specprod.stages.TABLE_NAMES`, and what they need.
    workers : int
    rate : int, optional
        Rows a second; by default what `specprod.production.speed.measured_rate` finds of this machine.

    Returns
    -------
    Plan
    """
    found = Plan(database.kind, rate or measured_rate(database.sizes.rate))
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
        item.table_bytes = item.rows * database.sizes.row_bytes[item.table]
        item.index_bytes = item.rows * database.sizes.index_bytes[item.table]
    found.rows = sum(item.rows for item in found.tables)
    found.file_bytes = sum(sizes.values())
    found.database_bytes = sum(item.table_bytes + item.index_bytes for item in found.tables)
    targets = sum(item.rows for item in found.tables if item.table == "photometry")
    found.memory_bytes = _memory(workers, targets)
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
    whole, rest = (_Rows([load for load in loads if load.only_new == new]) for new in (False, True))
    for part in (whole, rest):
        missing += [_fault(error, tree) for error in part.count(sizes)]
    found.file_rows, found.rows, found.more_rows = whole.rows, round(whole.rows * whole.share), rest.rows
    found.estimated = bool(whole.passed) or whole.share < 1
    here = {load.path for load in loads if load.path in sizes}
    found.files, found.file_bytes = len(here), sum(sizes[path] for path in here)
    return found


class _Rows:
    """Rows of files: as their headers say, of most packed files as others of them let expect.

    Attributes
    ----------
    rows : int
    share : float
        Of these, what is not sky, by samples of some files; 1 where no rows are left out.
    passed : list of FileLoad
        Packed files that were not looked into.
    """

    def __init__(self, loads: Sequence[FileLoad]) -> None:
        packed = [load for load in loads if load.path.suffix == ".gz"]
        step = -(-len(packed) // _LOOKED_INTO) or 1
        self._loads = loads
        self.passed = [load for number, load in enumerate(packed) if number % step]
        self._packed = [load for load in packed if load not in self.passed]
        step = -(-(len(loads) - len(self.passed)) // _LOOKED_INTO) or 1
        self._sampled = [load for load in loads if load.row_filter is not_sky and load not in self.passed][::step]
        self._kept = self._seen = 0
        self.rows = 0

    @property
    def share(self) -> float:
        """Share of the rows that is not sky."""
        return self._kept / self._seen if self._seen else 1.0

    def count(self, sizes: dict[Path, int]) -> list[InputError]:
        """Count rows, note the sizes of files, and give what is wrong with the others."""
        faults: list[InputError] = []
        packed_rows = packed_bytes = passed_bytes = 0
        with Unpacker() as unpacker:
            for load in self._loads:
                try:
                    size = with_or_without_gz(load.path).stat().st_size
                    rows = 0 if load in self.passed else self._look_into(load, unpacker)
                except InputError as error:
                    faults.append(error)
                    continue
                sizes[load.path] = size
                self.rows += rows
                passed_bytes += size if load in self.passed else 0
                if load in self._packed:
                    packed_rows, packed_bytes = packed_rows + rows, packed_bytes + size
        self.rows += round(passed_bytes * packed_rows / packed_bytes) if packed_bytes else 0
        return faults

    def _look_into(self, load: FileLoad, unpacker: Unpacker) -> int:
        with open_table(load.path, load.hdu, unpacker=unpacker) as reader:
            if load in self._sampled:
                for place in range(_SAMPLES):
                    start = max(0, (reader.nrows - _SAMPLE) * place // (_SAMPLES - 1))
                    piece = reader.view(start, min(start + _SAMPLE, reader.nrows))
                    self._kept, self._seen = self._kept + not_sky(piece).size, self._seen + piece.nrows
            return reader.nrows


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


def _memory(workers: int, targets: int) -> int:
    """Estimate the peak memory of a load in bytes; beyond two million targets it depends on no size of a file."""
    return _PROCESS + workers * _OF_WORKER + 16 * min(targets, _TARGETS)
