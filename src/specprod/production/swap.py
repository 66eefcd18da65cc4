"""A load beside what is there, put in its place when it is complete."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from specprod.database.failures import translated
from specprod.errors import SchemaError
from specprod.loading.execution import Execution, check_production

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["swapped"]

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def swapped(database: Database, job: Execution, *, keep_old: bool = False) -> Iterator[Database]:
    """Hold a database, and give the one beside it for a load; at the end of the block it takes the place of the first.

    If the block ends by an error, or the process does, the first is as it was, and the next load goes on beside it.

    Parameters
    ----------
    database : Database
        Its readers find all of the former tables or all of the new ones, at every moment.
    job : Execution
        What is loaded; it must be the production that the database holds.
    keep_old : bool
        Whether the former tables are kept, under the name that `Database.kept` gives.

    Raises
    ------
    SchemaError
        If things of others depend on the former tables.
    LockedError, LedgerError
    """
    with database.locked(), database.loading() as loading:
        with translated():
            if database.is_there():
                check_production(database, job)
            # Better now than after the load.
            if names := database.dependents():
                raise SchemaError(f"{database.place} cannot be replaced, for others depend on it: {', '.join(names)}")
        with loading.locked():
            yield loading
            logger.info("%s is complete, and takes the place of %s", loading.place, database.place)
            with translated():
                database.replace_by(loading, keep_old=keep_old)
