"""Loads of tiles: what comes out, in any order, again, with changes, and after faults at every step."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import psycopg
import pytest

from specprod.cli.main import main
from specprod.sample import write_sample
from support.tiles import TABLES, TILES, connect, content, empty_again, execute, load, named, opened, rows


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiles") / "tree"
    write_sample(root, tiles=4, targets_per_tile=60, potentials_per_tile=150, seed=2, tile_inputs=True, compact=True)
    found = {int(path.name) for path in (root / "spectro/redux/sample/tiles/cumulative").iterdir()}
    assert found == set(TILES)
    return root


@pytest.fixture
def changeable(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "tree"))


@pytest.fixture(scope="module")
def reference(tree: Path, tmp_path_factory: pytest.TempPathFactory, server: Any) -> dict[str, Any]:
    """Content after a load of all tiles at once, by kind of database."""
    targets = {
        "postgresql": server.create_database("tiles_at_once"),
        "sqlite": str(tmp_path_factory.mktemp("at_once") / "specprod.db"),
    }
    for target in targets.values():
        assert load(tree, target, *TILES) == 0
    return {kind: content(target) for kind, target in targets.items()}


def kind(target: str) -> str:
    return "postgresql" if target.startswith("postgresql") else "sqlite"


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def spectra_file(root: Path, tileid: int, petal: int = 0) -> Path:
    files = sorted((root / f"spectro/redux/sample/tiles/cumulative/{tileid}").rglob(f"*-{petal}-{tileid}-thru*.fits"))
    return files[0]


def exposures(root: Path, tileid: int) -> np.ndarray:
    table = fitsio.read(str(root / "spectro/redux/sample/exposures-sample.fits"), ext="EXPOSURES")
    return table[table["TILEID"] == tileid]


# ---- what comes out


@pytest.mark.parametrize("source", ["production", "catalogues"])
def test_equals_the_load_of_the_production(tree: Path, tmp_path: Path, source: str) -> None:
    """Rows of a load by tiles are those of a load by stages, but for NaN in proper motions and the primary columns."""
    whole, tiled = str(tmp_path / "whole.db"), str(tmp_path / "tiled.db")
    assert main(["run", str(tree), "--specprod", "sample", "--database", whole, "-q"]) == 0
    assert load(tree, tiled, *TILES, "--source", source) == 0
    with opened(tiled) as connection:
        connection.execute(f"ATTACH '{whole}' AS whole")
        for table in TABLES:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            names = [name for name in names if not name.endswith(("_nspec", "_primary"))]
            as_tile = ", ".join(
                f"CASE {name} WHEN -9999.0 THEN 0.0 ELSE {name} END" if name in ("pmra", "pmdec") else name
                for name in names
            )
            extra = connection.execute(
                f"SELECT count(*) FROM (SELECT {', '.join(names)} FROM main.{table} "
                f"EXCEPT SELECT {as_tile} FROM whole.{table})"
            ).fetchone()[0]
            assert extra == 0, table
            count = connection.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0]
            # Of a tile load only: exposures that count.
            valid = f"(SELECT expid FROM whole.exposure WHERE efftime_spec > 0 AND tileid IN {TILES})"
            place = {
                "photometry": f"targetid IN (SELECT targetid FROM whole.target WHERE tileid IN {TILES})",
                "exposure": f"expid IN {valid}",
                "frame": f"expid IN {valid}",
            }
            there = place.get(table, f"tileid IN {TILES}")
            assert count == connection.execute(f"SELECT count(*) FROM whole.{table} WHERE {there}").fetchone()[0] > 0


def test_two_kinds_of_source_give_the_same(tree: Path, database_target: str, reference: dict[str, Any]) -> None:
    assert load(tree, database_target, *TILES, "--source", "catalogues") == 0
    assert content(database_target) == reference[kind(database_target)]


def test_shared_targets_have_a_row_for_each_tile(tree: Path, database_target: str) -> None:
    assert load(tree, database_target, *TILES) == 0
    with opened(database_target) as connection:
        shared = connection.execute(
            "SELECT count(*) FROM (SELECT targetid FROM target GROUP BY targetid HAVING count(*) > 1) AS s"
        ).fetchone()[0]
        photometry = connection.execute("SELECT count(*), count(DISTINCT targetid) FROM photometry").fetchone()
        targets = connection.execute("SELECT count(DISTINCT targetid) FROM target").fetchone()[0]
    assert shared > 20
    assert photometry[0] == photometry[1] == targets


def test_redshifts_against_the_catalogue(tree: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "specprod.db")
    assert load(tree, target, *TILES) == 0
    catalogue = fitsio.read(str(next(tree.rglob("zall-tilecumulative-sample.fits"))), ext="ZCATALOG")
    catalogue = catalogue[(catalogue["TARGETID"] > 0) & (catalogue["TARGETID"] & 1 << 59 == 0)]
    catalogue = catalogue[np.lexsort((catalogue["TARGETID"], catalogue["TILEID"]))]
    names = ("targetid", "tileid", "spgrpval", "firstnight", "lastnight", "min_mjd", "max_mjd", "zwarn", "z", "coeff_9")
    with opened(target) as connection:
        found = np.array(
            connection.execute(f"SELECT {', '.join(names)} FROM ztile ORDER BY tileid, targetid").fetchall(),
            dtype=object,
        )
    assert len(found) == catalogue.size
    for i, name in enumerate(names[:-1]):
        wanted = {"spgrpval": "LASTNIGHT"}.get(name, name.upper())
        assert found[:, i].astype(catalogue[wanted].dtype).tolist() == catalogue[wanted].tolist(), name
    assert found[:, -1].astype(float).tolist() == catalogue["COEFF"][:, 9].astype(float).tolist()


# ---- loaded again


def test_updated_spectra_and_removed_petals(
    changeable: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load(changeable, database_target, *TILES, "--primary") == 0
    before = content(database_target)
    capsys.readouterr()
    changed = spectra_file(changeable, 1200, 3)
    with fitsio.FITS(str(changed), "rw") as file:
        table = file["REDSHIFTS"].read()
        mine = np.flatnonzero((table["TARGETID"] > 0) & (table["TARGETID"] & 1 << 59 == 0))
        table["Z"][mine[:2]] += 0.25
        file["REDSHIFTS"].write(table)
    gone = spectra_file(changeable, 1200, 7)
    lost = fitsio.read(str(gone), ext="REDSHIFTS")["TARGETID"]
    lost = set(lost[(lost > 0) & (lost & 1 << 59 == 0)].tolist())
    gone.unlink()
    assert load(changeable, database_target, 1200, "--update") == 0
    counts = summary(capsys)["tables"]
    spectra = sum(str(row[0]) == "1200" for row in rows(database_target, "ztile", "tileid"))
    assert counts["ztile"] == {"inserted": 0, "updated": 2, "removed": len(lost), "unchanged": spectra - 2}
    assert set(counts) == {"tile", "exposure", "frame", "ztile"}
    after = content(database_target)
    for table in TABLES:
        assert (after[table] == before[table]) == (table != "ztile"), table
    with opened(database_target) as connection:
        new = dict(connection.execute("SELECT targetid, z FROM ztile WHERE tileid = 1200").fetchall())
        kept = connection.execute("SELECT count(*) FROM ztile WHERE zcat_primary AND tileid = 1200").fetchone()[0]
    assert new.keys().isdisjoint(lost)
    assert [new[t] for t in table_ids(changed, mine[:2])] == pytest.approx(z_of(changed, mine[:2]))
    # The primary columns wait for their own command.
    assert kept > 0


def table_ids(path: Path, index: np.ndarray) -> list[int]:
    return fitsio.read(str(path), ext="REDSHIFTS")["TARGETID"][index].tolist()


def z_of(path: Path, index: np.ndarray) -> list[float]:
    return fitsio.read(str(path), ext="REDSHIFTS")["Z"][index].tolist()


def test_a_night_more(changeable: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A tile that gains a night has its spectra under the new night, and not under the old one too."""
    assert load(changeable, database_target, *TILES) == 0
    before = content(database_target)
    capsys.readouterr()
    tiles_file = changeable / "spectro/redux/sample/tiles-sample.fits"
    with fitsio.FITS(str(tiles_file), "rw") as file:
        table = file[1].read()
        row = int(np.flatnonzero(table["TILEID"] == 1203)[0])
        old = int(table["LASTNIGHT"][row])
        new = old + 1
        table["LASTNIGHT"][row] = new
        file[1].write(table)
    folder = changeable / "spectro/redux/sample/tiles/cumulative/1203"
    (folder / str(new)).mkdir()
    for path in sorted((folder / str(old)).iterdir()):
        copy = folder / str(new) / path.name.replace(str(old), str(new))
        shutil.copy(path, copy)
        with fitsio.FITS(str(copy), "rw") as file:
            exposed = file["EXP_FIBERMAP"].read()
            exposed["NIGHT"][: exposed.size // 2] = new
            file["EXP_FIBERMAP"].write(exposed)
    assert load(changeable, database_target, "--changed", "--update") == 0
    report = summary(capsys)
    assert [item["tileid"] for item in report["tiles"]] == [1203]
    assert report["tiles"][0]["state"] == "updated"
    assert report["tables"]["tile"]["updated"] == 1
    spectra = sum(row[0] == 1203 for row in rows(database_target, "ztile", "tileid"))
    assert report["tables"]["ztile"]["inserted"] == report["tables"]["ztile"]["removed"] == spectra > 0
    assert {row[1] for row in rows(database_target, "ztile", "tileid, spgrpval") if row[0] == 1203} == {new}
    after = content(database_target)
    assert {table for table in TABLES if after[table] != before[table]} == {"tile", "ztile"}
    assert load(changeable, database_target, "--changed") == 0
    assert summary(capsys)["tiles"] == []


def redesign(root: Path) -> tuple[set[int], set[int]]:
    """Take targets out of tile 1200 that its file had: some that no other tile has, some shared; return both sets."""
    path = next(root.rglob("fiberassign-001200.fits*"))
    others = [path_of for path_of in root.rglob("fiberassign-*") if path_of != path]
    elsewhere = {int(t) for other in others for t in fitsio.read(str(other), ext="TARGETS")["TARGETID"]}
    plain = path.with_name("fiberassign-001200.fits")
    header = fitsio.read_header(str(path), ext=0)
    tables = {hdu: fitsio.read(str(path), ext=hdu) for hdu in ("FIBERASSIGN", "TARGETS", "POTENTIAL_ASSIGNMENTS")}
    ids = tables["TARGETS"]["TARGETID"]
    ids = sorted(int(t) for t in ids[(ids > 0) & (ids & 1 << 59 == 0)])
    alone, shared = [t for t in ids if t not in elsewhere][:5], [t for t in ids if t in elsewhere][:7]
    assert len(alone) == 5
    assert len(shared) == 7
    gone = np.array(alone + shared)
    path.unlink()
    with fitsio.FITS(str(plain), "rw", clobber=True) as file:
        file.write(None, header=header)
        for hdu, table in tables.items():
            file.write(table[~np.isin(table["TARGETID"], gone)], extname=hdu)
    for petal in sorted((root / "spectro/redux/sample/tiles/cumulative/1200").rglob("*.fits")):
        tables = {hdu: fitsio.read(str(petal), ext=hdu) for hdu in (1, "FIBERMAP", "EXP_FIBERMAP", "TSNR2")}
        names = {1: "REDSHIFTS"}
        with fitsio.FITS(str(petal), "rw", clobber=True) as file:
            file.write(None)
            for hdu, table in tables.items():
                keep = table[~np.isin(table["TARGETID"], gone)]
                if keep.size == 0 and hdu == 1:
                    break
                file.write(keep, extname=names.get(hdu, hdu))
        if not len(fitsio.read_header(str(petal))) or tables[1][~np.isin(tables[1]["TARGETID"], gone)].size == 0:
            petal.unlink()
    return set(alone), set(shared)


def test_redesigned_tile(
    tree: Path, changeable: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, shared = redesign(changeable)
    # The reverse: the database has the smaller design, and the files the whole one.
    assert load(named(tmp_path, changeable), database_target, *TILES) == 0
    fresh = content(database_target)
    capsys.readouterr()
    assert load(named(tmp_path, tree), database_target, 1200, "--update") == 0
    report = summary(capsys)
    assert report["tiles"][0]["state"] == "redesigned"
    assert report["tables"]["target"]["inserted"] == len(alone | shared)
    assert report["tables"]["photometry"]["inserted"] == len(alone)
    capsys.readouterr()
    assert load(named(tmp_path, changeable), database_target, 1200) == 0
    report = summary(capsys)
    assert report["tiles"][0]["state"] == "redesigned"
    assert report["tables"]["target"]["removed"] == len(alone | shared)
    assert report["tables"]["photometry"]["removed"] == len(alone)
    assert content(database_target) == fresh


def test_redesign_is_said(
    tree: Path, changeable: Path, sqlite_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    redesign(changeable)
    words = ["--specprod", "sample", "--database", str(sqlite_file)]
    assert main(["tile", str(named(tmp_path, tree)), "1200", *words]) == 0
    caplog.clear()
    assert main(["tile", str(named(tmp_path, changeable)), "1200", *words]) == 0
    assert "tile 1200: was designed anew since it was loaded" in caplog.text


# ---- faults


@pytest.fixture(scope="module")
def with_overlap(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tree with tile 1200 designed anew: loaded again, it writes and removes everywhere."""
    root = Path(shutil.copytree(tree, tmp_path_factory.mktemp("overlap") / "tree"))
    redesign(root)
    with fitsio.FITS(str(root / "spectro/redux/sample/exposures-sample.fits"), "rw") as file:
        for hdu in ("EXPOSURES", "FRAMES"):
            table = file[hdu].read()
            table["EXPTIME"][table["TILEID"] == 1200] += 1
            file[hdu].write(table)
    return root


#: What a load of tile 1200 does: into a database with the other tiles, and again with the design of `with_overlap`.
STEPS = {
    "new": [(table, "INSERT") for table in TABLES],
    "again": [
        *((table, "UPDATE") for table in ("exposure", "frame")),
        *((table, "DELETE") for table in ("ztile", "potential", "fiberassign", "target", "photometry")),
    ],
}


def arm(target: str, table: str, event: str) -> None:
    if kind(target) == "postgresql":
        execute(
            target,
            "CREATE OR REPLACE FUNCTION sample.fail() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'injected fault'; END $$",
            f"CREATE TRIGGER fault AFTER {event} ON sample.{table} FOR EACH ROW EXECUTE FUNCTION sample.fail()",
        )
    else:
        execute(
            target,
            f"CREATE TRIGGER fault AFTER {event} ON {table} BEGIN SELECT RAISE(ABORT, 'injected fault'); END",
        )


def disarm(target: str, table: str) -> None:
    on = f" ON sample.{table}" if kind(target) == "postgresql" else ""
    execute(target, f"DROP TRIGGER fault{on}")


def test_a_fault_at_any_step_leaves_the_database_as_before(
    tree: Path, with_overlap: Path, database_target: str, tmp_path: Path
) -> None:
    from specprod.configuration import load_configuration
    from specprod.database.failures import Retries
    from specprod.errors import DatabaseError
    from specprod.files.tree import ProductionTree
    from specprod.tile import load_tiles

    production = load_configuration(environ={}).production("sample")
    assert load(named(tmp_path, with_overlap), database_target, 1203, 602, 21001) == 0
    with connect(database_target) as database:
        for state, root in (("new", tree), ("again", with_overlap)):
            before = content(database_target)
            for table, event in STEPS[state]:
                arm(database_target, table, event)
                try:
                    failed = [
                        item.error
                        for item in load_tiles(
                            database, ProductionTree(root, production), [1200], retries=Retries(attempts=1)
                        )
                    ]
                except DatabaseError as error:
                    failed = [error]
                disarm(database_target, table)
                assert "injected fault" in str(failed[0]), (state, table, event)
                assert content(database_target) == before, (state, table, event)
            assert load(named(tmp_path, root), database_target, 1200) == 0
            assert content(database_target) != before


def test_killed_backend(tree: Path, postgres_url: str, reference: dict[str, Any]) -> None:
    """The server ends the connection while a tile is written: the tile is written again, in whole."""
    assert load(tree, postgres_url, 602, 1203) == 0
    before = content(postgres_url)
    execute(
        postgres_url,
        # Each statement on this table waits, so that the connection can be ended in the middle of the tile.
        "CREATE FUNCTION sample.slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(1.0); RETURN NULL; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON sample.ztile FOR EACH STATEMENT EXECUTE FUNCTION sample.slow()",
    )
    ended: list[int] = []
    seen: list[bool] = []

    def end() -> None:
        with psycopg.connect(postgres_url, options="-c search_path=sample", autocommit=True) as connection:
            deadline = time.monotonic() + 30
            while not ended and time.monotonic() < deadline:
                found = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'specprod' "
                    "AND datname = current_database() AND wait_event = 'PgSleep'"
                ).fetchall()
                for (pid,) in found:
                    connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
                    ended.append(pid)
                time.sleep(0.02)
            time.sleep(0.1)
            count = connection.execute("SELECT count(*) FROM target WHERE tileid = 1200").fetchone()
            seen.append(count[0] == 0)

    thread = threading.Thread(target=end)
    thread.start()
    try:
        assert load(tree, postgres_url, 1200, 21001) == 0
    finally:
        thread.join()
    assert ended
    assert seen == [True]
    assert before != content(postgres_url)
    assert content(postgres_url) == reference["postgresql"]


def test_one_bad_tile_does_not_keep_out_the_others(
    changeable: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = spectra_file(changeable, 1203, 2)
    bad.write_bytes(bad.read_bytes()[:6000])
    assert load(changeable, database_target, *TILES) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert {item["tileid"]: item["state"] for item in report["tiles"]} == {
        1200: "loaded", 1203: "failed", 21001: "loaded", 602: "loaded",
    }  # fmt: skip
    (line,) = [line for line in printed.err.splitlines() if line]
    assert line.startswith("specprod-load: tile 1203: ")
    assert bad.name in line
    assert {row[0] for row in rows(database_target, "tile", "tileid")} == {1200, 21001, 602}


def test_workers_side_by_side(tree: Path, postgres_url: str, reference: dict[str, Any]) -> None:
    for _ in range(2):
        assert load(tree, postgres_url, *TILES, "--workers", 4) == 0
        assert content(postgres_url) == reference["postgresql"]
        empty_again(postgres_url)


def test_a_record_commits_with_its_tile(tree: Path, database_target: str) -> None:
    """What the caller records of a tile is in its transaction: it is there with the tile, and not without it."""
    from specprod.configuration import load_configuration
    from specprod.database.failures import Retries
    from specprod.errors import DatabaseError
    from specprod.files.tree import ProductionTree
    from specprod.tile import load_tiles

    production = ProductionTree(tree, load_configuration(environ={}).production("sample"))
    assert load(tree, database_target, 602) == 0
    schema = "sample." if kind(database_target) == "postgresql" else ""
    execute(database_target, f"CREATE TABLE {schema}journal (tileid integer, potential integer, files integer)")
    calls = []

    def record(connection: Any, rows: Any, counts: Any) -> None:
        calls.append(rows.tileid)
        values = f"{rows.tileid}, {counts['potential'].inserted}, {len(rows.files)}"
        connection.exec_driver_sql(f"INSERT INTO {schema}journal VALUES ({values})")
        if rows.tileid == 21001:
            connection.exec_driver_sql("SELECT * FROM there_is_no_such_table")

    with connect(database_target) as database, pytest.raises(DatabaseError, match="there_is_no_such_table"):
        list(load_tiles(database, production, (1200, 1203, 21001), retries=Retries(attempts=1), record=record))
    assert calls == [1200, 1203, 21001]
    with opened(database_target) as connection:
        journal = connection.execute(f"SELECT * FROM {schema}journal ORDER BY tileid").fetchall()
        potential = dict(connection.execute("SELECT tileid, count(*) FROM potential GROUP BY tileid").fetchall())
    assert [row[0] for row in journal] == [1200, 1203]
    assert {row[0]: row[1] for row in journal} == {tileid: potential[tileid] for tileid in (1200, 1203)}
    assert 21001 not in potential
    petals = len(list((tree / "spectro/redux/sample/tiles/cumulative/1200").rglob("*.fits")))
    assert journal[0][2] == petals + 1
