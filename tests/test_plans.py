"""What people ask of a loaded production is answered by the indexes that it has, as both databases themselves say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import func, select

from specprod import connect
from specprod.database import Database
from specprod.database.keys import build_indexes
from specprod.load import Exposure, Fiberassign, Photometry, Target, Tile, Zpix, Ztile, setup_db
from specprod.survey.identifiers import zpixid
from support.server import Server
from support.survey import FIBERS, TILES, fill

TARGET = 39627641351079036 + 30
_MINE = np.arange(TARGET, TARGET + 2000, 10)


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def database(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    if request.param == "sqlite":
        target = str(tmp_path_factory.mktemp("plans") / "plans.db")
    else:
        target = server.create_database("plans")
    with setup_db(database=connect(target, schema="p", create=True), keys=False) as opened:
        fill(opened)
        yield opened
    server.drop_database("plans")


def plan(database: Database, query: Any) -> tuple[set[str], set[str], int]:
    """Indexes that a query is searched by, tables that it reads from end to end, and the number of its rows."""
    said: list[tuple[str, Any]] = []

    def listen(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        said.append((statement, parameters))

    with database.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", listen)
        rows = len(connection.execute(query).all())
        sa.event.remove(connection, "before_cursor_execute", listen)
        ((statement, parameters),) = (item for item in said if item[0].startswith("SELECT"))
        if database.kind == "sqlite":
            lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            text = "\n".join(line[3] for line in lines).replace("main.", "")
            searched = re.findall(r"SEARCH \S+ USING (?:COVERING )?INDEX (\S+)", text)
            by_key = re.findall(r"SEARCH (\S+) USING INTEGER PRIMARY KEY", text)
            return {*searched, *(f"{table}_pkey" for table in by_key)}, set(re.findall(r"SCAN (\S+)", text)), rows
        found = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    nodes = list(_nodes(found[0]["Plan"]))
    searched = {node["Index Name"] for node in nodes if "Index Cond" in node}
    read = {node["Relation Name"] for node in nodes if "Relation Name" in node and "Scan" in node["Node Type"]}
    by_index = {node["Relation Name"] for node in nodes if node["Node Type"].startswith(("Index", "Bitmap Heap"))}
    return searched, read - by_index, rows


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def sky(table: str, database: Database) -> str:
    return f"ix_{table}_{'sky' if database.kind == 'sqlite' else 'q3c_ang2ipix'}"


def own_table(database: Database) -> sa.Table:
    """Some hundred galaxies of one's own, each with an ellipse around it."""
    mine = sa.table("mine", sa.column("targetid"), sa.column("ra"), sa.column("dec"), sa.column("axis"))
    with database.begin() as connection:
        temporary = sa.Table(
            "mine", sa.MetaData(), sa.Column("targetid", sa.BigInteger), sa.Column("ra", sa.Double),
            sa.Column("dec", sa.Double), sa.Column("axis", sa.Double),
        )  # fmt: skip
        connection.execute(sa.schema.CreateTable(temporary, if_not_exists=True))
        connection.execute(sa.delete(temporary))
        query = select(Photometry.targetid, Photometry.ra, Photometry.dec, sa.literal(0.5))
        connection.execute(sa.insert(temporary).from_select(list(mine.c.keys()), query.limit(100)))
        if database.kind == "postgresql":
            connection.exec_driver_sql(f"ANALYZE {database.name('mine')}")
    return temporary


def ellipse(mine: sa.Table) -> Any:
    """Within its long axis north and south, half of it east and west."""
    north, east = Fiberassign.target_dec - mine.c.dec, Fiberassign.target_ra - mine.c.ra
    return north * north + 4 * east * east < mine.c.axis * mine.c.axis


def centre(database: Database, cls: Any, ra: Any, dec: Any) -> tuple[float, float]:
    """A position that has something."""
    with database.session() as session:
        return session.execute(select(ra, dec).order_by(*sa.inspect(cls).primary_key).limit(1)).one()._tuple()


def cone(database: Database, cls: Any) -> Any:
    ra, dec = (sa.inspect(cls).columns[name] for name in cls.__sky__)
    return database.within(cls, *centre(database, cls, ra, dec), 0.2)


#: The acceptance set: the query, the indexes that it has to be searched by in both databases (or one of some), and the
#: tables of many rows that it may read from end to end, because it asks for a large part of their rows.
QUERIES: dict[str, tuple[Callable[[Database], Any], list[str | tuple[str, ...]], set[str]]] = {
    "1 count of tiles": (lambda _: select(func.count()).select_from(Tile), [], set()),
    "2 nights and exposures of a tile": (
        lambda _: select(Exposure.night, Exposure.expid).where(Exposure.tileid == 100),
        ["ix_exposure_tileid"],
        set(),
    ),
    "3 tiles, surveys, programs of a night": (
        lambda _: (
            select(Tile.tileid, Tile.survey, Tile.program)
            .join(Exposure, Exposure.tileid == Tile.tileid)
            .where(Exposure.night == 20210520)
            .distinct()
        ),
        ["ix_exposure_night"],
        set(),
    ),
    "4 targets with a bit": (
        lambda _: select(Target.targetid).where(Target.desi_target.bitwise_and(4) != 0),
        [],
        {"target"},
    ),
    "5 stars with a subtype": (
        lambda _: select(Zpix.targetid, Zpix.subtype).where(Zpix.spectype == "STAR", Zpix.subtype != ""),
        [("ix_zpix_spectype", "ix_zpix_subtype")],
        set(),
    ),
    "6 fiberassign and exposures of a target": (
        lambda _: (
            select(Fiberassign.location, Exposure.expid)
            .join(Exposure, Exposure.tileid == Fiberassign.tileid)
            .where(Fiberassign.targetid == TARGET)
        ),
        ["ix_fiberassign_targetid", "ix_exposure_tileid"],
        set(),
    ),
    "7 photometry with redshifts of sv1 dark": (
        lambda _: (
            select(Zpix.z, Photometry.flux_g)
            .join(Photometry, Photometry.targetid == Zpix.targetid)
            .where(Zpix.survey == "sv1", Zpix.program == "dark")
            .order_by(Zpix.z, Photometry.flux_g)
        ),
        [("ix_zpix_survey", "ix_zpix_program"), "photometry_pkey"],
        set(),
    ),
    "8 targets on more than two tiles, with exposures": (
        lambda _: (
            select(Fiberassign.targetid, Exposure.expid)
            .join(Exposure, Exposure.tileid == Fiberassign.tileid)
            .where(
                Fiberassign.targetid.in_(
                    select(Target.targetid).group_by(Target.targetid).having(func.count(Target.tileid.distinct()) > 2)
                )
            )
        ),
        [],
        {"target", "fiberassign"},
    ),
    "9 redshifts of many targets, the primary ones": (
        lambda _: select(Zpix.targetid, Zpix.z).where(Zpix.targetid.in_(_MINE), Zpix.zcat_primary),
        [("ix_zpix_targetid", "ix_zpix_unique")],
        set(),
    ),
    "10 ztile with target and photometry": (
        lambda _: (
            select(Ztile.z, Target.desi_target, Photometry.flux_r)
            .join(Target, Target.id == Ztile.targetphotid)
            .join(Photometry, Photometry.targetid == Ztile.targetid)
            .where(Ztile.tileid == 7)
        ),
        ["ix_ztile_tileid", "target_pkey", "photometry_pkey"],
        set(),
    ),
    "11 exposures a night": (
        lambda _: select(Exposure.night, func.count()).group_by(Exposure.night),
        [],
        set(),
    ),
    "12 last exposure of each target of a tile": (
        lambda _: (
            select(Target.targetid, func.max(Exposure.expid))
            .join(
                Fiberassign,
                sa.and_(Fiberassign.targetid == Target.targetid, Fiberassign.tileid == Target.tileid),
            )
            .join(Exposure, Exposure.tileid == Fiberassign.tileid)
            .where(Target.tileid == 9)
            .group_by(Target.targetid)
        ),
        [
            ("ix_target_tileid", "ix_target_unique"),
            ("ix_fiberassign_tileid", "ix_fiberassign_unique", "ix_fiberassign_targetid"),
        ],
        set(),
    ),
    "13 a cone on photometry with redshifts": (
        lambda db: (
            select(Photometry.targetid, Zpix.z)
            .join(Zpix, Zpix.targetid == Photometry.targetid)
            .where(cone(db, Photometry))
        ),
        ["sky photometry", ("ix_zpix_targetid", "ix_zpix_unique")],
        set(),
    ),
    "13 a cone on fibers with redshifts of tiles": (
        lambda db: (
            select(Fiberassign.fiber, Ztile.z)
            .join(Ztile, sa.and_(Ztile.targetid == Fiberassign.targetid, Ztile.tileid == Fiberassign.tileid))
            .where(cone(db, Fiberassign))
        ),
        ["sky fiberassign", ("ix_ztile_targetid", "ix_ztile_unique", "ix_ztile_tileid")],
        set(),
    ),
    "13 a cone on the redshifts themselves": (
        lambda db: select(Zpix.targetid, Zpix.z).where(cone(db, Zpix)),
        ["sky zpix"],
        set(),
    ),
    "13 a cone on the redshifts of tiles themselves": (
        lambda db: select(Ztile.targetid, Ztile.z).where(cone(db, Ztile)),
        ["sky ztile"],
        set(),
    ),
    "14 a tenth of the primaries of main": (
        lambda _: select(Zpix.targetid, Zpix.z).where(Zpix.main_primary, Zpix.targetid % 10 == 0),
        [],
        {"zpix"},
    ),
    "15 quasars of a range of redshifts": (
        lambda _: select(Zpix.targetid, Zpix.z).where(
            Zpix.zcat_primary,
            Zpix.spectype == "QSO",
            Zpix.zwarn == 0,
            Zpix.program == "dark",
            Zpix.z > 0.3,
            Zpix.z < 0.31,
        ),
        ["ix_zpix_z"],
        set(),
    ),
    "16 galaxies of one's own": (
        lambda db: (
            select(mine := own_table(db), Zpix.z)
            .join(Fiberassign, Fiberassign.targetid == mine.c.targetid)
            .join(Zpix, Zpix.targetid == Fiberassign.targetid)
            .where(ellipse(mine))
        ),
        ["ix_fiberassign_targetid", ("ix_zpix_targetid", "ix_zpix_unique")],
        set(),
    ),
    "17 targets whose bits differ between tiles": (
        lambda _: (
            select(Target.targetid).group_by(Target.targetid).having(func.count(Target.desi_target.distinct()) > 1)
        ),
        [],
        {"target"},
    ),
    "good and far": (
        lambda _: select(Zpix.targetid, Zpix.z).where(Zpix.zwarn == 0, Zpix.z > 4.5),
        ["ix_zpix_z"],
        set(),
    ),
    "a rare warning": (
        lambda _: select(Zpix.targetid, Zpix.z).where(Zpix.zwarn == 77),
        ["ix_zpix_zwarn"],
        set(),
    ),
    "a redshift by its key": (lambda _: select(Zpix.z).where(Zpix.id == _KEY), ["zpix_pkey"], set()),
    "targets by pixel": (
        lambda _: select(Zpix.z).where(Zpix.healpix.in_(range(100)), Zpix.survey == "main"),
        ["ix_zpix_healpix"],
        set(),
    ),
}
_KEY = zpixid(TARGET, "main", "dark")
LARGE = {"photometry", "target", "ztile", "zpix", "fiberassign"}


@pytest.mark.parametrize("name", QUERIES)
def test_plans(database: Database, name: str) -> None:
    make, needed, may_read = QUERIES[name]
    searched, read, rows = plan(database, make(database))
    assert rows or name == "a redshift by its key"
    assert (read & LARGE) <= may_read, (searched, read)
    for choice in needed:
        names = {choice} if isinstance(choice, str) else set(choice)
        names = {sky(item.split()[1], database) if item.startswith("sky ") else item for item in names}
        assert names & searched, (searched, read)


def test_statistics_of_other_columns(database: Database) -> None:
    """What is not indexed is not sampled; targets that somebody set stay, and nothing else is left behind."""
    if database.kind == "sqlite":
        return
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE p.zpix ALTER COLUMN chi2 SET STATISTICS 7")
    build_indexes(database, Zpix)
    with database.connect() as connection:
        query = (
            "SELECT attname FROM pg_attribute WHERE attrelid = 'p.zpix'::regclass AND attnum > 0 "
            "AND coalesce(attstattarget, -1)"
        )
        assert connection.exec_driver_sql(f"{query} = 7").scalars().all() == ["chi2"]
        assert connection.exec_driver_sql(f"{query} NOT IN (7, -1)").scalars().all() == []
        query = "SELECT attname FROM pg_stats WHERE schemaname = 'p' AND tablename = 'zpix'"
        names = set(connection.exec_driver_sql(query).scalars())
    assert names >= {"z", "zwarn", "survey", "mean_fiber_ra"}
    assert not names & {"tsnr2_lrg", "coeff_0", "npixels"}


def test_enough_rows(database: Database) -> None:
    """A planner does not look at indexes of small tables."""
    with database.session() as session:
        for cls in (Target, Fiberassign, Ztile):
            assert session.scalar(select(func.count()).select_from(cls)) == TILES * FIBERS
