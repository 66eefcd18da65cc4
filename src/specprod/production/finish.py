"""What follows the rows: primary spectra, and the index of the sky."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from specprod.database import primary
from specprod.database.failures import Retries
from specprod.database.keys import refresh_sky_index, warn_without_sky_index
from specprod.database.schema import existing_tables
from specprod.model import TABLES, SchemaMixin, Zpix, Ztile, table_of

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["update_primary", "update_q3c"]

logger = logging.getLogger(__name__)


def update_primary(*, database: Database, retries: Retries | None = None) -> dict[str, int]:
    """Update the primary classification after some number of tiles has been loaded.

    Parameters
    ----------
    database : Database
    retries : Retries, optional

    Returns
    -------
    dict of str to int
        Number of rows of ztile and zpix that were changed.

    Raises
    ------
    DatabaseError
    """
    # A load of some tables may have made one of them only.
    there = _existing(database, (Ztile, Zpix))
    work = {table_of(cls).name: partial(primary.update_primary, database, cls) for cls in there}
    return {name: (retries or Retries()).run(call, f"primary spectra of {name}") for name, call in work.items()}


def update_q3c(*, database: Database, cluster: bool = False, retries: Retries | None = None) -> None:
    """Update the q3c indexes after some number of tiles has been loaded.

    The database keeps an index up to date itself; this builds those that are not there, and gathers statistics.

    Parameters
    ----------
    database : Database
    cluster : bool
        Also rewrite the tables in the order of the sky, which locks them.
    retries : Retries, optional

    Raises
    ------
    DatabaseError
    """
    warn_without_sky_index(database)
    for cls in _existing(database, TABLES):
        if cls.__sky__ is not None:
            refresh_sky_index(database, cls, cluster=cluster, retries=retries)


def _existing(database: Database, classes: Sequence[type[SchemaMixin]]) -> list[type[SchemaMixin]]:
    with database.turn, database.connect() as connection:
        return existing_tables(database, connection, classes)
