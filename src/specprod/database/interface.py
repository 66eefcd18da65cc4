"""A database with a production in it: what all kinds of databases have in common, and what each of them knows itself.

Whoever uses a database uses this interface, and does not ask which kind it is; `specprod.database.postgresql` and
`specprod.database.sqlite` have one class each that fills it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from specprod.database import cone
from specprod.database.catalogue import Keys
from specprod.database.connections import Connections
from specprod.database.ddl import Statements
from specprod.database.matching import Matcher
from specprod.database.misfits import Misfits
from specprod.database.naming import Names
from specprod.database.sizes import Sizes
from specprod.database.writing import Writer
from specprod.model import Classes, SchemaMixin
from specprod.model.converting import Columns

__all__ = ["Database"]


class Database(Connections):
    """A database, or a schema of one, that holds a production.

    `specprod.connect` makes it.

    Parameters
    ----------
    url : sqlalchemy.engine.URL
        After `specprod.database.connection.database_url`.
    schema : str, optional
        Schema of the production, where the database has schemas.
    create : bool
        Whether a file that does not exist is made. A server's databases are never made here.
    readonly : bool
        Whether nothing can be written.

    Attributes
    ----------
    url : sqlalchemy.engine.URL
    schema : str or None
    engine : sqlalchemy.engine.Engine
        Statements on the tables of `specprod.model` go to the schema of this database.
    turn : context manager
        What threads of a load hold while they use the database; where several write at a time, it does nothing.
    statements : Statements
        That make tables, keys and indexes.
    """

    sizes: ClassVar[Sizes]  #: What rows take.
    #: Whether one connection writes at a time, so that others had better not begin meanwhile.
    one_writer: ClassVar[bool]
    #: Whether the place of a row (`row_place`) is its number in the order in which the rows of the table came.
    numbered_rows: ClassVar[bool]

    def __init__(self, url: URL, schema: str | None = None, *, create: bool = False, readonly: bool = False) -> None:
        super().__init__(url, schema, create=create, readonly=readonly)
        self.names = Names(self.engine.dialect.identifier_preparer, schema)
        self.statements = self._make_statements()

    @abstractmethod
    def _make_statements(self) -> Statements:
        """Make the statements of this kind."""

    @property
    def classes(self) -> Classes:
        """The classes of the tables, by name."""
        return Classes()

    def hold_tables(self, connection: Connection, writing: Sequence[str], reading: Sequence[str] = ()) -> None:
        """Let nobody else write to tables until the end of the transaction, to which it writes, or which it reads."""

    def prepare_for_queries(self, connection: Connection) -> None:
        """Give a transaction the memory that joins and sorts of whole tables take."""

    def prepare_for_builds(self, connection: Connection) -> None:
        """Give a session the memory and the processes that building indexes takes."""

    def beside(self, schema: str) -> Database:
        """Give another schema of the same database; for a file the file itself, on connections of its own."""
        other = type(self)(self.url, schema, create=self.create, readonly=self.readonly)
        if other.schema == self.schema:
            other._held = self._held
        return other

    # ---- a load beside, put in the place of the one before

    def is_there(self) -> bool:
        """Whether there is what can be connected to: a file may be yet to be made."""
        return True

    @abstractmethod
    def loading(self) -> Database:
        """Give what is beside this schema, or file, for a load that is to take its place: its name and ``loading``."""

    @abstractmethod
    def kept(self) -> str:
        """Name what the present content is kept as when it is replaced."""

    @abstractmethod
    def dependents(self) -> list[str]:
        """Name what is elsewhere and depends on this schema, or keeps the file from being replaced."""

    @abstractmethod
    def replace_by(self, loading: Database, *, keep_old: bool) -> None:
        """Put what was loaded beside in the place of what is here, in one step, with the rights that this has.

        Parameters
        ----------
        loading : Database
            Of `loading`; nobody is connected to it by this object any more.
        keep_old : bool
            Whether what is here is kept beside, in the place of what was kept before; else it is dropped.

        Raises
        ------
        SchemaError
            If things of others would be lost; nothing is changed, and the message names them.
        LockedError
            If somebody uses the tables for too long.
        """

    def free_bytes(self) -> int | None:
        """Tell how much room there is where the tables are kept; None where that cannot be seen from here."""
        return None

    # ---- names

    def name(self, table: type[SchemaMixin] | str) -> str:
        """Full name of a table or index of this schema, quoted for SQL."""
        return self.names.name(table)

    def quote(self, identifier: str) -> str:
        """Quote an identifier for SQL."""
        return self.names.quote(identifier)

    @abstractmethod
    def row_place(self, table: str) -> sa.ColumnElement[Any]:
        """Give the column that says where a row of a table stands, for statements that find it again."""

    # ---- columns in and out

    @abstractmethod
    def writer(self, cls: type[SchemaMixin]) -> Writer:
        """Make the bulk writer of a table."""

    @abstractmethod
    def fetch(
        self,
        connection: Connection,
        cls: type[SchemaMixin],
        keys: npt.NDArray[Any] | None = None,
        *,
        names: Sequence[str] | None = None,
        misfits: Misfits | None = None,
        batch: int | None = None,
    ) -> Iterator[Columns]:
        """Yield all rows of a table, or those of some keys, as columns; 128-bit ids as 39 digits of text.

        Parameters
        ----------
        connection : sqlalchemy.Connection
        cls : class
            The table.
        keys : numpy.ndarray, optional
            Values of the primary key, as `specprod.survey.identifiers.comparable` gives them.
        names : sequence of str, optional
            Some of the columns.
        misfits : Misfits, optional
            Takes the rows that have values that their columns cannot hold, such as NULL, or text in a column of
            numbers; without it the first one is an error.
        batch : int, optional
            Rows at a time, some thousand by default.

        Yields
        ------
        dict of str to numpy.ndarray
            In no particular order.

        Raises
        ------
        DatabaseError
        """

    def matcher(self, connection: Connection, cls: type[SchemaMixin], names: Sequence[str]) -> Matcher | None:
        """Make what compares rows with those of a table within the database; None where it had better be read.

        Parameters
        ----------
        connection : sqlalchemy.Connection
        cls : class
            The table.
        names : sequence of str
            The columns that are compared, the key among them.
        """
        return None

    @abstractmethod
    def fetch_integers(self, connection: Connection, cls: type[SchemaMixin], column: str) -> npt.NDArray[np.int64]:
        """Read one column of integers, in ascending order; it must be unique."""

    @abstractmethod
    def as_rows(self, values: npt.NDArray[Any]) -> tuple[str, tuple[str]]:
        """Make rows of values.

        Parameters
        ----------
        values : numpy.ndarray
            Integers, `INT128`, or what `specprod.survey.identifiers.comparable` makes of these.

        Returns
        -------
        source : str
            For the FROM of a statement that `exec_driver_sql` takes: the rows ``wanted (value)``.
        parameters : tuple
            Its parameters.
        """

    @abstractmethod
    def create_temporary(self, connection: Connection, table: str, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Create an empty temporary table for columns of integers of 64 or 128 bits; the first one is unique."""

    @abstractmethod
    def insert_values(self, connection: Connection, table: str, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Insert columns of integers into a temporary table."""

    # ---- schema, keys

    @abstractmethod
    def keys(self, connection: Connection) -> Keys:
        """Ask the catalogue which keys and indexes there are."""

    def declare_references(self, connection: Connection, cls: type[SchemaMixin], names: Collection[str]) -> None:
        """Make references part of a table that was created without them, where they are part of tables.

        Parameters
        ----------
        connection : sqlalchemy.Connection
        cls : class
            The table.
        names : collection of str
            Of references; those that are there already are left as they are.
        """

    def create_schema(self, connection: Connection) -> None:
        """Create the schema, where there is such a thing and it is not there."""

    def check_roles(self, connection: Connection, roles: Sequence[str]) -> None:
        """Make sure that roles exist, where there are such.

        Raises
        ------
        SchemaError
            If one does not; the message names it.
        """

    def grant(self, connection: Connection, roles: Sequence[str], tables: Sequence[str]) -> None:
        """Let roles read some tables of the schema, where there are roles."""

    def cluster(self, connection: Connection, cls: type[SchemaMixin], index: str) -> None:
        """Rewrite a table in the order of an index, where the database can."""

    #: Whether it can.
    clusters: ClassVar[bool] = False

    def missing_extension(self) -> str | None:
        """Say what the database lacks for an index of the sky, and what follows; None if nothing."""
        return None

    # ---- searches

    def within(self, table: type[SchemaMixin], ra: Any, dec: Any = None, radius: Any = None) -> sa.ColumnElement[bool]:
        """Make the condition that an object lies within a circle on the sky, its edge included, for ``where()``.

        Parameters
        ----------
        table : class
            Photometry, Tile, Exposure, Fiberassign, or, by the mean position of the fiber, Zpix or Ztile.
        ra, dec, radius : float or Quantity
            Centre and radius; numbers are degrees, ICRS. A SkyCoord stands for the first two.

        Raises
        ------
        ConfigurationError
            If the table has no positions, or the circle is none.
        """
        return self._within(table, cone.as_circle(ra, dec, radius))

    @abstractmethod
    def _within(self, table: type[SchemaMixin], circle: cone.Circle) -> sa.ColumnElement[bool]:
        """Make the condition, as an index serves it."""

    insert: ClassVar[Callable[..., Any]]  #: Makes INSERT statements that take ON CONFLICT, of SQLAlchemy's dialect.
