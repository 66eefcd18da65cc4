"""The repair itself: count, back up, update, check, all in one transaction; and its undoing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from specprod.coeff.tables import COEFFICIENTS, FIXES
from specprod.database.failures import Retries
from specprod.database.keys import missing_key
from specprod.database.schema import create_tables, drop_tables, existing_tables
from specprod.errors import ConfigurationError, DatabaseError, SchemaError
from specprod.model import SchemaMixin, table_of

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["Applied", "PatchCounts", "apply_patch", "compare", "require_agreement", "undo_patch"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchCounts:
    """Numbers of rows of a production's table, of its patch, and of both joined by id.

    Attributes
    ----------
    table : str
    production, patch, joined : int
    differing : int or None
        Joined rows of which a coefficient differs, None if they were not counted.
    """

    table: str
    production: int
    patch: int
    joined: int
    differing: int | None = None

    @property
    def agree(self) -> bool:
        """Whether every row has its patch, and every patch its row."""
        return self.production == self.patch == self.joined


@dataclass(frozen=True)
class Applied:
    """What the repair did, or would do, to a table.

    Attributes
    ----------
    table : str
    rows : int
        Rows of the table.
    changed : int
        Rows whose coefficients were replaced.
    saved : int or None
        Rows whose old coefficients were kept, None without a backup.
    """

    table: str
    rows: int
    changed: int
    saved: int | None = None


class _Fixer:
    """The statements of the repair of one table.

    Parameters
    ----------
    patches : Database
        The schema of the patch tables; that of the production is the one to which the connection translates.
    name : str
        zpix or ztile.
    """

    def __init__(self, patches: Database, name: str) -> None:
        self.name = name
        self.patches = patches
        self.fix = FIXES[name]
        self.production = table_of(self.fix.production)
        self.patch = self._placed(self.fix.patch)
        self.backup = self._placed(self.fix.backup)
        self._match = self.production.c.id == self.patch.c.id

    def _placed(self, cls: type[SchemaMixin]) -> sa.Table:
        table = table_of(cls)
        return table.to_metadata(sa.MetaData(), schema=self.patches.schema) if self.patches.schema else table

    def require(self, database: Database, connection: Connection) -> None:
        """Raise unless the table and its patch are there, and the patch is loaded to its end."""
        if not existing_tables(database, connection, [self.fix.production]):
            raise SchemaError(f"there is no table {database.name(self.production.name)}")
        if not existing_tables(self.patches, connection, [self.fix.patch]):
            raise SchemaError(
                f"there is no table {self.patches.name(self.fix.patch)}; specprod-load coeff-fix load makes it"
            )
        if missing_key(self.patches, connection, self.fix.patch):
            raise SchemaError(f"the load of table {self.patches.name(self.fix.patch)} did not end; load it again")

    def has_backup(self, connection: Connection) -> bool:
        """Whether there is a backup."""
        return bool(existing_tables(self.patches, connection, [self.fix.backup]))

    def lock(self, database: Database, connection: Connection) -> None:
        """Let nobody but us change the tables until the end of the transaction; they can still be read."""
        database.hold_tables(
            connection, [database.name(self.fix.production)], reading=[self.patches.name(self.fix.patch)]
        )

    def counts(self, connection: Connection) -> PatchCounts:
        """Count the rows; of the joined ones, the indexes of the ids are all that is read.

        A patch usually has the order of its table. Where rows have numbers, those of one id are then found by their
        number as well, which takes half of the time: so they are in all that follows, if that is so of every row.
        """
        production, patch = (self.rows(connection, table) for table in (self.production, self.patch))
        if self.patches.numbered_rows and production == patch:
            place, other = (self.patches.row_place(table.name) for table in (self.production, self.patch))
            numbered = self._match & (place == other)
            if self.rows(connection, self.production.join(self.patch, numbered)) == production:
                self._match = numbered
                return PatchCounts(self.name, production, patch, production)
        return PatchCounts(self.name, production, patch, self.rows(connection, self._joined))

    @property
    def _joined(self) -> sa.Join:
        return self.production.join(self.patch, self._match)

    @staticmethod
    def rows(connection: Connection, table: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> int:
        """Count the rows of a table, or those for which something holds."""
        return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*conditions)).scalar_one())

    def differing(self, connection: Connection) -> int:
        """Count the joined rows of which a coefficient differs."""
        return self.rows(connection, self._joined, _differ(self.production, self.patch))

    def save(self, connection: Connection) -> int:
        """Keep the coefficients that are about to change, and return the number of rows."""
        create_tables(self.patches, connection, [self.fix.backup])
        names = ["id", *COEFFICIENTS]
        old = sa.select(*(self.production.c[name] for name in names)).where(
            self._match, _differ(self.production, self.patch)
        )
        connection.execute(self.backup.insert().from_select(names, old))
        key = self.patches.statements.primary_key(self.fix.backup)
        if key is not None:
            connection.exec_driver_sql(key[1])
        return self.rows(connection, self.backup)

    def copy_from(self, connection: Connection, source: sa.Table) -> int:
        """Set the coefficients of the rows that differ from another table's, and return the number of rows."""
        match = self._match if source is self.patch else self.production.c.id == source.c.id
        statement = (
            sa.update(self.production)
            .values({name: source.c[name] for name in COEFFICIENTS})
            .where(match, _differ(self.production, source))
        )
        return int(connection.execute(statement).rowcount)

    def changed_since(self, connection: Connection) -> int:
        """Count the rows of the backup that no longer have the values of the patch, or are gone."""
        joined = self.backup.outerjoin(self.production, self.backup.c.id == self.production.c.id)
        joined = joined.outerjoin(self.patch, self.backup.c.id == self.patch.c.id)
        gone = self.production.c.id.is_(None) | self.patch.c.id.is_(None)
        return self.rows(connection, joined, gone | _differ(self.production, self.patch))


def _differ(one: sa.Table, other: sa.Table) -> sa.ColumnElement[bool]:
    return sa.or_(*(one.c[name].is_distinct_from(other.c[name]) for name in COEFFICIENTS))


def _fixers(patches: Database, tables: Sequence[str]) -> list[_Fixer]:
    unknown = [name for name in tables if name not in FIXES]
    if unknown or not tables:
        raise ConfigurationError(f"unknown table {', '.join(unknown)!r}; expected some of {', '.join(FIXES)}")
    return [_Fixer(patches, name) for name in tables]


def compare(database: Database, patches: Database, tables: Sequence[str] = tuple(FIXES)) -> list[PatchCounts]:
    """Count the rows of tables, of their patches, and of both joined.

    Parameters
    ----------
    database : Database
        The production.
    patches : Database
        The schema of the patch tables in the same database; for SQLite the same file.
    tables : sequence of str
        Some of zpix, ztile.

    Returns
    -------
    list of PatchCounts

    Raises
    ------
    SchemaError
        If a table is not there.
    """
    return Retries().run(lambda: _compare(database, patches, tables), "counts")


def _compare(database: Database, patches: Database, tables: Sequence[str]) -> list[PatchCounts]:
    with database.begin() as connection:
        database.prepare_for_queries(connection)
        result = []
        for fixer in _fixers(patches, tables):
            fixer.require(database, connection)
            counts = fixer.counts(connection)
            result.append(replace(counts, differing=fixer.differing(connection)))
        return result


def require_agreement(counts: Sequence[PatchCounts]) -> None:
    """Raise unless every row has its patch and every patch its row.

    Raises
    ------
    DatabaseError
        That names the tables and the numbers.
    """
    wrong = [
        f"{item.table} has {item.production} rows, its patch {item.patch}, and {item.joined} have the same id"
        for item in counts
        if not item.agree
    ]
    if wrong:
        raise DatabaseError(f"the patch does not fit the production: {'; '.join(wrong)}; nothing was changed")


def apply_patch(
    database: Database,
    patches: Database,
    tables: Sequence[str] = tuple(FIXES),
    *,
    backup: bool = False,
    dry_run: bool = False,
    retries: Retries | None = None,
) -> list[Applied]:
    """Replace the coefficients of a production by those of its patch, in one transaction.

    The rows are counted before, only those that differ are written, and afterwards none may differ. Meanwhile the
    tables can be read, and nobody else can write them.

    Parameters
    ----------
    database, patches, tables
        See `compare`.
    backup : bool
        Keep the old coefficients of the rows that change, in a table zpixbackup or ztilebackup beside the patch.
    dry_run : bool
        Only count.
    retries : Retries, optional

    Returns
    -------
    list of Applied
        A second call changes no row.

    Raises
    ------
    DatabaseError
        If the numbers of rows disagree, a backup is there that would be replaced, or a row differs afterwards. The
        database is then as it was.
    """
    if dry_run:
        counts = compare(database, patches, tables)
        require_agreement(counts)
        return [Applied(item.table, item.production, item.differing or 0) for item in counts]

    def transaction() -> list[Applied]:
        with database.begin(durable=True) as connection:
            return _apply(database, connection, _fixers(patches, tables), backup)

    with database.locked():
        return (retries or Retries()).run(transaction, "coefficient fix")


def _apply(database: Database, connection: Connection, fixers: Sequence[_Fixer], backup: bool) -> list[Applied]:
    _begin(database, connection, fixers)
    before = [fixer.counts(connection) for fixer in fixers]
    require_agreement(before)
    result = []
    for fixer, counts in zip(fixers, before, strict=True):
        saved = None
        if backup and (differing := fixer.differing(connection)):
            if fixer.has_backup(connection):
                raise SchemaError(
                    f"table {fixer.patches.name(fixer.fix.backup)} holds the backup of an earlier fix; undo that fix, "
                    "or drop the table; nothing was changed"
                )
            saved = fixer.save(connection)
            if saved != differing:
                raise DatabaseError(f"{saved} rows of {fixer.name} were kept, {differing} differ; nothing was changed")
        changed = fixer.copy_from(connection, fixer.patch)
        result.append(Applied(fixer.name, counts.production, changed, saved))
        logger.info("%s: %d of %d rows changed", fixer.name, changed, counts.production)
    for fixer in fixers:
        left = fixer.differing(connection)
        if left:
            raise DatabaseError(f"{left} rows of {fixer.name} differ after the fix; it was rolled back")
    return result


def _begin(database: Database, connection: Connection, fixers: Sequence[_Fixer]) -> None:
    """Make sure that the tables are there, and hold them."""
    database.prepare_for_queries(connection)
    for fixer in fixers:
        fixer.require(database, connection)
        fixer.lock(database, connection)


def undo_patch(
    database: Database, patches: Database, tables: Sequence[str] | None = None, *, retries: Retries | None = None
) -> list[Applied]:
    """Restore the coefficients that `apply_patch` kept, in one transaction, and drop their backup.

    Parameters
    ----------
    database, patches
        See `compare`.
    tables : sequence of str, optional
        Some of zpix, ztile; by default those that have a backup.
    retries : Retries, optional

    Returns
    -------
    list of Applied

    Raises
    ------
    SchemaError
        If there is no backup.
    DatabaseError
        If rows of the backup no longer have the values of the patch: somebody changed them since. The database is then
        as it was.
    """

    def transaction() -> list[Applied]:
        with database.begin(durable=True) as connection:
            return _undo(database, connection, _fixers(patches, tables or tuple(FIXES)), tables is None)

    with database.locked():
        return (retries or Retries()).run(transaction, "undoing of the coefficient fix")


def _undo(database: Database, connection: Connection, fixers: Sequence[_Fixer], some: bool) -> list[Applied]:
    with_backup = [fixer for fixer in fixers if fixer.has_backup(connection)]
    missing = [fixer.patches.name(fixer.fix.backup) for fixer in fixers if fixer not in with_backup]
    if missing and not (some and with_backup):
        raise SchemaError(f"there is no backup {' nor '.join(missing)}; coeff-fix apply --backup makes one")
    _begin(database, connection, with_backup)
    result = []
    for fixer in with_backup:
        changed = fixer.changed_since(connection)
        if changed:
            raise DatabaseError(
                f"{changed} rows of {fixer.name} no longer have the values of the patch; nothing was restored"
            )
        rows = fixer.rows(connection, fixer.production)
        restored = fixer.copy_from(connection, fixer.backup)
        drop_tables(fixer.patches, connection, [fixer.fix.backup])
        result.append(Applied(fixer.name, rows, restored))
    return result
