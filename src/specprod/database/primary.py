"""Which spectrum of a target is the best one: computed in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from specprod.database.failures import translated
from specprod.model import SchemaMixin, table_of

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["PRIMARY_COLUMNS", "update_primary"]

#: Prefix of the columns, and the surveys over which they count; None stands for all.
_GROUPS: dict[str, tuple[str, ...] | None] = {"zcat": None, "sv": ("sv1", "sv2", "sv3"), "main": ("main",)}

#: Columns of zpix and ztile that depend on all rows of a target; a load of some rows cannot know them.
PRIMARY_COLUMNS: Final = tuple(f"{prefix}_{what}" for prefix in _GROUPS for what in ("nspec", "primary"))


def update_primary(database: Database, cls: type[SchemaMixin], connection: sa.Connection | None = None) -> int:
    """Recompute the columns nspec and primary of a redshift table.

    Among the rows of a TARGETID those with ZWARN 0 come first, then those with the highest TSNR2_LRG; of equal ones
    that with the lowest id, so that the choice does not depend on the order of the load. Rows of other surveys than a
    group counts have 0 and false.

    Parameters
    ----------
    database : Database
    cls : class
        Zpix or Ztile.
    connection : sqlalchemy.Connection, optional
        Whose transaction to join; by default one of its own.

    Returns
    -------
    int
        Number of rows that were changed; the others are not written.
    """
    if connection is None:
        with translated(), database.begin() as own:
            return update_primary(database, cls, own)
    database.prepare_for_queries(connection)
    table = table_of(cls)
    best = (sa.case((table.c.zwarn == 0, 0), else_=1), table.c.tsnr2_lrg.desc(), table.c.id)
    group = sa.case((table.c.survey == "main", "main"), (table.c.survey.in_(_GROUPS["sv"] or ()), "sv"), else_="other")
    # A row is found again by its place, which is shorter than its id and in the order of the table.
    place = database.row_place(table.name)
    computed: list[sa.ColumnElement[Any]] = [place.label("place")]
    for prefix, surveys in _GROUPS.items():
        partition = [table.c.targetid] if surveys is None else [table.c.targetid, group]
        count = sa.func.count().over(partition_by=partition)
        first = sa.func.row_number().over(partition_by=partition, order_by=best) == 1
        inside = sa.true() if surveys is None else table.c.survey.in_(surveys)
        computed.append(sa.cast(sa.case((inside, count), else_=0), sa.SmallInteger).label(f"{prefix}_nspec"))
        computed.append(sa.and_(inside, first).label(f"{prefix}_primary"))
    new = sa.select(*computed).subquery("new")
    changed = sa.or_(*(table.c[name].is_distinct_from(new.c[name]) for name in PRIMARY_COLUMNS))
    statement = (
        sa.update(table).values({name: new.c[name] for name in PRIMARY_COLUMNS}).where(place == new.c.place, changed)
    )
    return int(connection.execute(statement).rowcount)
