"""Loads of some tables of a production, with no other files on disk, and loads that add the rest."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import fitsio
import numpy as np
import psycopg
import pytest
import sqlalchemy as sa

from specprod import connect
from specprod.cli.main import main
from specprod.stages import TABLE_NAMES, with_needed
from support.digests import digests

REFERENCES = {
    "exposure_tileid_fkey", "frame_expid_fkey", "target_targetid_fkey", "target_tileid_fkey", "ztile_targetid_fkey",
    "ztile_targetphotid_fkey", "ztile_tileid_fkey", "zpix_targetid_fkey", "fiberassign_targetid_fkey",
    "fiberassign_tileid_fkey", "potential_targetid_fkey", "potential_tileid_fkey",
}  # fmt: skip


def run(root: Path, target: str, *more: str) -> int:
    return main(["run", str(root), "--specprod", "sample", "--database", target, "--quiet", *more])


def catalogue(root: Path) -> Path:
    return next(root.glob("spectro/redux/sample/zcatalog/**/zall-pix-sample.fits"))


@pytest.fixture
def lone(sample_root: Path, tmp_path: Path) -> Path:
    """A tree that has one file: the redshift catalogue."""
    file = catalogue(sample_root)
    root = tmp_path / "lone"
    place = root / file.relative_to(sample_root)
    place.parent.mkdir(parents=True)
    shutil.copy2(file, place)
    return root


def references(target: str, schema: str = "sample") -> set[str]:
    """Names of the references, in SQLite by table and column."""
    if target.startswith("postgresql"):
        with psycopg.connect(target) as connection:
            query = (
                "SELECT conname FROM pg_constraint WHERE contype = 'f' AND convalidated "
                "AND connamespace = %s::regnamespace AND strpos(conname, 'parent_id') = 0"
            )
            return {name for (name,) in connection.execute(query, [schema])}
    with sqlite3.connect(target) as connection:
        return {
            f"{table}_{row[3]}_fkey"
            for table in TABLE_NAMES
            for row in connection.execute(f"PRAGMA foreign_key_list({table})")
        }


def tables(target: str) -> set[str]:
    with connect(target, schema="sample") as database, database.connect() as connection:
        return set(sa.inspect(connection).get_table_names(schema=database.schema)) & set(TABLE_NAMES)


def test_one_file(lone: Path, sample_root: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lone, database_target, "--table", "zpix") == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == [
        "Not loaded: tile, exposure, frame, photometry, target, ztile, fiberassign, potential.",
        "References that are not made: zpix_targetid_fkey (to photometry).",
    ]
    rows = fitsio.read(catalogue(lone), "ZCATALOG")
    good = rows[rows["TARGETID"] >= 0]
    good = good[(good["TARGETID"] & (1 << 59)) == 0]
    assert tables(database_target) == {"zpix"}
    assert references(database_target) == set()
    with connect(database_target, schema="sample") as database, database.session() as session:
        zpix = database.classes.Zpix
        assert session.scalar(sa.select(sa.func.count()).select_from(zpix)) == good.size
        one = good[len(good) // 2]
        found = session.scalars(sa.select(zpix).where(zpix.targetid == int(one["TARGETID"]))).all()
        assert float(one["Z"]) in [item.z for item in found]
        ra, dec = float(one["MEAN_FIBER_RA"]), float(one["MEAN_FIBER_DEC"])
        near = sa.select(zpix.targetid).where(database.within(zpix, ra, dec, 1 / 3600))
        assert int(one["TARGETID"]) in session.scalars(near).all()
        assert session.scalar(sa.select(sa.func.count()).where(zpix.zwarn == 0)) == (good["ZWARN"] == 0).sum()
    words = ["--database", database_target, "--specprod", "sample", "--root", str(lone)]
    capsys.readouterr()
    assert main(["status", *words]) == 0
    out = capsys.readouterr().out
    for text in ("Not loaded: tile, exposure", "zpix_targetid_fkey (to photometry)", "no such directory, into target"):
        assert text in out
    assert main(["verify", str(lone), "--specprod", "sample", "--database", database_target]) == 0
    assert main(["index", "--database", database_target, "--schema", "sample"]) == 0
    assert main(["primary", "--database", database_target, "--schema", "sample", "--json"]) == 0
    assert run(lone, database_target, "--table", "zpix", "--reload") == 0
    # Without the option everything is asked for, and what is not there is an error.
    assert run(lone, database_target) == 1
    assert tables(database_target) >= {"zpix"}


def test_rows_can_be_changed(lone: Path, sqlite_file: Path) -> None:
    """In SQLite a reference to a table that is not there would refuse every row."""
    assert run(lone, str(sqlite_file), "--table", "zpix") == 0
    with sqlite3.connect(sqlite_file) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        row = connection.execute("SELECT * FROM zpix LIMIT 1").fetchone()
        names = [item[1] for item in connection.execute("PRAGMA table_info(zpix)")]
        values = dict(zip(names, row, strict=True)) | {"id": "9" * 38, "targetid": 12345}
        connection.execute(
            f"INSERT INTO zpix ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", list(values.values())
        )
        assert connection.execute("UPDATE zpix SET targetid = 12346 WHERE id = ?", ["9" * 38]).rowcount == 1


def test_the_rest_is_added(
    sample_root: Path, lone: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = str(tmp_path / "whole.db") if not database_target.startswith("postgresql") else database_target
    schema = "sample" if whole != database_target else "whole"
    words = ["run", str(sample_root), "--specprod", "sample", "--database", whole, "--schema", schema, "--quiet"]
    assert main(words) == 0
    assert references(whole, schema) == REFERENCES
    shutil.rmtree(lone)
    assert run(sample_root, database_target, "--table", "zpix", "--table", "fiberassign") == 0
    assert tables(database_target) == {"zpix", "fiberassign", "tile"}
    assert references(database_target) == {"fiberassign_tileid_fkey"}
    # A table to which one that is there refers.
    assert run(sample_root, database_target, "--table", "photometry", "--json") == 0
    said = json.loads(capsys.readouterr().out.split("\n{", 1)[-1].join(["{", ""]))
    assert said["not_loaded"] == ["exposure", "frame", "target", "ztile", "potential"]
    assert said["references_not_made"] == {}
    assert references(database_target) == {
        "fiberassign_tileid_fkey", "fiberassign_targetid_fkey", "zpix_targetid_fkey"
    }  # fmt: skip
    assert run(sample_root, database_target) == 0
    assert references(database_target) == REFERENCES
    assert digests(database_target) == digests(whole, schema)
    capsys.readouterr()
    assert main(["status", "--database", database_target, "--schema", "sample"]) == 0
    assert "ot loaded" not in capsys.readouterr().out
    assert main(["verify", str(sample_root), "--specprod", "sample", "--database", database_target]) == 0
    if not database_target.startswith("postgresql"):
        with sqlite3.connect(database_target) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            connection.execute("PRAGMA foreign_keys = ON")
            with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
                connection.execute("UPDATE zpix SET targetid = 1 WHERE id = (SELECT min(id) FROM zpix)")


def test_reference_that_fails(
    sample_root: Path, tmp_path: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of a part that refer to none are found when the table to which they refer comes."""
    root = tmp_path / "tree"
    shutil.copytree(sample_root, root)
    assert run(root, database_target, "--table", "zpix") == 0
    path = catalogue(root)
    targetid = np.int64(fitsio.read(path, "ZCATALOG", columns=["TARGETID"])["TARGETID"].max())
    with connect(database_target, schema="sample") as database, database.begin(check_references=False) as connection:
        statement = sa.update(sa.inspect(database.classes.Zpix).local_table)
        assert connection.execute(statement.where(sa.column("targetid") == int(targetid)).values(targetid=77)).rowcount
    assert run(root, database_target, "--table", "photometry") == 1
    assert "rows of zpix refer to a photometry.targetid that is not there, for example 77" in capsys.readouterr().err
    assert references(database_target) == set()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "zpx"], "did you mean zpix"),
        (["--table", "zpix", "--stage", "target"], "no stage of target fills zpix"),
        (["--table", "zpix", "--overwrite", "--yes"], "--overwrite drops all tables"),
    ],
)
def test_refused(
    lone: Path, sqlite_file: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lone, str(sqlite_file), *words) == 2
    assert message in capsys.readouterr().err
    assert not sqlite_file.exists()


def test_what_is_needed() -> None:
    assert with_needed(["potential"]) == ("tile", "potential")
    assert with_needed(["zpix", "photometry"]) == ("photometry", "zpix")
    assert with_needed([]) == ()
    assert with_needed(TABLE_NAMES) == TABLE_NAMES
